"""The gate between an environment and its user: what passes is checked, copied and scaled.

Whatever enters a pool goes through one `Gate`, and so does what `TaskEnv` wraps. Messages name the
environment, the culprit and the step, counted from 0 in each episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from pwm_sdk.keys import ACTION, OBSERVATION, REWARD, SUCCESS, TERMINATED, TRUNCATED

__all__ = [
    "Gate",
    "GateError",
    "action_box",
    "fits",
    "vector_size",
]

_OLD_API = "gym before 0.26 returned these; shimmy.GymV21CompatibilityV0 adapts such environments"


class GateError(ValueError, RuntimeError):
    """An environment, or an action for it, is not what the gate lets pass.

    A ValueError like any other wrong value, and a RuntimeError because it shows while running.
    """


class Gate:
    """Checks, copies and scales what passes between one environment and its user.

    Args:
        size: O, entries of an observation.
        actions: native actions, from `action_box`.
        where: what messages call the environment, such as `"environment 0 (mw-reach)"`.
        width: padded size of the actions given, of which the first A count; None: A.

    Attributes:
        size: O.
        hint: remedy for actions that are too wide.
        at: step of the episode that is under way; None: a reset.
    """

    def __init__(
        self, size: int, actions: gymnasium.spaces.Box, where: str = "", width: int | None = None
    ) -> None:
        self.actions, self.size, self._shape = actions, size, (size,)
        self.width = actions.shape[0] if width is None else width
        self.name(where)
        self.hint = ""
        self.at: int | None = None
        self._low, self._high, self._dtype = actions.low, actions.high, actions.dtype
        unit = bool(np.all(actions.low == -1.0) and np.all(actions.high == 1.0))
        self._half = None if unit else (actions.high - actions.low) / 2.0

    def name(self, where: str) -> None:
        """Say what messages call the environment from now on."""
        self.where = where or "the environment"
        self.action_name = f"{ACTION} of {where}" if where else ACTION

    def start(self, result: object) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Return the observation `[O]` and the info of what `reset` returned.

        Raises:
            GateError: if it is not an observation and an info, or the observation has another shape
                or entries that are not finite.
        """
        if not (isinstance(result, tuple) and len(result) == 2 and _is_info(result[1])):
            raise self._fault("reset", "return (observation, info)", _returned(result))
        return self.observation(result[0]), result[1]

    def step(self, result: object) -> tuple[Any, float, bool, bool, Mapping[str, Any]]:
        """Return what `step` returned, with reward and flags checked; the observation is not.

        Raises:
            GateError: if it is not five values, the reward is no finite number, a flag is none, or
                the info is no mapping.
        """
        if not isinstance(result, tuple) or len(result) != 5:
            expected = "return (observation, reward, terminated, truncated, info)"
            raise self._fault("step", expected, _returned(result))
        observation, reward, terminated, truncated, info = result
        if not _is_info(info):
            raise self._fault("info", "be a dict", _in_words(info))
        terminated = self.flag(TERMINATED, terminated)
        truncated = self.flag(TRUNCATED, truncated)
        return observation, self.reward(reward), terminated, truncated, info

    def success(self, info: Mapping[str, Any]) -> bool:
        """Return whether an info reports success.

        Raises:
            GateError: if it is neither a flag nor None.
        """
        value = info.get(SUCCESS)
        return False if value is None else self.flag(SUCCESS, value)

    def observation(self, value: object) -> np.ndarray:
        """Return a copy `[O]` float32 of an observation.

        Raises:
            GateError: if it has another shape, or entries that are no numbers, or not finite as
                float32.
        """
        if type(value) is np.ndarray and value.shape == self._shape and fits(value):
            return value.astype(_FLOAT32)
        seen = _numbers(value)
        if seen is None:
            raise self._fault(OBSERVATION, f"be {self._shape[0]} real numbers", _in_words(value))
        if seen.shape != self._shape:
            raise self._fault(OBSERVATION, f"have shape {self._shape}", f"{seen.shape}")
        with np.errstate(over="ignore"):
            copy = seen.astype(np.float32)
        if not np.isfinite(copy).all():
            entry = int(np.flatnonzero(~np.isfinite(copy))[0])
            raise self._fault(OBSERVATION, "be finite", f"{seen[entry]} in entry {entry}")
        return copy

    def reward(self, value: object) -> float:
        """Return a reward of any shape of one entry as a Python float.

        Raises:
            GateError: if it is not one number that is finite as float32.
        """
        if isinstance(value, float) and -_LARGEST <= value <= _LARGEST:
            return float(value)
        paid = _numbers(value)
        if paid is None or paid.size != 1:
            got = _in_words(value) if paid is None else f"shape {paid.shape}"
            raise self._fault(REWARD, "be one number", got)
        number = float(paid.reshape(()))
        if not math.isfinite(number) or abs(number) > _LARGEST:
            raise self._fault(REWARD, "be finite", f"{number}")
        return number

    def flag(self, name: str, value: object) -> bool:
        """Return a flag as a Python bool.

        Raises:
            GateError: if it is neither one bool nor a 0 or 1.
        """
        if value is True or value is False:
            return value
        found = _numbers(value)
        if found is None or found.size != 1 or found.reshape(()) not in (0, 1):
            raise self._fault(name, "be True or False", _in_words(value))
        return bool(found.reshape(()))

    def native(self, action: object) -> np.ndarray:
        """Return an action in the environment's own units and dtype, `[A]`.

        Args:
            action: `[width]`, of which the first A count; clipped to [-1, 1] and scaled to the
                bounds.

        Raises:
            GateError: if it has another shape, or entries that are not finite.
        """
        given = action if type(action) is np.ndarray else _numbers(action)
        if given is None or given.shape != (self.width,) or not fits(given):
            given = self._looked_at(action)
        return self.scaled(given)

    def scaled(self, given: np.ndarray) -> np.ndarray:
        """Return checked actions `[.., width]` in the environment's units and dtype, `[.., A]`."""
        moved = given.astype(_FLOAT32)[..., : self._low.size]
        np.maximum(moved, _MINUS_ONE, out=moved)
        np.minimum(moved, _ONE, out=moved)
        if self._half is not None:
            moved = (moved + _ONE) * self._half + self._low
            np.maximum(moved, self._low, out=moved)
            np.minimum(moved, self._high, out=moved)
        return moved.astype(self._dtype, copy=False)

    def _looked_at(self, action: object) -> np.ndarray:
        """Return an action `[width]` float32, or raise GateError."""
        expected, given = (self.width,), _numbers(action)
        if given is None:
            raise self._fault(None, f"be {self.width} real numbers", _in_words(action))
        if given.shape != expected:
            wide = given.ndim == 1 and given.size > self.width
            got = f"{given.shape}{self.hint if wide else ''}"
            raise self._fault(None, f"have shape {expected}", got)
        with np.errstate(over="ignore"):
            given = given.astype(np.float32)
        if not np.isfinite(given).all():
            raise self._fault(None, "be finite", f"{given}")
        return given

    def failure(self, error: Exception) -> GateError:
        """Return the fault that names the environment in which an exception was raised."""
        hint = ""
        if isinstance(error, TypeError) and ("'seed'" in str(error) or "'options'" in str(error)):
            hint = "; reset must take seed and options"
        what = "be reset" if self.at is None else f"run{self.when}"
        message = f"{self.where} must {what}, got {type(error).__name__}: {error}{hint}"
        return GateError(message)

    @property
    def when(self) -> str:
        """End of messages, such as `" in step 3"`."""
        return " at reset" if self.at is None else f" in step {self.at}"

    def _fault(self, name: str | None, expected: str, got: str) -> GateError:
        subject = self.action_name if name is None else f"{name} of {self.where}"
        return GateError(f"{subject} must {expected}, got {got}{self.when}")


