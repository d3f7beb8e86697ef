"""A vector environment of gymnasium as a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from pwm_sdk.envs.batched import LockstepPool, Stepped
from pwm_sdk.envs.gate import Gate, GateError, action_box, vector_size
from pwm_sdk.envs.layers import name_of, task_of
from pwm_sdk.envs.member import Limits, turn_of
from pwm_sdk.keys import SUCCESS

__all__ = ["VectorPool"]

_FINAL, _FINAL_INFO = "final_obs", "final_info"  # gymnasium's names


class VectorPool(LockstepPool):
    """A `gymnasium.vector.VectorEnv` of any autoreset mode, whose episodes the caller starts.

    - disabled: rows are reset by gymnasium's `reset_mask`.
    - same step: where a step ended an episode, `final_obs` is what it led to; the observation that
      came in its place is that of the next reset without a seed.
    - next step: the mask resets the row before its next step, which then takes the action.

    Args:
        env: the environment.
        limits: of episodes and steps.

    Raises:
        ValueError: if spaces do not fit, or rows cannot be reset alone.
    """

    def __init__(self, env: VectorEnv, limits: Limits) -> None:
        base: Any = env.unwrapped
        self.env, self._base = env, base
        self._mode = _mode_of(env)
        # gymnasium asks the mask of environments without autoreset; its own two always know it
        own = isinstance(base, SyncVectorEnv | AsyncVectorEnv)
        self._masks = own or self._mode is AutoresetMode.DISABLED
        kind = type(base).__name__
        if self._mode is AutoresetMode.NEXT_STEP and not (own and _forgets(base)):
            raise GateError(
                f"env must be one whose rows can be reset alone, got {kind} with autoreset in the "
                "next step; autoreset_mode=AutoresetMode.DISABLED or SAME_STEP leaves it to the "
                "caller"
            )
        singles = list(base.envs) if isinstance(base, SyncVectorEnv) else []
        name = _name_of(base, singles)
        size = vector_size("observation_space of env", env.single_observation_space)
        box = action_box("action_space of env", env.single_action_space)
        gates = [Gate(size, box, f"environment {i} ({name})") for i in range(env.num_envs)]
        tasks = [task_of(one) for one in singles] or [None] * env.num_envs
        super().__init__(gates, tasks, limits, turn_of(base))
        # observations of episodes that autoreset began in the last step
        self._fresh: list[np.ndarray | None] = [None] * env.num_envs

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _reset_rows(self, rows: list[int], seeds: list[int | None]) -> Any:
        found = dict(zip(rows, (self._fresh[i] for i in rows), strict=True))
        given = dict(zip(rows, seeds, strict=True))
        late = [i for i in rows if found[i] is None or given[i] is not None]
        if late and not self._masks and len(rows) == len(self):
            late = rows
        if late:
            every: Any = [given.get(i) for i in range(len(self))]  # a list of int or None
            if len(late) == len(self) or not self._begun:
                observation, _ = self.env.reset(seed=every)
                self._over[:] = False
                self._fresh = [None] * len(self)
            elif self._masks:
                mask = np.zeros(len(self), bool)
                mask[late] = True
                every = [given.get(i) if mask[i] else None for i in range(len(self))]
                observation, _ = self.env.reset(seed=every, options={"reset_mask": mask})
            else:
                raise GateError(
                    f"env must be one whose rows can be reset alone, got "
                    f"{type(self._base).__name__}, which resets environments {late} only with all "
                    "others; autoreset_mode=AutoresetMode.DISABLED, or whole episodes without "
                    "seeds, do without"
                )
            for i in late:
                found[i] = observation[i]
        for i in rows:
            self._fresh[i] = None
        return np.stack([np.asarray(found[i]) for i in rows])

    def _step_all(self, native: np.ndarray) -> Stepped:
        observation, reward, terminated, truncated, infos = self.env.step(native)
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        over = terminated | truncated
        success = self._successes(infos, over)
        self._fresh = [None] * len(self)
        if self._mode is AutoresetMode.SAME_STEP:
            observation = np.array(observation)
            for i in np.flatnonzero(over).tolist():
                self._fresh[i] = observation[i].copy()
                observation[i] = self._final(infos, i)
        elif self._mode is AutoresetMode.DISABLED:
            self._over |= over
        return Stepped(observation, np.array(reward), success, terminated, truncated)

    def _final(self, infos: dict[str, Any], row: int) -> Any:
        """Return what a step led to in a row that was reset in the same step."""
        final = infos.get(_FINAL)
        if final is None or final[row] is None:
            raise GateError(
                f"infos of {self._gates[row].where} must have {_FINAL!r} where an episode ended, "
                f"got none{self._gate(row).when}"
            )
        return final[row]

    def _successes(self, infos: dict[str, Any], over: np.ndarray) -> np.ndarray:
        """Return which steps report success, those that ended an episode in their final info."""
        success = np.zeros(len(self), bool)
        same = self._mode is AutoresetMode.SAME_STEP
        for source, rows in ((infos, ~over if same else None), (infos.get(_FINAL_INFO), over)):
            if not source or SUCCESS not in source:
                continue
            said = np.asarray(source.get(f"_{SUCCESS}", np.ones(len(self), bool)))
            for i in np.flatnonzero(said if rows is None else said & rows).tolist():
                if source[SUCCESS][i] is not None:
                    success[i] = self._gate(i).flag(SUCCESS, source[SUCCESS][i])
        return success


def _mode_of(env: VectorEnv) -> AutoresetMode:
    """Return the autoreset mode of a vector environment."""
    mode = env.metadata.get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError:
        raise GateError(
            "metadata of env must say its autoreset_mode, one of gymnasium.vector.AutoresetMode, "
            f"got {mode!r}"
        ) from None


def _forgets(base: SyncVectorEnv | AsyncVectorEnv) -> bool:
    """Tell whether a reset of a row by the mask takes the place of its autoreset."""
    return isinstance(base, SyncVectorEnv) or bool(base.shared_memory)


def _name_of(base: VectorEnv, singles: list[Any]) -> str:
    if singles:
        return name_of(singles[0])
    return getattr(getattr(base, "spec", None), "id", None) or type(base).__name__
