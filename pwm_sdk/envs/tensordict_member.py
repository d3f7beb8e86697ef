"""A TorchRL environment as a member of a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from pwm_sdk.envs.member import GymMember, Member, PoolStep
from pwm_sdk.envs.torchrl_env import TorchRLTaskEnv
from pwm_sdk.keys import ACTION, NEXT, OBSERVATION, REWARD, SUCCESS, TERMINATED, TRUNCATED

__all__ = ["TensorDictMember", "tensordict_member"]


class TensorDictMember:
    """A TorchRL environment of any kind, stepped as it is.

    Args:
        env: The environment.

    Raises:
        ValueError: For a batched one.
    """

    def __init__(self, env: EnvBase) -> None:
        if env.batch_size:
            raise ValueError(f"env must have no batch dimensions, got {tuple(env.batch_size)}")
        self.env = env
        self._state: TensorDictBase | None = None

    def reset(self, seed: int | None) -> np.ndarray:
        """Start an episode; returns the observation [O] float32."""
        if seed is not None:
            self.env.set_seed(seed)
        self._state = self.env.reset()
        return _observation(self._state)

    def step(self, action: np.ndarray) -> PoolStep:
        """Take `action` [A].

        Raises:
            RuntimeError: Outside an episode.
        """
        if self._state is None:
            raise RuntimeError("step must follow reset, got a step outside an episode")
        dtype = self.env.action_spec.dtype
        self._state[ACTION] = torch.as_tensor(action, dtype=dtype, device=self.env.device)
        transition = self.env.step(self._state)
        self._state = self.env.step_mdp(transition)
        following = transition[NEXT]
        flags = (bool(following.get(key, False)) for key in (SUCCESS, TERMINATED, TRUNCATED))
        return PoolStep(_observation(following), float(following[REWARD]), *flags)


def tensordict_member(env: Any) -> Member:
    """Return a TorchRL environment as a member; of `make_env`, the gymnasium one underneath.

    Raises:
        TypeError: For an environment of another kind.
    """
    if isinstance(env, TorchRLTaskEnv):
        return GymMember(env.gym_env)
    if isinstance(env, EnvBase):
        return TensorDictMember(env)
    raise TypeError(f"env must be a gymnasium.Env or a TorchRL EnvBase, got {type(env).__name__}")


def _observation(tensordict: TensorDictBase) -> np.ndarray:
    return np.asarray(tensordict.get(OBSERVATION).float().cpu())
