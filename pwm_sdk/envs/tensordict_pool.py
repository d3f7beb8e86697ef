"""A batched TorchRL environment as a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from tensordict import TensorDict
from torchrl.envs import EnvBase, GymWrapper, TransformedEnv

from pwm_sdk.envs.batched import LockstepPool, Stepped
from pwm_sdk.envs.gate import Gate, GateError
from pwm_sdk.envs.member import Limits, turn_of
from pwm_sdk.envs.tensordict_member import action_space, observation_size
from pwm_sdk.keys import ACTION, DONE, NEXT, OBSERVATION, REWARD, SUCCESS, TERMINATED, TRUNCATED

__all__ = ["TensorDictPool"]

_RESET = "_reset"  # TorchRL's mask of rows that start an episode


class TensorDictPool(LockstepPool):
    """A TorchRL environment of batch size `[N]`, whose rows start episodes by its `"_reset"` mask.

    TorchRL seeds a batch as a whole: seeds are taken for all rows at once, and a row's episodes
    depend on all of them.

    Args:
        env: the environment.
        limits: of episodes and steps.

    Raises:
        ValueError: if the batch size is not `[N]`, observations or actions do not fit, or the
            environment wraps a vector environment of gymnasium, which resets its rows itself.
    """

    def __init__(self, env: EnvBase, limits: Limits) -> None:
        if len(env.batch_size) != 1 or not env.batch_size[0]:
            raise GateError(f"env must have batch size [N], got {list(env.batch_size)}")
        base: Any = env
        while isinstance(base, TransformedEnv):
            base = base.base_env
        if isinstance(base, GymWrapper) and isinstance(base._env, VectorEnv):
            raise GateError(
                f"env must be one whose rows can be reset alone, got {type(base).__name__} of a "
                "gymnasium.vector.VectorEnv, which make_pool takes as it is"
            )
        self.env, count, name = env, env.batch_size[0], type(base).__name__
        size, box = observation_size(env, "env"), action_space(env, "env")
        gates = [Gate(size, box, f"environment {i} ({name})") for i in range(count)]
        super().__init__(gates, [None] * count, limits, turn_of(base))
        self._state: Any = None  # the TensorDict of the last step

    def close(self) -> None:
        """Close the environment, if it is not closed yet."""
        if not self.env.is_closed:
            self.env.close()

    def _reset_rows(self, rows: list[int], seeds: list[int | None]) -> Any:
        given = [seed for seed in seeds if seed is not None]
        if given and len(given) < len(self):
            raise GateError(
                f"seeds must be given for all {len(self)} rows of a TorchRL environment at once, "
                f"got {len(given)}"
            )
        if given:
            order = [seed for _, seed in sorted(zip(rows, given, strict=True))]
            self.env.set_seed(int(np.random.SeedSequence(order).generate_state(1)[0]))
        if len(rows) == len(self) or not self._begun:
            self._state = self.env.reset()
            self._over[:] = False
        else:
            mask = torch.zeros(len(self), 1, dtype=torch.bool, device=self.env.device or "cpu")
            mask[rows] = True
            state = self._state.set(_RESET, mask)
            self._state = self.env.reset(state, select_reset_only=True)
            self._state.pop(_RESET, None)
        return _array(self._state.get(OBSERVATION))[rows]

    def _step_all(self, native: np.ndarray) -> Stepped:
        spec: Any = self.env.action_spec
        device = self.env.device or spec.device or "cpu"
        self._state[ACTION] = torch.as_tensor(native, device=device).to(spec.dtype)
        transition = self.env.step(self._state)
        self._state = self.env.step_mdp(transition)
        after = transition[NEXT]
        done, terminated, truncated, success = (
            self._mask(after, key) for key in (DONE, TERMINATED, TRUNCATED, SUCCESS)
        )
        truncated |= done & ~terminated  # an environment may report no more than done
        self._over = done | terminated | truncated
        reward = _array(after.get(REWARD))
        return Stepped(
            _array(after.get(OBSERVATION)), reward.reshape(len(self), -1)[:, 0], success,
            terminated, truncated,
        )  # fmt: skip

    def _mask(self, after: TensorDict, key: str) -> np.ndarray:
        """Return a flag of each row, False where the environment has none."""
        value = after.get(key, None)
        if value is None:
            return np.zeros(len(self), bool)
        return _array(value).reshape(len(self), -1)[:, 0].astype(bool)


def _array(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()
