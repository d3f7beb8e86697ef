"""Environments that are stepped all at once, with the interface of a pool."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from pwm_sdk.checks import seed
from pwm_sdk.contract.pools import PoolStep
from pwm_sdk.envs.environments import Environments, check_places
from pwm_sdk.envs.gate import Gate, GateError, fits
from pwm_sdk.envs.member import About, Limits, Turn, no_end
from pwm_sdk.keys import SUCCESS, TERMINATED, TRUNCATED

__all__ = ["BatchedPool", "LockstepPool", "Stepped"]

_Rows: TypeAlias = Sequence[object] | np.ndarray  # as many as were asked for, if all is well
_OUTSIDE = -1  # in place of a step: the row is in no episode


class Stepped(NamedTuple):
    """What a step of n rows led to: observations `[n, O]` and four of `[n]`, not checked yet."""

    observation: Any
    reward: Any
    success: Any
    terminated: Any
    truncated: Any


class BatchedPool(Environments):
    """N environments of one kind whose rows pass the same gate, as arrays.

    The gate of a row is asked alone only where the whole array does not pass: it then says which
    environment, culprit and step it was.

    Args:
        gates: of the rows, alike but for their names.
        tasks: index of each row's task, or None.
        limits: of episodes and steps.
        turn: whose episode an environment is in, for one that several pools can step.

    Attributes:
        max_steps: most steps of an episode; None: any number.
    """

    def __init__(
        self,
        gates: Sequence[Gate],
        tasks: Sequence[int | None],
        limits: Limits,
        turn: Turn | None = None,
    ) -> None:
        self.max_steps, self._timeout = limits
        self._gates = list(gates)
        pairs = zip(tasks, self._gates, strict=True)
        self.about = [About(task, gate.width, gate.where) for task, gate in pairs]
        self._steps = np.full(len(self._gates), _OUTSIDE)
        self._turn, self._token = Turn() if turn is None else turn, object()

    def reset_many(
        self, indices: Sequence[int], seeds: Sequence[int | None] | None = None
    ) -> list[np.ndarray]:
        """Start episodes in some environments, at once; returns their observations."""
        given: list[int | None] = [None] * len(indices)
        if seeds is not None:
            given = [seed(seeds=one) for one in seeds]
        rows = check_places(len(self), indices, "seeds", given)
        if not rows:
            return []
        self._steps[rows] = _OUTSIDE
        found = self._observed(rows, self._timed(rows, lambda: self._reset(rows, given)))
        self._steps[rows], self._turn.owner = 0, self._token
        return list(found)

    def step_many(
        self, indices: Sequence[int], actions: Sequence[np.ndarray] | np.ndarray
    ) -> list[PoolStep]:
        """Take one action `[A]` in each of some environments, at once."""
        rows = check_places(len(self), indices, "actions", actions)
        if not rows:
            return []
        self._check_turn(rows)
        native = self._native(rows, actions)
        found = self._timed(rows, lambda: self._step(rows, native))
        observation = self._observed(rows, found.observation)
        reward = self._rewards(rows, found.reward)
        success, terminated, truncated = (
            self._flags(rows, name, flags)
            for name, flags in zip((SUCCESS, TERMINATED, TRUNCATED), found[2:], strict=True)
        )
        self._steps[rows] = np.where(terminated | truncated, _OUTSIDE, self._steps[rows] + 1)
        parts = (part.tolist() for part in (reward, success, terminated, truncated))
        return [PoolStep(*row) for row in zip(observation, *parts, strict=True)]

    @abstractmethod
    def close(self) -> None:
        """Close the environments, where there is something to close."""

    @abstractmethod
    def _reset(self, rows: list[int], seeds: list[int | None]) -> Any:
        """Start episodes in some rows; returns their observations `[n, O]`."""

    @abstractmethod
    def _step(self, rows: list[int], native: np.ndarray) -> Stepped:
        """Take native actions `[n, A]` in some rows."""

    def _check_turn(self, rows: list[int]) -> None:
        """Raise an error for rows outside an episode of this pool, or in one that is too long."""
        steps = self._steps[rows]
        if (steps == _OUTSIDE).any():
            where = self._gates[rows[int((steps == _OUTSIDE).argmax())]].where
            raise RuntimeError(f"step must follow reset, got a step outside an episode of {where}")
        if self._turn.owner is not self._token:
            raise GateError(
                f"{self._gates[rows[0]].where} must end its episode before another pool resets "
                "it, got a step after that"
            )
        if self.max_steps is not None and (steps >= self.max_steps).any():
            row = rows[int((steps >= self.max_steps).argmax())]
            raise no_end(self._gates[row].where, self.max_steps)

    def _gate(self, row: int) -> Gate:
        """Return the gate of a row, which knows the step that the row is in."""
        gate, step = self._gates[row], int(self._steps[row])
        gate.at = None if step == _OUTSIDE else step
        return gate

    def _native(self, rows: list[int], actions: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        width = self._gates[0].width
        given = actions if type(actions) is np.ndarray else None
        if given is not None and given.shape == (len(rows), width) and fits(given):
            return self._gates[0].scaled(given)
        return np.stack([self._gate(i).native(a) for i, a in zip(rows, actions, strict=True)])

    def _observed(self, rows: list[int], found: _Rows) -> np.ndarray:
        size = self._gates[0].size
        if type(found) is np.ndarray and found.shape == (len(rows), size) and fits(found):
            return found.astype(np.float32)
        self._check_count(rows, found)
        return np.stack([self._gate(i).observation(o) for i, o in zip(rows, found, strict=True)])

    def _rewards(self, rows: list[int], found: _Rows) -> np.ndarray:
        if type(found) is np.ndarray and found.shape == (len(rows),) and fits(found):
            return found
        self._check_count(rows, found)
        return np.array([self._gate(i).reward(r) for i, r in zip(rows, found, strict=True)])

    def _flags(self, rows: list[int], name: str, found: _Rows) -> np.ndarray:
        if type(found) is np.ndarray and found.shape == (len(rows),) and found.dtype == bool:
            return found
        self._check_count(rows, found)
        flags = [self._gate(i).flag(name, f) for i, f in zip(rows, found, strict=True)]
        return np.array(flags, bool)

    def _check_count(self, rows: list[int], found: _Rows) -> None:
        try:
            count = len(found)
        except TypeError:
            count = 0
        if count != len(rows):
            raise GateError(
                f"{self._together(rows)} must return one row each, "
                f"got {type(found).__name__} of {count}{self._gate(rows[0]).when}"
            )

    def _timed(self, rows: list[int], call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        try:
            result = call()
        except GateError:
            raise
        except Exception as error:
            raise self._failure(rows, error) from error
        took = time.perf_counter() - begin
        if self._timeout is not None and took > self._timeout:
            raise GateError(
                f"{self._together(rows)} must answer within {self._timeout} s, "
                f"got {took:.3g} s{self._gate(rows[0]).when}"
            )
        return result

    def _failure(self, rows: list[int], error: Exception) -> GateError:
        """Return the fault that names the environments in which an exception was raised."""
        gate = self._gate(rows[0])
        if len(rows) == 1:
            return gate.failure(error)
        what = "be reset" if gate.at is None else "run"
        steps = sorted({int(step) for step in self._steps[rows]})
        when = "" if gate.at is None else f" in step{'s' * (len(steps) > 1)} {steps}"
        return GateError(
            f"{self._together(rows)} must {what}{when}, got {type(error).__name__}: {error}"
        )

    def _together(self, rows: list[int]) -> str:
        """Return what messages call some rows."""
        if len(rows) == 1:
            return self._gates[rows[0]].where
        _, _, name = self._gates[rows[0]].where.partition("(")
        shown = ", ".join(map(str, rows[:8])) + (", .." if len(rows) > 8 else "")
        return f"environments {shown} ({name}"


class LockstepPool(BatchedPool):
    """Environments of which none can be stepped alone.

    Where only some are stepped, the others take a step in the middle of their bounds along with
    them, and so lose their episode: they must be reset before they are stepped again.

    Args:
        gates: as in `BatchedPool`, as are the others.
        tasks: of the rows.
        limits: of episodes and steps.
        turn: of the environment.
    """

    def __init__(
        self,
        gates: Sequence[Gate],
        tasks: Sequence[int | None],
        limits: Limits,
        turn: Turn | None = None,
    ) -> None:
        super().__init__(gates, tasks, limits, turn)
        self._over = np.zeros(len(self), bool)  # rows that cannot go on, even unobserved
        self._begun = False
        self._rest = self._gates[0].scaled(np.zeros(self._gates[0].width, np.float32))

    def _reset(self, rows: list[int], seeds: list[int | None]) -> Any:
        found = self._reset_rows(rows, seeds)
        self._begun, self._over[rows] = True, False
        return found

    def _step(self, rows: list[int], native: np.ndarray) -> Stepped:
        if rows != list(range(len(self))):
            idle = sorted(set(range(len(self))) - set(rows))
            self._steps[idle] = _OUTSIDE
            if dead := [i for i in idle if self._over[i]]:
                self._reset(dead, [None] * len(dead))
            whole = np.repeat(self._rest[None], len(self), 0)
            whole[rows] = native
            native = whole
        found = self._step_all(native)
        return Stepped(*(part[rows] for part in found))

    @abstractmethod
    def _reset_rows(self, rows: list[int], seeds: list[int | None]) -> Any:
        """Start episodes in some rows, all others going on; the first call starts all."""

    @abstractmethod
    def _step_all(self, native: np.ndarray) -> Stepped:
        """Take native actions `[N, A]`; note in `_over` which rows must be reset to go on."""