_LARGEST = float(np.finfo(np.float32).max)
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_ONE, _MINUS_ONE = np.array(1.0, np.float32), np.array(-1.0, np.float32)


def action_box(name: str, space: object, size: int | None = None) -> gymnasium.spaces.Box:
    """Return an action space to which actions in [-1, 1] can be scaled.

    Args:
        name: what the space is, for messages.
        space: any.
        size: A, where it is known.

    Raises:
        GateError: if it is not a one-dimensional Box of floats between finite bounds whose
            difference is finite as well.
    """
    box = _vector_box(name, space, size)
    if box.dtype.kind != "f":
        raise GateError(
            f"{name} must hold floats, got {space}; gymnasium.wrappers.TransformAction can round "
            "actions of a Box of floats"
        )
    if not box.is_bounded():
        raise GateError(
            f"{name} must be bounded, got {space}; gymnasium.wrappers.TransformAction can state "
            "the range of the actuators (ClipAction removes it, and actions are clipped here)"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        span = box.high - box.low
    if not (np.isfinite(span) & (span >= 0.0)).all():
        raise GateError(
            f"{name} must be bounded by numbers whose difference, high - low, is finite and not "
            f"negative, got {space}; gymnasium.wrappers.RescaleAction narrows it"
        )
    return box


def vector_size(name: str, space: object, size: int | None = None) -> int:
    """Return the size of a one-dimensional Box.

    Args:
        name: what the space is, for messages.
        space: any.
        size: where it is known.

    Raises:
        GateError: if it is another space; the message says what helps.
    """
    return _vector_box(name, space, size).shape[0]


def _vector_box(name: str, space: object, size: int | None) -> gymnasium.spaces.Box:
    """Return a space that is a one-dimensional Box, or raise GateError."""
    if (
        isinstance(space, gymnasium.spaces.Box)
        and len(space.shape) == 1
        and space.shape[0]
        and size in (None, space.shape[0])
    ):
        return space
    remedy = ""
    if size is None:
        remedy = (
            "; gymnasium.wrappers.TransformAction can map a vector in [-1, 1] to it"
            if ACTION in name
            else "; gymnasium.wrappers.FlattenObservation makes it a vector"
        )
    shape = "(n,)" if size is None else f"({size},)"
    raise GateError(f"{name} must be a Box of shape {shape}, got {space}{remedy}")


def fits(array: np.ndarray) -> bool:
    """Tell without a warning whether floats are finite as float32; False for other dtypes.

    Bytes are searched because `all()` would take more time than all the rest.
    """
    if array.dtype == _FLOAT32:
        return b"\0" not in np.isfinite(array).tobytes()
    return array.dtype == _FLOAT64 and b"\0" not in (np.abs(array) <= _LARGEST).tobytes()


def _is_info(value: object) -> bool:
    return type(value) is dict or isinstance(value, Mapping)


def _numbers(value: object) -> np.ndarray | None:
    """Return a value as an array of real numbers, or None where it is not one.

    Tensors of torch, which is not imported here, may ask for gradients, lie on another device and
    have a dtype that numpy has not.
    """
    try:
        found: Any = value
        if hasattr(found, "detach"):
            found = found.detach().cpu()
            found = found.double() if found.is_floating_point() else found
        array = np.asarray(float(found) if isinstance(found, int) else found)
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _returned(value: object) -> str:
    """Say in a few words what a call returned."""
    return f"{len(value)} values ({_OLD_API})" if isinstance(value, tuple) else _in_words(value)


def _in_words(value: object) -> str:
    """Say in a few words what a value is."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)[:60]
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    kind = type(value).__name__
    if shape is None:
        return kind
    return f"{kind} of {dtype}, shape {tuple(shape)}"
