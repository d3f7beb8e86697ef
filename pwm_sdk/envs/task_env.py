"""The protocol of one agent step, put around any gymnasium environment."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

from pwm_sdk.checks import seed as checked_seed
from pwm_sdk.checks import single
from pwm_sdk.keys import SUCCESS
from pwm_sdk.tasks import Task

__all__ = ["TaskEnv"]


class TaskEnv(gymnasium.Wrapper):
    """A gymnasium environment that shows a task as agents, datasets and models see it.

    Actions lie in [-1, 1]: they are checked, clipped, cut to the task's size, scaled to the native
    bounds and held for `task.action_repeat` inner steps (fewer if the episode ends), of which the
    rewards are summed. Observations are float32, zero-padded at the end. Success is that of the
    last inner step. Episodes are truncated after `task.episode_length` agent steps.

    Args:
        env: The environment to wrap, with one-dimensional Box spaces. It may report
            `info["success"]`.
        task: The task that it shows.
        observation_dim: Padded O; the task's own if not given.
        action_dim: Padded A; the task's own if not given.
        seed: Seed in [0, 2**32) for the first reset.

    Raises:
        ValueError: For spaces that are not the task's, padding below its sizes, or a bad seed.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        task: Task,
        *,
        observation_dim: int | None = None,
        action_dim: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(env)
        self.task = task
        _checked_box("observation_space", env.observation_space, task.observation_dim)
        self._native = _checked_box("action_space", env.action_space, task.action_dim)
        if not self._native.is_bounded():
            raise ValueError(f"action_space must be bounded, got {self._native}")
        self._unit = np.all(self._native.low == -1.0) and np.all(self._native.high == 1.0)
        self._observation_dim = _padded("observation_dim", observation_dim, task.observation_dim)
        self._action_dim = _padded("action_dim", action_dim, task.action_dim)
        box = gymnasium.spaces.Box
        self.observation_space = box(-np.inf, np.inf, (self._observation_dim,), np.float32)
        self.action_space = box(-1.0, 1.0, (self._action_dim,), np.float32)
        self._steps_left = 0
        self.seed_next_reset(seed)

    def seed_next_reset(self, seed: int | None) -> None:
        """Let the next `reset()` start the random stream of `seed`, as `reset(seed=seed)` would."""
        self._next_seed = _checked_seed(seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Restarts the random stream; without it, consecutive episodes continue the stream.
            options: Handed to the wrapped environment.

        Returns:
            Observation [O] float32, and an info with `success` [1] bool.

        Raises:
            ValueError: For an observation of another shape than the task's.
        """
        seed = self._next_seed if seed is None else _checked_seed(seed)
        observation, info = self.env.reset(seed=seed, options=options)
        self._next_seed, self._steps_left = None, self.task.episode_length
        return self._observe(observation), {**info, SUCCESS: np.zeros(1, bool)}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one agent step.

        Args:
            action: [A], clipped to [-1, 1].

        Returns:
            Observation [O] float32, summed reward, terminated, truncated, and an info with
            `success` [1] bool.

        Raises:
            ValueError: For an action of another shape or with NaN or infinite entries, or if the
                wrapped environment returns a misshapen observation or a reward that is not finite.
            RuntimeError: If the episode is over or none was started.
        """
        if self._steps_left == 0:
            raise RuntimeError("step must follow reset, got a step outside an episode")
        native, reward = self._to_native(action), 0.0
        for _ in range(self.task.action_repeat):
            observation, inner_reward, terminated, truncated, info = self.env.step(native)
            reward += float(inner_reward)
            if terminated or truncated:
                break
        if not math.isfinite(reward):
            raise ValueError(f"reward of the environment must be finite, got {reward}")
        self._steps_left = 0 if terminated or truncated else self._steps_left - 1
        truncated = bool(truncated) or (self._steps_left == 0 and not terminated)
        success = np.array([np.any(info.get(SUCCESS, False))], bool)
        info = {**info, SUCCESS: success}
        return self._observe(observation), reward, bool(terminated), truncated, info

    def _to_native(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action, dtype=np.float32)
        if action.shape != (self._action_dim,):
            raise ValueError(f"action must have shape ({self._action_dim},), got {action.shape}")
        if not np.isfinite(action).all():
            raise ValueError(f"action must be finite, got {action}")
        action = np.minimum(np.maximum(action[: self.task.action_dim], -1.0), 1.0)
        if not self._unit:
            low, high = self._native.low, self._native.high
            action = low + (action + 1.0) / 2.0 * (high - low)
        return action.astype(self._native.dtype)

    def _observe(self, observation: np.ndarray) -> np.ndarray:
        if np.shape(observation) != (self.task.observation_dim,):
            raise ValueError(
                "observation of the environment must have its space's shape "
                f"({self.task.observation_dim},), got {np.shape(observation)}"
            )
        padded = np.zeros(self._observation_dim, np.float32)
        padded[: self.task.observation_dim] = observation
        return padded


def _checked_box(name: str, space: gymnasium.Space, size: int) -> gymnasium.spaces.Box:
    if not isinstance(space, gymnasium.spaces.Box) or space.shape != (size,):
        raise ValueError(f"{name} must be a Box of shape ({size},), got {space}")
    return space


def _padded(name: str, padded: int | None, size: int) -> int:
    if padded is not None and padded < size:
        raise ValueError(f"{name} must be at least {size}, got {padded}")
    return size if padded is None else padded


def _checked_seed(seed: int | None) -> int | None:
    try:
        if seed is not None:
            single(seed=seed)
        return checked_seed(seed=seed)
    except ValueError as error:
        raise ValueError(f"seed must be in [0, 2**32), got {seed!r}") from error
