"""One environment of a pool as numpy arrays, without torch where the environment needs none."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import gymnasium
import numpy as np

from pwm_sdk.checks import seed as checked_seed
from pwm_sdk.contract.pools import PoolStep
from pwm_sdk.envs.gate import Gate, GateError, action_box, vector_size
from pwm_sdk.envs.layers import layers, task_of
from pwm_sdk.envs.task_env import PADDED, TaskEnv
from pwm_sdk.keys import SUCCESS

__all__ = ["About", "GymMember", "Limits", "Member", "Turn", "no_end", "turn_of"]


class Limits(NamedTuple):
    """How many steps an episode may last, and how many seconds a step or a reset; None: any."""

    max_steps: int | None = None
    timeout: float | None = None


class About(NamedTuple):
    """What is known of an environment: its task's index or None, its actions' size, its name."""

    task: int | None
    action_dim: int
    where: str


class Turn:
    """Says in whose episode an environment is: its member, or the pool of all its rows."""

    owner: Any = None


# Of every environment that is a member, by its id: members keep their environment and its turn.
_TURNS: WeakValueDictionary[int, Turn] = WeakValueDictionary()


def turn_of(base: object) -> Turn:
    """Return the one turn of an environment below all that wraps it."""
    return _TURNS.setdefault(id(base), Turn())


class Member(ABC):
    """An environment of a pool and its gate.

    Args:
        env: the environment.
        gate: checks and scales what passes.
        limits: of its episodes and steps.
        passed: the environment itself lets everything pass this gate.
    """

    def __init__(self, env: Any, gate: Gate, limits: Limits, passed: bool = False) -> None:
        self.env, self.gate, self.limits, self._passed = env, gate, limits, passed
        self.about = About(task_of(env), gate.width, gate.where)
        if self.about.task is not None:
            gate.hint = PADDED
        self._steps: int | None = None  # in this episode; None outside of one
        *_, base = layers(env)
        self._turn = turn_of(base)

    def reset(self, seed: int | None) -> np.ndarray:
        """Start an episode; returns the observation `[O]` float32."""
        self._steps = self.gate.at = None
        given = checked_seed(seed=seed)
        result = self._call(self._reset, given)
        observation, _ = result if self._passed else self.gate.start(result)
        self._steps, self._turn.owner = 0, self.about
        return observation

    def step(self, action: np.ndarray) -> PoolStep:
        """Take `action` `[A]`.

        Raises:
            ValueError: if the gate refuses the action or something that the environment returns, if
                the environment raises an exception, which is the cause, or if a limit is passed.
            RuntimeError: if no episode is under way.
        """
        if self._steps is None:
            raise RuntimeError(
                f"step must follow reset, got a step outside an episode of {self.gate.where}"
            )
        if self._turn.owner is not self.about:
            raise GateError(
                f"{self.gate.where} must end its episode before another pool resets it, "
                "got a step after that"
            )
        if self.limits.max_steps is not None and self._steps >= self.limits.max_steps:
            raise no_end(self.gate.where, self.limits.max_steps)
        self.gate.at = self._steps
        if self._passed:
            result = self._call(self._step, action)
            observation, reward, terminated, truncated, info = result
            success = bool(info[SUCCESS][0])
        else:
            result = self.gate.step(self._call(self._step, self.gate.native(action)))
            observation, reward, terminated, truncated, info = result
            observation, success = self.gate.observation(observation), self.gate.success(info)
        self._steps = None if terminated or truncated else self._steps + 1
        return PoolStep(observation, reward, success, terminated, truncated)

    def close(self) -> None:
        """Close the environment."""
        try:
            self.env.close()
        except Exception as error:
            message = f"{self.gate.where} must close, got {type(error).__name__}: {error}"
            raise GateError(message) from error

    def _call(self, function: Callable[[Any], Any], value: object) -> Any:
        begin = time.perf_counter()
        try:
            result = function(value)
        except Exception as error:
            if self._passed and isinstance(error, GateError):
                raise
            raise self.gate.failure(error) from error
        took, timeout = time.perf_counter() - begin, self.limits.timeout
        if timeout is not None and took > timeout:
            raise GateError(
                f"{self.gate.where} must answer within {timeout} s, got {took:.3g} s"
                f"{self.gate.when}"
            )
        return result

    @abstractmethod
    def _reset(self, seed: int | None) -> Any:
        """Return what gymnasium's `reset` does."""

    @abstractmethod
    def _step(self, action: np.ndarray) -> Any:
        """Return what gymnasium's `step` does."""


class GymMember(Member):
    """A gymnasium environment.

    Args:
        env: the environment.
        where: what messages call it.
        limits: of its episodes and steps.

    Raises:
        ValueError: if a space is no vector, or actions have no bounds.
    """

    def __init__(self, env: gymnasium.Env, where: str, limits: Limits) -> None:
        if type(env) is TaskEnv:
            env.gate.name(where)
            super().__init__(env, env.gate, limits, passed=True)
            return
        spaces = (getattr(env, f"{kind}_space", None) for kind in ("observation", "action"))
        seen, moved = spaces
        size = vector_size(f"observation_space of {where}", seen)
        super().__init__(
            env, Gate(size, action_box(f"action_space of {where}", moved), where), limits
        )

    def _reset(self, seed: int | None) -> Any:
        return self.env.reset(seed=seed)

    def _step(self, action: np.ndarray) -> Any:
        return self.env.step(action)


def no_end(where: str, steps: int) -> GateError:
    """Return the fault of an episode that does not end."""
    return GateError(
        f"{where} must end its episode within {steps} steps, got no end: gymnasium.wrappers."
        "TimeLimit ends episodes, and max_steps of the pool or of evaluate allows longer ones"
    )
