"""Calls that are checked against their annotations: what does not fit is refused by its name.

One rule for every public function and class: `@checked()` reads the annotations, and whatever they
promise is looked at before the body runs. Numbers of numpy come in as Python's. Only what costs no
wait for a device is read: types, shapes, dtypes, devices, numbers of Python. A function that is
being compiled is not checked, as its caller has been.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.checks import at_least, seed
from pwm_sdk.kinds import Kind, kind_of, shown

__all__ = ["anywhere", "checked", "has", "least", "may_be_infinite", "one_of", "shaped"]

Target = TypeVar("Target", bound=Callable[..., Any])
Rule = Callable[..., Any]

MAGIC = ("__init__", "__call__")
SEEDS = ("seed", "seeds")
INTEGERS = ("task", "heads")
BOOLEANS = ("terminated", "truncated", "first")
ANY_DTYPE = ("observation", "mask", "state")
FEW = 1024  # numbers of a tensor on the CPU that are read


def checked(**rules: Rule | tuple[Rule, ...]) -> Callable[[Target], Target]:
    """Check the arguments of a function, or of all public methods of a class, at every call.

    Args:
        rules: what an annotation cannot say, by the name of the argument: checks of
            `pwm_sdk.checks` and of this file, one or several. In a class they hold for the
            arguments of that name of all its methods.

    Returns:
        A decorator. What it decorates raises ValueError for an argument that is not what its
        annotation says: a number that is NaN or infinite (`may_be_infinite` allows the latter), a
        bool, a string or None where a number belongs, a float or a bool for a count, an array or a
        list for a tensor, a tensor of another dtype, or tensors and modules of several devices.
    """

    def decorate(target: Any) -> Any:
        if not inspect.isclass(target):
            return _checked_function(target, rules)
        for name, part in list(vars(target).items()):
            if name.startswith("_") and name not in MAGIC:
                continue
            if isinstance(part, (classmethod, staticmethod)):
                inner = _checked_function(part.__func__, rules, target)
                setattr(target, name, type(part)(inner))
            elif inspect.isfunction(part):
                setattr(target, name, _checked_function(part, rules, target))
        return target

    return decorate


def _checked_function(function: Any, rules: Mapping[str, Any], owner: type | None = None) -> Any:
    if hasattr(function, "__checked__"):  # by rules of its own
        return function
    plan: list[_Plan] = []  # made at the first call, when all names of annotations exist

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if not plan:
            plan.append(_Plan(function, rules, owner))
        args, kwargs = plan[0].check(args, kwargs)
        return function(*args, **kwargs)

    call.__checked__ = True  # pyright: ignore[reportFunctionMemberAccess]
    return call


class _Parameter(NamedTuple):
    """How one argument is checked."""

    kind: Kind | None
    rules: tuple[Rule, ...]
    placed: bool


class _Plan:
    """What is checked of a function's arguments, read from its annotations once."""

    def __init__(self, function: Any, rules: Mapping[str, Any], owner: type | None) -> None:
        hints = get_type_hints(
            owner if function.__name__ == "__init__" and is_dataclass(owner) else function
        )
        self.order: list[str] = []
        self.rest: str | None = None
        self.known: dict[str, _Parameter] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                self.order.append(name)
            elif parameter.kind == parameter.VAR_POSITIONAL:
                self.rest = name
            elif parameter.kind == parameter.VAR_KEYWORD:
                options = getattr(hints.get(name), "__args__", ())
                for key, hint in (get_type_hints(options[0]) if options else {}).items():
                    self.known[key] = _parameter(key, hint, rules, owner)
                continue
            self.known[name] = _parameter(name, hints.get(name, Any), rules, owner)

    def check(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments, numbers as Python's, or raise ValueError."""
        names = [*self.order[: len(args)], *[self.rest] * (len(args) - len(self.order))]
        places: list[tuple[str, torch.device]] = []
        cleaned = tuple(self._one(n, v, places) for n, v in zip(names, args, strict=True))
        named = {n: self._one(n, v, places) for n, v in kwargs.items()}
        for name, device in places[1:]:
            if device != places[0][1]:
                other, expected = places[0]
                raise ValueError(f"{name} must be on {expected} as {other}, got {device}")
        return cleaned, named

    def _one(self, name: str | None, value: Any, places: list[tuple[str, torch.device]]) -> Any:
        parameter = self.known.get(name) if name is not None else None
        if name is None or parameter is None:  # Python's own error follows
            return value
        if parameter.kind is not None:
            value = parameter.kind.take(name, value)
        if value is not None:
            for rule in parameter.rules:
                value = _apply(rule, name, value)
        if parameter.placed and (device := _place(value)) is not None:
            places.append((name, device))
        return value


def _parameter(name: str, hint: Any, rules: Mapping[str, Any], owner: type | None) -> _Parameter:
    own = rules.get(name, ())
    own = own if isinstance(own, tuple) else (own,)
    kind = kind_of(hint, infinite=may_be_infinite in own, owner=owner)
    if kind is not None and kind.tensors:
        own = (_dtype_rule(name), *own)
    if kind is not None and kind.integers and name in SEEDS:
        own = (seed, *own)
    placed = anywhere not in own and (kind is None or kind.placed)
    return _Parameter(kind, tuple(r for r in own if r not in (anywhere, may_be_infinite)), placed)


def _apply(rule: Rule, name: str, value: Any) -> Any:
    """Apply a rule; numbers of a tensor are read where that costs nothing."""
    if isinstance(value, Tensor) and not getattr(rule, "of_tensors", False):
        if value.device.type == "cpu" and value.numel() <= FEW:
            rule(**{name: value.detach().reshape(-1).tolist()})
        return value
    result = rule(**{name: value})
    return value if result is None else result


def _place(value: Any) -> torch.device | None:
    """Return where a tensor, a batch or a module lies; None for what can be used anywhere."""
    if isinstance(value, Tensor):
        return None if value.dim() == 0 and value.device.type == "cpu" else value.device
    if isinstance(value, nn.Module):
        return next((p.device for p in value.parameters()), None)
    if isinstance(value, TensorDictBase):
        leaves = value.values(include_nested=True, leaves_only=True)
        return value.device or next((leaf.device for leaf in leaves), None)
    return None


def _of_tensors(rule: Rule) -> Rule:
    rule.of_tensors = True  # pyright: ignore[reportFunctionMemberAccess]
    return rule


@functools.cache
def _dtype_rule(name: str) -> Rule:
    """Tensors are floating point, but for those whose name says ids or marks."""

    @_of_tensors
    def check(**settings: Any) -> None:
        (value,) = settings.values()
        if not isinstance(value, Tensor) or name in ANY_DTYPE:
            return
        dtype, expected = value.dtype, None
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


def shaped(*sizes: Any) -> Rule:
    """Return a rule for the shape of a tensor.

    Args:
        sizes: of the axes; None: any, an ellipsis in front: any further axes before them.
    """
    free = bool(sizes) and sizes[0] is ...
    last = sizes[1:] if free else sizes
    words = ", ".join(".." if s is ... else "any" if s is None else str(s) for s in sizes)

    @_of_tensors
    def check(**settings: Any) -> None:
        for name, value in settings.items():
            if not isinstance(value, Tensor):
                continue
            shape = tuple(value.shape)
            fits = len(shape) >= len(last) if free else len(shape) == len(last)
            tail = shape[len(shape) - len(last) :]
            if not fits or any(e not in (None, s) for e, s in zip(last, tail, strict=True)):
                raise ValueError(f"{name} must have shape [{words}], got {list(shape)}")

    return check


def has(*attributes: str) -> Rule:
    """Return a rule for objects that take part by what they have, whatever their class."""

    @_of_tensors
    def check(**settings: Any) -> None:
        for name, value in settings.items():
            missing = [a for a in attributes if not hasattr(value, a)]
            if missing or isinstance(value, type):
                raise ValueError(
                    f"{name} must have {' and '.join(missing or attributes)}, got {shown(value)}"
                )

    return check


def one_of(*words: Any) -> Rule:
    """Return a rule for a choice."""

    def check(**settings: Any) -> None:
        for name, value in settings.items():
            if value not in words:
                raise ValueError(f"{name} must be one of {words}, got {value!r}")

    return check


def least(lowest: float) -> Rule:
    """Return `at_least(lowest)` as a rule."""
    return functools.partial(at_least, lowest)


def may_be_infinite(**settings: Any) -> None:
    """Let a number be infinite; NaN stays refused."""


def anywhere(**settings: Any) -> None:
    """Let a tensor or module lie on another device than the others, as it is moved."""


def finite(**settings: Any) -> None:
    """Raise ValueError for a tensor with NaN or infinite entries, where reading it is no wait."""
    for name, value in settings.items():
        if not isinstance(value, Tensor) or value.device.type != "cpu":
            continue
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity")


_of_tensors(finite)


def array(**settings: Any) -> None:
    """Raise ValueError for what is no array of numbers."""
    for name, value in settings.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
            raise ValueError(f"{name} must be an array of numbers, got {shown(value)}")


def items(rule: Rule) -> Rule:
    """Return a rule that holds for each item of a sequence."""

    def check(**settings: Any) -> None:
        for name, values in settings.items():
            for value in values if isinstance(values, Iterable) else ():
                rule(**{name: value})

    return check


def holds(*names: str) -> Rule:
    """Return a rule for TensorDicts: which entries they have."""

    @_of_tensors
    def check(**settings: Any) -> None:
        for name, value in settings.items():
            known = value.keys()
            if missing := [key for key in names if key not in known]:
                raise ValueError(f"{name} must hold {missing}, got {sorted(map(str, known))}")

    return check


MODEL = has("encode", "next", "reward_logits", "reward_error")
WINDOWS = holds(keys.OBSERVATION, keys.ACTION, keys.REWARD)
TRAJECTORY = holds(keys.LATENT, keys.NEXT)
