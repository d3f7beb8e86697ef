"""What annotations cannot say of an argument: what an object has, which values a number has."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.calls.abilities import members
from pwm_sdk.calls.kinds import shown
from pwm_sdk.checks import at_least

Rule = Callable[..., Any]

INTEGERS = ("task", "heads")
BOOLEANS = ("terminated", "truncated", "first")
ANY_DTYPE = ("observation", "mask", "state")
ACTING = ("given", "sample", "carry", "plan")  # what policies may have instead of being callable
PLAIN = (str, bytes, bool, int, float, complex, type)


def of_tensors(rule: Rule) -> Rule:
    """Mark a rule that is for tensors and objects too, not for numbers alone."""
    rule.of_tensors = True  # pyright: ignore[reportFunctionMemberAccess]
    return rule


@functools.cache
def dtype_rule(name: str) -> Rule:
    """Tensors are floating point, but for those whose name says ids or marks."""

    @of_tensors
    def check(**settings: object) -> None:
        (value,) = settings.values()
        if not isinstance(value, Tensor):
            return
        dtype, expected = value.dtype, None
        if name in ANY_DTYPE:
            expected = "real" if dtype.is_complex else None
            dtype = torch.float32 if expected is None else dtype
        if name in INTEGERS:
            if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
                expected = "integer"
        elif name in BOOLEANS:
            expected = None if dtype == torch.bool else "bool"
        elif not dtype.is_floating_point:
            expected = "floating point"
        if expected is not None:
            raise ValueError(f"{name} must be {expected}, got {dtype}")

    return check


def has(*needed: str | type) -> Rule:
    """Return a rule for objects that take part by what they have, whatever their class.

    Args:
        needed: names, and protocols of `pwm_sdk.contract` that ask for several.
    """
    attributes = [n for one in needed for n in ([one] if isinstance(one, str) else members(one))]

    @of_tensors
    def check(**settings: object) -> None:
        for name, value in settings.items():
            missing = [a for a in attributes if not hasattr(value, a)]
            if missing or isinstance(value, (*PLAIN, list, tuple)):
                raise ValueError(
                    f"{name} must have {' and '.join(missing or attributes)}, got {shown(value)}"
                )

    return check


@of_tensors
def acts(**settings: object) -> None:
    """Raise ValueError for what is no policy or value, neither callable nor `given` tasks."""
    for name, value in settings.items():
        if isinstance(value, PLAIN) or not (
            callable(value) or any(hasattr(value, name) for name in ACTING)
        ):
            raise ValueError(f"{name} must be callable, or have given, got {shown(value)}")


def one_of(*words: object) -> Rule:
    """Return a rule for a choice."""

    def check(**settings: object) -> None:
        for name, value in settings.items():
            if value not in words:
                raise ValueError(f"{name} must be one of {words}, got {value!r}")

    return check


def holds(*names: str) -> Rule:
    """Return a rule for TensorDicts: which entries they have."""

    @of_tensors
    def check(**settings: Any) -> None:
        for name, value in settings.items():
            known = value.keys() if hasattr(value, "keys") else ()
            if missing := [key for key in names if key not in known]:
                raise ValueError(f"{name} must hold {missing}, got {sorted(map(str, known))}")

    return check


def least(lowest: float) -> Rule:
    """Return `at_least(lowest)` as a rule."""
    return functools.partial(at_least, lowest)


def may_be_infinite(**settings: object) -> None:
    """Let a number be infinite; NaN stays refused."""


def anywhere(**settings: object) -> None:
    """Let a tensor or module lie on another device than the others, as it is moved."""


def or_nothing(**settings: object) -> None:
    """Let None stand for an object without a default, whose docstring says what it means."""


@of_tensors
def task_ids(**settings: object) -> None:
    """Raise ValueError for tasks without an index, as those that were not registered."""
    for name, value in settings.items():
        for task in value if isinstance(value, (list, tuple)) else [value]:
            index = getattr(task, "index", task)
            if isinstance(index, int) and index < 0:
                raise ValueError(
                    f"{name} must have an index of at least 0 (register_task), got {task!r}"
                )


@of_tensors
def looked_up(**settings: object) -> None:
    """Raise ValueError for what no model looked up of tasks."""
    for name, value in settings.items():
        if not (value is None or isinstance(value, Tensor) or hasattr(value, "_fields")):
            raise ValueError(f"{name} must be what the model looked up, got {shown(value)}")


def device(**settings: Any) -> None:
    """Raise ValueError for what names no device."""
    for name, value in settings.items():
        try:
            torch.device(value)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"{name} must be a device, got {value!r}") from error


@of_tensors
def floating(**settings: object) -> None:
    """Raise ValueError for a tensor that is not floating point."""
    for name, value in settings.items():
        if isinstance(value, Tensor) and not value.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {value.dtype}")


def finite(**settings: object) -> None:
    """Raise ValueError for a tensor with NaN or infinite entries, where reading it is no wait."""
    for name, value in settings.items():
        if not isinstance(value, Tensor) or value.device.type != "cpu":
            continue
        if torch.compiler.is_compiling():
            continue
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity")


@of_tensors
def finite_alone(**settings: object) -> None:
    """Raise ValueError as `finite` for states `[N, ..]` of one policy: of several, others go on."""
    finite(**{name: v for name, v in settings.items() if isinstance(v, Tensor) and v.dim() < 3})


@of_tensors
def array(**settings: object) -> None:
    """Raise ValueError for what is no tensor, array or sequence of numbers."""
    for name, value in settings.items():
        if isinstance(value, Tensor):
            continue
        try:
            kind = np.asarray(value).dtype.kind
        except ValueError:  # rows of several lengths
            kind = "O"
        if value is None or kind not in "fiub":
            raise ValueError(f"{name} must be an array of numbers, got {shown(value)}")


def each(rule: Rule) -> Rule:
    """Return a rule that holds for each item of a sequence."""

    @of_tensors
    def check(**settings: Iterable[object]) -> None:
        for name, values in settings.items():
            for value in values:
                rule(**{name: value})

    return check


@of_tensors
def some(**settings: Sized) -> None:
    """Raise ValueError for an empty sequence."""
    for name, value in settings.items():
        if not len(value):
            raise ValueError(f"{name} must not be empty, got none")


def numbers_only(rule: Rule) -> Rule:
    """Return a rule that leaves tensors alone: those of a population, whose members may differ."""

    @of_tensors
    def check(**settings: object) -> None:
        rule(**{name: v for name, v in settings.items() if not isinstance(v, Tensor)})

    return check


of_tensors(finite)
WINDOWS = holds(keys.OBSERVATION, keys.ACTION, keys.REWARD)
TRAJECTORY = holds(keys.LATENT, keys.NEXT)
