"""A TorchRL environment as a member of a pool."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torchrl.envs import EnvBase

from pwm_sdk.envs.gate import Gate, GateError, action_box
from pwm_sdk.envs.layers import name_of
from pwm_sdk.envs.member import GymMember, Limits, Member
from pwm_sdk.envs.torchrl_env import TorchRLTaskEnv
from pwm_sdk.keys import (
    ACTION,
    DONE,
    NEXT,
    OBSERVATION,
    REWARD,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
)

__all__ = ["TensorDictMember", "action_space", "observation_size", "tensordict_member"]

_MAKERS = "; make_pool(env) steps all of its rows"
_NO = torch.zeros(1, dtype=torch.bool, device="cpu")


class TensorDictMember(Member):
    """A TorchRL environment of any kind, stepped as it is.

    Args:
        env: the environment.
        where: what messages call it.
        limits: of its episodes and steps.

    Raises:
        ValueError: if observations are no vectors, or actions have no bounds.
    """

    def __init__(self, env: EnvBase, where: str, limits: Limits) -> None:
        size, box = observation_size(env, where), action_space(env, where)
        super().__init__(env, Gate(size, box, where), limits)
        self._state: Any = None  # the TensorDict of the last step

    def _reset(self, seed: int | None) -> Any:
        if seed is not None:
            self.env.set_seed(seed)
        self._state = state = self.env.reset()
        return state.get(OBSERVATION, None), {}

    def _step(self, action: np.ndarray) -> Any:
        spec: Any = self.env.action_spec
        device = self.env.device or spec.device or "cpu"
        state: Any = self._state
        state[ACTION] = torch.as_tensor(action, device=device).to(spec.dtype)
        transition = self.env.step(state)
        self._state = self.env.step_mdp(transition)
        after = transition[NEXT]
        done, terminated, truncated = (after.get(k, _NO) for k in (DONE, TERMINATED, TRUNCATED))
        if done.any() and not (terminated.any() or truncated.any()):
            truncated = True  # an environment may report no more than done
        info = {SUCCESS: after.get(SUCCESS, None)}
        return after.get(OBSERVATION, None), after.get(REWARD, None), terminated, truncated, info


def tensordict_member(env: object, index: int, limits: Limits) -> Member:
    """Return a TorchRL environment as a member; of `make_env`, the gymnasium one underneath.

    Args:
        env: the environment.
        index: its place in the pool.
        limits: of its episodes and steps.

    Raises:
        ValueError: if the environment is batched.
        TypeError: if it is of another kind.
    """
    where = f"environment {index}"
    if isinstance(env, TorchRLTaskEnv):
        return GymMember(env.gym_env, f"{where} ({name_of(env)})", limits)
    if isinstance(env, EnvBase):
        if env.batch_size:
            shape = tuple(env.batch_size)
            raise ValueError(f"env must have no batch dimensions, got {shape} of {where}{_MAKERS}")
        return TensorDictMember(env, f"{where} ({name_of(env)})", limits)
    hint = _MAKERS if hasattr(env, "num_envs") else ""
    raise TypeError(
        f"{where} must be an unbatched gymnasium.Env or TorchRL EnvBase, "
        f"got {type(env).__name__}{hint}"
    )


def observation_size(env: EnvBase, where: str) -> int:
    """Return O of an environment, or of the rows of a batched one.

    Raises:
        ValueError: if observations are no vectors.
    """
    specs: Any = env.observation_spec_unbatched
    spec = specs.get(OBSERVATION, None)
    shape = None if spec is None else tuple(spec.shape)
    if shape is None or len(shape) != 1 or not shape[0]:
        got = f"{list(specs.keys(True, True))}" if shape is None else f"shape {shape}"
        raise GateError(
            f"observation_spec of {where} must have an {OBSERVATION!r} of shape (n,), got {got}; "
            "torchrl's CatTensors, FlattenObservation or RenameTransform brings it about"
        )
    return shape[0]


def action_space(env: EnvBase, where: str) -> gymnasium.spaces.Box:
    """Return the space of actions, of one row where batched, as a space of gymnasium.

    Raises:
        ValueError: if actions are no vectors of floats between finite bounds.
    """
    name = f"action_spec of {where}"
    if list(env.action_keys) != [ACTION]:
        raise GateError(f"{name} must have the only key {ACTION!r}, got {env.action_keys}")
    spec: Any = env.action_spec_unbatched
    low, high = (getattr(getattr(spec, "space", None), side, None) for side in ("low", "high"))
    if low is None or high is None:
        raise GateError(
            f"{name} must be Bounded, of shape (n,), got {type(spec).__name__} of shape "
            f"{tuple(spec.shape)}; a transform of the action can map a vector in [-1, 1] to it"
        )
    if low.is_meta:
        raise GateError(f"{name} must lie on a device that holds numbers, got {low.device}")
    bounds = [torch.as_tensor(side, device="cpu") for side in (low, high)]
    if spec.dtype.is_floating_point:
        kept = spec.dtype if spec.dtype in (torch.float16, torch.float64) else torch.float32
        edge = torch.finfo(spec.dtype).max
        bounds = [torch.where(b.abs() == edge, b.sign() * torch.inf, b).to(kept) for b in bounds]
    arrays = [bound.expand(spec.shape).numpy() for bound in bounds]
    try:
        space = gymnasium.spaces.Box(*arrays, dtype=arrays[0].dtype.type)  # pyright: ignore
    except ValueError as error:
        raise GateError(f"{name} must be bounded by numbers, low to high, got {error}") from error
    return action_box(name, space)
