"""What annotations promise, as checks: a number, a count, a tensor, a sequence of these, ..."""

from __future__ import annotations

import inspect
import math
import operator
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ForwardRef, Self, SupportsIndex, TypeVar, Union, get_args, get_origin

import numpy as np
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk.calls.abilities import members
from pwm_sdk.checks import told
from pwm_sdk.states import uncompiled

__all__ = ["NONE", "Kind", "kind_of", "shown", "union"]

NO: Any = object()  # does not fit
LONGEST = 80


def shown(value: object) -> str:
    """Return a value for the end of a message, in a few words."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{type(value).__name__} of shape {list(value.shape)} and {value.dtype}"
    plain = value is None or isinstance(value, (bool, int, float, str, list, tuple, dict))
    text = told(value) if plain else type(value).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


class Kind:
    """One kind of argument.

    Args:
        expected: what follows "must be" in messages.
        fit: returns the value, cleaned, or `NO`.
        several: what follows "a sequence of".
        tensors: whether a tensor can fit.
        integers: whether an integer can fit.
        placed: whether what fits can lie on a device.
        names: of what a value must have; those that one lacks are said.
    """

    def __init__(
        self,
        expected: str,
        fit: Callable[[Any], Any],
        several: str = "",
        *,
        tensors: bool = False,
        integers: bool = False,
        placed: bool = False,
        names: Sequence[str] = (),
    ) -> None:
        self.expected, self.fit, self.names = expected, fit, names
        self.several = several or f"items, each {expected}"
        self.tensors, self.integers, self.placed = tensors, integers, placed

    def take(self, name: str, value: object) -> Any:
        """Return a value that fits, numbers as Python's.

        Raises:
            ValueError: if it does not.
        """
        result = self.fit(value)
        if result is NO:
            missing = [part for part in self.names if not hasattr(value, part)]
            if 0 < len(missing) < len(self.names):
                raise ValueError(f"{name} must have {', '.join(missing)}, got {shown(value)}")
            raise ValueError(f"{name} must be {self.expected}, got {shown(value)}")
        return result


def _real(value: object) -> Any:
    try:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return NO
    except OverflowError:  # an integer beyond all floats
        return NO
    return value.item() if isinstance(value, np.generic) else value


def _open_real(value: object) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return float(value)
    return _real(value)


def _whole(value: object) -> Any:
    if type(value) is int:
        return value
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else NO


def _task(value: object) -> Any:
    index = getattr(value, "index", None)
    return value if isinstance(index, int) and not callable(index) else _whole(value)


def _index(value: object) -> Any:
    try:
        return NO if isinstance(value, bool) else operator.index(value)  # pyright: ignore
    except TypeError:
        return NO


def _task_index(value: object) -> Any:
    return _index(value) if (found := _task(value)) is NO else found


def _flag(value: object) -> Any:
    if isinstance(value, np.bool_):
        return value.item()
    return value if isinstance(value, bool) else NO


REAL = Kind("a finite number", _real, "finite numbers")
OPEN_REAL = Kind("a number", _open_real, "numbers")
WHOLE = Kind("an integer", _whole, "integers", integers=True)
FLAG = Kind("True or False", _flag)
INDEX = Kind("an integer index", _index, integers=True)
TASK = Kind("an integer index or a Task", _task, "indices or Tasks", integers=True)
TASK_INDEX = Kind("an integer index", _task_index, integers=True)
NONE = Kind("None", lambda value: None if value is None else NO)


def kind_of(
    hint: object, *, infinite: bool = False, tasks: bool = False, owner: type | None = None
) -> Kind | None:
    """Return what an annotation promises, or None where it promises nothing.

    Args:
        hint: the annotation, resolved.
        infinite: whether its numbers may be infinite.
        tasks: whether its integers may be tasks, which have one as their `index`.
        owner: the class that `Self` stands for.
    """
    more: dict[str, Any] = {"infinite": infinite, "tasks": tasks, "owner": owner}
    if isinstance(hint, TypeVar):
        hint = hint.__bound__
    if hint is Self:
        hint = owner
    if hint in (None, Any, object) or isinstance(hint, (str, ForwardRef)):
        return None
    if hint is type(None):
        return NONE
    simple = {float: OPEN_REAL if infinite else REAL, int: TASK if tasks else WHOLE, bool: FLAG}
    simple[SupportsIndex] = TASK_INDEX if tasks else INDEX
    if isinstance(hint, type) and hint in simple:
        return simple[hint]
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return union([kind_of(h, **more) for h in get_args(hint)])
    base = hint if origin is None else origin
    if base in (tuple, list, Sequence, Iterable):
        return _sequence(base, get_args(hint), more)
    if base is Callable:
        return Kind("callable", _callable)
    if not isinstance(base, type) or base.__module__.startswith("numpy._typing"):
        return None  # the latter are parts of ArrayLike, at which the rule `array` looks
    return _class(base)


def _callable(value: object) -> Any:
    return value if callable(value) else NO


def _acting(value: object) -> Any:
    """A policy or value, or what becomes one when it is `given` its tasks."""
    fits = not inspect.isclass(value) and (callable(value) or hasattr(value, "given"))
    return value if fits else NO


def union(kinds: list[Kind | None]) -> Kind | None:
    """Return the kind of what is of one of several kinds, the first that fits."""
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds):
        return None

    def fit(value: object) -> Any:
        for kind in known:
            if (result := kind.fit(value)) is not NO:
                return result
        return NO

    several = [kind for kind in known if kind is not NONE]
    return Kind(
        " or ".join(kind.expected for kind in several),
        fit,
        tensors=any(kind.tensors for kind in known),
        integers=any(kind.integers for kind in known),
        placed=any(kind.placed for kind in known),
        names=several[0].names if len(several) == 1 else (),
    )


def _sequence(base: type, inner: tuple[Any, ...], more: dict[str, Any]) -> Kind:
    """A sequence whose items fit; one of numpy's comes back as Python's."""
    fixed = base is tuple and inner and ... not in inner
    each = [kind_of(i, **more) for i in inner if i is not ...]
    first = each[0] if each else None
    once = base is Iterable  # may be read only once: looked into where it is a list or tuple

    def fit(value: Any) -> Any:
        if isinstance(value, (str, bytes, Mapping, nn.Module)) or not hasattr(value, "__iter__"):
            return NO
        if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.ndim != 1):
            return NO
        if once and not isinstance(value, (list, tuple, range, np.ndarray)):
            return value
        if not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
            return NO
        if fixed and len(value) != len(each):
            return NO
        kinds = each if fixed else [first] * len(value)
        found = [v if k is None else k.fit(v) for k, v in zip(kinds, value, strict=True)]
        if any(v is NO for v in found):
            return NO
        same = all(a is b for a, b in zip(found, value, strict=True))
        if isinstance(value, np.ndarray) or not same:
            return tuple(found)
        return value

    item = "values" if first is None else first.several
    words = f"{len(each)} {item}" if fixed else f"a sequence of {item}"
    return Kind(words, fit, integers=first is not None and first.integers)


def _class(base: type) -> Kind:
    if base is os.PathLike:
        return Kind("a path", lambda value: value if hasattr(value, "__fspath__") else NO)
    if getattr(base, "_is_protocol", False):
        names = members(base)
        if names == ["__call__"]:
            return Kind("callable, or have given", _acting, placed=True)
        words = f"an object with {', '.join(names)}"
        return Kind(words, lambda value: _with(value, names), placed=True, names=names)
    article = "an" if base.__name__[0] in "AEIOU" else "a"
    words = {str: "a string", Tensor: "a tensor", np.ndarray: "a numpy array"}.get(
        base, f"{article} {base.__name__}"
    )
    placed = issubclass(base, (Tensor, TensorDictBase, nn.Module))
    return Kind(
        words,
        lambda value: value if isinstance(uncompiled(value), base) else NO,
        tensors=issubclass(base, Tensor),
        placed=placed,
    )


def _with(value: Any, names: Sequence[str]) -> Any:
    plain = isinstance(value, (str, bytes)) or inspect.isclass(value)  # a string has `encode` too
    fits = not plain and all(hasattr(value, name) for name in names)
    return value if fits else NO
