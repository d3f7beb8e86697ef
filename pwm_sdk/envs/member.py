"""One environment as numpy arrays, without torch where the environment needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from pwm_sdk.keys import SUCCESS

__all__ = ["About", "GymMember", "Member", "PoolStep", "about", "is_maker", "member_of"]


class PoolStep(NamedTuple):
    """What one step of one environment led to; `observation` is [O] float32."""

    observation: np.ndarray
    reward: float
    success: bool
    terminated: bool
    truncated: bool


class About(NamedTuple):
    """What is known of an environment: its task's index and its size of actions, or None."""

    task: int | None
    action_dim: int | None


class Member(Protocol):
    """An environment of a pool."""

    env: Any

    def reset(self, seed: int | None) -> np.ndarray:
        """Start an episode; returns the observation [O] float32."""
        ...

    def step(self, action: np.ndarray) -> PoolStep:
        """Take `action` [A]."""
        ...


class GymMember:
    """A gymnasium environment.

    Args:
        env: The environment.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env

    def reset(self, seed: int | None) -> np.ndarray:
        """Start an episode; returns the observation [O] float32."""
        observation, _ = self.env.reset(seed=seed)
        return np.asarray(observation, np.float32)

    def step(self, action: np.ndarray) -> PoolStep:
        """Take `action` [A]."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = bool(np.any(info.get(SUCCESS, False)))
        observation = np.asarray(observation, np.float32)
        return PoolStep(observation, float(reward), success, bool(terminated), bool(truncated))


def member_of(env: Any) -> Member:
    """Return an environment, or what a function without arguments makes, as a member of a pool.

    Raises:
        ValueError: For a batched environment.
        TypeError: For an environment of another kind.
    """
    if isinstance(env, gymnasium.Env):
        return GymMember(env)
    if is_maker(env):
        return member_of(env())
    from pwm_sdk.envs.tensordict_member import tensordict_member  # keeps torch out of workers

    return tensordict_member(env)


def about(env: Any) -> About:
    """Return what is known of a gymnasium or TorchRL environment."""
    space = getattr(env, "action_space", None) or getattr(env, "action_spec", None)
    shape, index = getattr(space, "shape", None), getattr(getattr(env, "task", None), "index", None)
    return About(index, shape[-1] if shape else None)


def is_maker(env: Any) -> bool:
    """Tell a function that makes an environment from an environment; modules are callable too."""
    return isinstance(env, Callable) and not hasattr(env, "step")
