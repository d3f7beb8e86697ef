"""Calls that are checked against their annotations: what does not fit is refused by its name.

One rule for every public function and class: `@checked()` reads the annotations, and whatever they
promise is looked at before the body runs. Numbers of numpy come in as Python's. Only what costs no
wait for a device is read: types, shapes, dtypes, devices, numbers of Python. A function that is
being compiled is not checked, as its caller has been.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.checks import at_least, seed
from pwm_sdk.kinds import NONE, Kind, kind_of, shown, union

__all__ = [
    "acts",
    "anywhere",
    "checked",
    "has",
    "least",
    "may_be_infinite",
    "one_of",
    "or_nothing",
    "shaped",
]

Target = TypeVar("Target", bound=Callable[..., Any])
Rule = Callable[..., Any]

MAGIC = ("__init__", "__call__")
SEEDS = ("seed", "seeds")
TASKS = ("task", "tasks")
INTEGERS = ("task", "heads")
BOOLEANS = ("terminated", "truncated", "first")
ANY_DTYPE = ("observation", "mask", "state")
# What tensors of these names are, everywhere; `shaped` replaces it where an argument is another.
LEGEND: dict[str, tuple[Any, ...]] = {
    "latent": (..., "D"),
    "observation": (..., "O"),
    **dict.fromkeys(("action", "noise", "loc", "log_std"), (..., "A")),
    **dict.fromkeys(("reward", "target"), (..., 1)),
    "logits": (..., None),
}
LETTERS = {"D": "latent_dim", "A": "action_dim", "O": "observation_dim"}  # sizes of an object
OWN = ("actor", "encoder", "model")  # parts by which an object that is no module has a device
PLAIN = (str, bytes, bool, int, float, complex, type)
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
    optional: bool = True
    dims: tuple[Any, ...] = ()


class _Plan:
    """What is checked of a function's arguments, read from its annotations once."""

    def __init__(self, function: Any, rules: Mapping[str, Any], owner: type | None) -> None:
        hints = get_type_hints(
            owner if function.__name__ == "__init__" and is_dataclass(owner) else function
        )
        self.order: list[str] = []
        self.rest: str | None = None
        self.own = False  # whether the first argument is an object, made before
        self.known: dict[str, _Parameter] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                self.order.append(name)
                if owner is not None and name in ("self", "cls"):
                    self.own = name == "self" and function.__name__ != "__init__"
                    continue
            elif parameter.kind == parameter.VAR_POSITIONAL:
                self.rest = name
            elif parameter.kind == parameter.VAR_KEYWORD:
                options = getattr(hints.get(name), "__args__", ())
                for key, hint in (get_type_hints(options[0]) if options else {}).items():
                    self.known[key] = _parameter(key, hint, rules, owner, True)
                continue
            known = hints.get(name, Any)
            optional = parameter.default is None or known is not Any
            self.known[name] = _parameter(name, known, rules, owner, optional)
        self.measured = any(parameter.dims for parameter in self.known.values())

    def check(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments, numbers as Python's, or raise ValueError."""
        names = [*self.order[: len(args)], *[self.rest] * (len(args) - len(self.order))]
        places: list[tuple[str, torch.device]] = []
        if self.own and (device := _own_place(args[0])) is not None:
            places.append((names[0] or "", device))
        cleaned = tuple(self._one(n, v, places) for n, v in zip(names, args, strict=True))
        named = {n: self._one(n, v, places) for n, v in kwargs.items()}
        for name, device in places[1:]:
            if device != places[0][1]:
                other, expected = places[0]
                raise ValueError(f"{name} must be on {expected} as {other}, got {device}")
        if self.measured:
            given = {**dict(zip(self.order, cleaned, strict=False)), **named}
            self._measure(args[0] if self.own else None, given)
        return cleaned, named

    def _measure(self, owner: Any, given: Mapping[str, Any]) -> None:
        """Raise ValueError for tensors whose shapes do not fit each other or the object."""
        sizes: dict[Any, tuple[Any, str]] = {}
        for letter, attribute in LETTERS.items():
            size = getattr(owner, attribute, None)
            if isinstance(size, int):
                sizes[letter] = (size, "")
        for name, value in given.items():
            parameter = self.known.get(name)
            if parameter is not None and parameter.dims and isinstance(value, Tensor):
                _fit(name, value, parameter.dims, sizes)
        if ... in sizes and isinstance(given.get("task"), Tensor):
            _fit_ids(given["task"], *sizes[...])

    def _one(self, name: str | None, value: Any, places: list[tuple[str, torch.device]]) -> Any:
        parameter = self.known.get(name) if name is not None else None
        if name is None or parameter is None:  # Python's own error follows
            return value
        if parameter.kind is not None:
            value = parameter.kind.take(name, value)
        if value is not None or not parameter.optional:
            for rule in parameter.rules:
                value = _apply(rule, name, value)
        if parameter.placed and (device := _place(value)) is not None:
            places.append((name, device))
        return value


def _parameter(
    name: str, hint: Any, rules: Mapping[str, Any], owner: type | None, optional: bool
) -> _Parameter:
    own = rules.get(name, ())
    own = own if isinstance(own, tuple) else (own,)
    kind = kind_of(hint, infinite=may_be_infinite in own, owner=owner, tasks=name in TASKS)
    if kind is not None and kind.tensors:
        if name in LEGEND and not _dims(own):
            own = (shaped(*LEGEND[name]), *own)
        own = (_dtype_rule(name), *own)
    if name in ("context", "device"):
        own = (_context if name == "context" else _device, *own)
    if kind is not None and kind.integers and name in (*SEEDS, *TASKS):
        own = (seed if name in SEEDS else _ids, *own)
    if kind is not None and or_nothing in own:
        kind = union([kind, NONE])
    placed = anywhere not in own and (kind is None or kind.placed)
    kept = tuple(r for r in own if r not in (anywhere, may_be_infinite, or_nothing))
    dims = _dims(own) if kind is not None and kind.tensors else ()
    dims = dims if any(isinstance(size, str) for size in dims) else ()
    return _Parameter(kind, kept, placed, optional or or_nothing in own or name == "context", dims)


def _fit_ids(task: Tensor, lead: tuple[int, ...], other: str) -> None:
    """Check that task ids broadcast to the leading shape of the other tensors."""
    ends = zip(reversed(task.shape), reversed(lead), strict=False)
    if task.dim() > len(lead) or any(own not in (1, size) for own, size in ends):
        raise ValueError(
            f"task must broadcast to the {other}'s {list(lead)}, got {list(task.shape)}"
        )


def _dims(rules: tuple[Rule, ...]) -> tuple[Any, ...]:
    return next((rule.dims for rule in rules if hasattr(rule, "dims")), ())


def _fit(name: str, value: Tensor, dims: tuple[Any, ...], sizes: dict[Any, Any]) -> None:
    """Compare the sizes of a tensor with those that are known, and note those that were not."""
    shape = tuple(value.shape)
    last = len(dims) - 1 if dims[0] is ... else len(dims)
    split = len(shape) - last
    pairs = list(zip(dims[len(dims) - last :], shape[split:], strict=True))
    pairs += [(..., shape[:split])] if dims[0] is ... else []
    for letter, size in pairs:
        if letter is not ... and not isinstance(letter, str):
            continue
        expected, other = sizes.setdefault(letter, (size, name))
        if size != expected:
            if letter is ... and 1 in (*size, *expected) and len(size) == len(expected):
                continue  # may be repeated
            what = f"size {expected}" if letter is not ... else f"leading shape {list(expected)}"
            as_ = f" as {other}" if other else ""
            raise ValueError(f"{name} must have {what}{as_}, got {list(shape)}")


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
        return next((p.device for p in chain(value.parameters(), value.buffers())), None)
    if isinstance(value, TensorDictBase):
        leaves = value.values(include_nested=True, leaves_only=True)
        return value.device or next((leaf.device for leaf in leaves), None)
    return None


def _own_place(owner: Any) -> torch.device | None:
    """Return where an object lies, by its own parameters or those of a part."""
    parts = [owner] if isinstance(owner, nn.Module) else [getattr(owner, n, None) for n in OWN]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    return next((place for m in modules if (place := _place(m)) is not None), None)


def _of_tensors(rule: Rule) -> Rule:
    rule.of_tensors = True  # pyright: ignore[reportFunctionMemberAccess]
    return rule


@functools.cache
def _dtype_rule(name: str) -> Rule:
    """Tensors are floating point, but for those whose name says ids or marks."""

    @_of_tensors
    def check(**settings: Any) -> None:
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


def shaped(*sizes: Any) -> Rule:
    """Return a rule for the shape of a tensor.

    Args:
        sizes: of the axes; None: any; a letter: the same in all tensors of a call, and D, A and O
            those of the object that is called; an ellipsis in front: any further axes before them,
            with letters behind it the same ones in all tensors.
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
            if not fits or any(
                isinstance(e, int) and e != s for e, s in zip(last, tail, strict=True)
            ):
                raise ValueError(f"{name} must have shape [{words}], got {list(shape)}")

    check.dims = sizes  # pyright: ignore[reportFunctionMemberAccess]
    return check


def has(*attributes: str) -> Rule:
    """Return a rule for objects that take part by what they have, whatever their class."""

    @_of_tensors
    def check(**settings: Any) -> None:
        for name, value in settings.items():
            missing = [a for a in attributes if not hasattr(value, a)]
            if missing or isinstance(value, (*PLAIN, list, tuple)):
                raise ValueError(
                    f"{name} must have {' and '.join(missing or attributes)}, got {shown(value)}"
                )

    return check


@_of_tensors
def acts(**settings: Any) -> None:
    """Raise ValueError for what is no policy or value, neither callable nor `given` tasks."""
    for name, value in settings.items():
        if isinstance(value, PLAIN) or not (callable(value) or hasattr(value, "given")):
            raise ValueError(f"{name} must be callable, or have given, got {shown(value)}")


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


def or_nothing(**settings: Any) -> None:
    """Let None stand for an object without a default, whose docstring says what it means."""


@_of_tensors
def _ids(**settings: Any) -> None:
    """Raise ValueError for tasks without an index, as those that were not registered."""
    for name, value in settings.items():
        for task in value if isinstance(value, (list, tuple)) else [value]:
            index = getattr(task, "index", task)
            if isinstance(index, int) and index < 0:
                raise ValueError(
                    f"{name} must have an index of at least 0 (register_task), got {task!r}"
                )


@_of_tensors
def _context(**settings: Any) -> None:
    for name, value in settings.items():
        if not (value is None or isinstance(value, Tensor) or hasattr(value, "_fields")):
            raise ValueError(f"{name} must be what the model looked up, got {shown(value)}")


def _device(**settings: Any) -> None:
    for name, value in settings.items():
        try:
            torch.device(value)
        except RuntimeError as error:
            raise ValueError(f"{name} must be a device, got {value!r}") from error


@_of_tensors
def floating(**settings: Any) -> None:
    """Raise ValueError for a tensor that is not floating point."""
    for name, value in settings.items():
        if isinstance(value, Tensor) and not value.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {value.dtype}")


def finite(**settings: Any) -> None:
    """Raise ValueError for a tensor with NaN or infinite entries, where reading it is no wait."""
    for name, value in settings.items():
        if not isinstance(value, Tensor) or value.device.type != "cpu":
            continue
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity")


_of_tensors(finite)


@_of_tensors
def array(**settings: Any) -> None:
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

    @_of_tensors
    def check(**settings: Any) -> None:
        for name, values in settings.items():
            for value in values:
                rule(**{name: value})

    return check


@_of_tensors
def some(**settings: Any) -> None:
    """Raise ValueError for an empty sequence."""
    for name, value in settings.items():
        if not len(value):
            raise ValueError(f"{name} must not be empty, got none")


def numbers_only(rule: Rule) -> Rule:
    """Return a rule that leaves tensors alone: those of a population, whose members may differ."""

    @_of_tensors
    def check(**settings: Any) -> None:
        rule(**{name: v for name, v in settings.items() if not isinstance(v, Tensor)})

    return check


def holds(*names: str) -> Rule:
    """Return a rule for TensorDicts: which entries they have."""

    @_of_tensors
    def check(**settings: Any) -> None:
        for name, value in settings.items():
            known = value.keys() if hasattr(value, "keys") else ()
            if missing := [key for key in names if key not in known]:
                raise ValueError(f"{name} must hold {missing}, got {sorted(map(str, known))}")

    return check


MODEL = has("encode", "next", "reward_logits", "reward_error")
WINDOWS = holds(keys.OBSERVATION, keys.ACTION, keys.REWARD)
TRAJECTORY = holds(keys.LATENT, keys.NEXT)
