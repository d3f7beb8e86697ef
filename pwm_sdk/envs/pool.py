"""Steps several single environments in lockstep as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from pwm_sdk.envs.torchrl_env import TorchRLTaskEnv
from pwm_sdk.keys import ACTION, NEXT, OBSERVATION, REWARD, SUCCESS, TERMINATED, TRUNCATED

__all__ = ["EnvPool", "PoolStep"]


class PoolStep(NamedTuple):
    """What one step of one environment led to; `observation` is [O] float32."""

    observation: np.ndarray
    reward: float
    success: bool
    terminated: bool
    truncated: bool


class EnvPool:
    """Single environments of any kind behind one numpy interface.

    Environments of `make_env` are stepped through the gymnasium environment underneath, which
    spares a TensorDict per step; any other TorchRL environment is stepped as it is.

    Args:
        envs: gymnasium or unbatched TorchRL environments.

    Raises:
        ValueError: For no environments, or a batched one.
        TypeError: For an environment of another kind.
    """

    def __init__(self, envs: Sequence[gymnasium.Env | EnvBase]) -> None:
        if not envs:
            raise ValueError("envs must hold at least one environment, got none")
        self._members = [_member(env) for env in envs]

    def __len__(self) -> int:
        return len(self._members)

    def reset(self, index: int, *, seed: int | None = None) -> np.ndarray:
        """Start an episode in environment `index`; returns the observation [O] float32."""
        return self._members[index].reset(seed)

    def step(self, index: int, action: np.ndarray) -> PoolStep:
        """Take `action` [A] in environment `index`."""
        return self._members[index].step(action)

    def close(self) -> None:
        """Close every environment."""
        for member in self._members:
            member.env.close()


class _GymMember:
    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env

    def reset(self, seed: int | None) -> np.ndarray:
        observation, _ = self.env.reset(seed=seed)
        return np.asarray(observation, np.float32)

    def step(self, action: np.ndarray) -> PoolStep:
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = bool(np.any(info.get(SUCCESS, False)))
        observation = np.asarray(observation, np.float32)
        return PoolStep(observation, float(reward), success, bool(terminated), bool(truncated))


class _TensorDictMember:
    def __init__(self, env: EnvBase) -> None:
        if env.batch_size:
            raise ValueError(f"env must have no batch dimensions, got {tuple(env.batch_size)}")
        self.env = env
        self._state: TensorDictBase | None = None

    def reset(self, seed: int | None) -> np.ndarray:
        if seed is not None:
            self.env.set_seed(seed)
        self._state = self.env.reset()
        return _observation(self._state)

    def step(self, action: np.ndarray) -> PoolStep:
        if self._state is None:
            raise RuntimeError("step must follow reset, got a step outside an episode")
        dtype = self.env.action_spec.dtype
        self._state[ACTION] = torch.as_tensor(action, dtype=dtype, device=self.env.device)
        transition = self.env.step(self._state)
        self._state = self.env.step_mdp(transition)
        following = transition[NEXT]
        flags = (bool(following.get(key, False)) for key in (SUCCESS, TERMINATED, TRUNCATED))
        return PoolStep(_observation(following), float(following[REWARD]), *flags)


def _member(env: gymnasium.Env | EnvBase) -> _GymMember | _TensorDictMember:
    if isinstance(env, TorchRLTaskEnv):
        return _GymMember(env.gym_env)
    if isinstance(env, EnvBase):
        return _TensorDictMember(env)
    if isinstance(env, gymnasium.Env):
        return _GymMember(env)
    raise TypeError(f"env must be a gymnasium.Env or a TorchRL EnvBase, got {type(env).__name__}")


def _observation(tensordict: TensorDictBase) -> np.ndarray:
    return np.asarray(tensordict.get(OBSERVATION).float().cpu())
