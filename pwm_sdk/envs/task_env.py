"""The protocol of one agent step, put around any gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from pwm_sdk.checks import seed as checked_seed
from pwm_sdk.envs.gate import Gate, action_box, vector_size
from pwm_sdk.keys import SUCCESS
from pwm_sdk.tasks import Task

__all__ = ["PADDED", "TaskEnv"]

PADDED = ": padded=True of make_env and make_gym brings the sizes of a padded model about"


class TaskEnv(gymnasium.Wrapper):
    """A gymnasium environment that shows a task as agents, datasets and models see it.

    Actions lie in [-1, 1]: they are checked, clipped, cut to the task's size, scaled to the native
    bounds and held for `task.action_repeat` inner steps (fewer if the episode ends), of which the
    rewards are summed. Observations are float32, zero-padded at the end. Success is that of the
    last inner step. Episodes are truncated after `task.episode_length` agent steps.

    Args:
        env: the environment to wrap, with one-dimensional Box spaces. It may report
            `info["success"]`.
        task: the task that it shows.
        observation_dim: padded O; the task's own if not given.
        action_dim: padded A; the task's own if not given.
        seed: seed in [0, 2**32) for the first reset.

    Attributes:
        gate: what the wrapped environment takes and gives passes it.

    Raises:
        ValueError: if `env` is no gymnasium.Env or has other spaces than the task, padding is below
            the task's sizes, or the seed is out of range.
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
        if not isinstance(env, gymnasium.Env):
            raise ValueError(f"env must be a gymnasium.Env, got {type(env).__name__}")
        super().__init__(env)
        self.task = task
        size = vector_size("observation_space", env.observation_space, task.observation_dim)
        box = action_box("action_space", env.action_space, task.action_dim)
        self._observation_dim = _padded("observation_dim", observation_dim, task.observation_dim)
        width = _padded("action_dim", action_dim, task.action_dim)
        self.gate = Gate(size, box, width=width)
        self.gate.hint = PADDED
        made = gymnasium.spaces.Box
        self.observation_space = made(-np.inf, np.inf, (self._observation_dim,), np.float32)
        self.action_space = made(-1.0, 1.0, (width,), np.float32)
        self._steps_left = 0
        self.seed_next_reset(seed)

    def seed_next_reset(self, seed: int | None) -> None:
        """Let the next `reset()` start the random stream of `seed`, as `reset(seed=seed)` would."""
        self._next_seed = checked_seed(seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: restarts the random stream; without it, consecutive episodes continue the stream.
            options: handed to the wrapped environment.

        Returns:
            Observation `[O]` float32, and an info with `success` `[1]` bool.

        Raises:
            ValueError: if an observation has another shape than the task's.
        """
        seed = self._next_seed if seed is None else checked_seed(seed=seed)
        self.gate.at = None
        given = {} if options is None else {"options": options}  # some environments know none
        observation, info = self.gate.start(self.env.reset(seed=seed, **given))
        self._next_seed, self._steps_left = None, self.task.episode_length
        return self._widened(observation), {**info, SUCCESS: np.zeros(1, bool)}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one agent step.

        Args:
            action: `[A]`, clipped to [-1, 1].

        Returns:
            Observation `[O]` float32, summed reward, terminated, truncated, and an info with
            `success` `[1]` bool.

        Raises:
            ValueError: if the action has another shape or NaN or infinite entries, or the wrapped
                environment returns a misshapen observation or a reward that is not finite.
            RuntimeError: if the episode is over or none was started.
        """
        if self._steps_left == 0:
            raise RuntimeError("step must follow reset, got a step outside an episode")
        self.gate.at = self.task.episode_length - self._steps_left
        native, reward = self.gate.native(action), 0.0
        for _ in range(self.task.action_repeat):
            result = self.gate.step(self.env.step(native.copy()))  # it may write into it
            observation, inner_reward, terminated, truncated, info = result
            reward += inner_reward
            if terminated or truncated:
                break
        observation, reward = self.gate.observation(observation), self.gate.reward(reward)
        self._steps_left = 0 if terminated or truncated else self._steps_left - 1
        truncated = truncated or (self._steps_left == 0 and not terminated)
        info = {**info, SUCCESS: np.array([self.gate.success(info)])}
        return self._widened(observation), reward, terminated, truncated, info

    def _widened(self, observation: np.ndarray) -> np.ndarray:
        """Append the zeros of the padded size."""
        if len(observation) == self._observation_dim:
            return observation
        wide = np.zeros(self._observation_dim, np.float32)
        wide[: len(observation)] = observation
        return wide


def _padded(name: str, padded: int | None, size: int) -> int:
    if padded is not None and padded < size:
        raise ValueError(f"{name} must be at least {size}, got {padded}")
    return size if padded is None else padded
