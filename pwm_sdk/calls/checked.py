"""The decorator that checks a call against its annotations."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from itertools import chain
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.calls.kinds import NONE, Kind, kind_of, union
from pwm_sdk.calls.rules import (
    Rule,
    anywhere,
    device,
    dtype_rule,
    looked_up,
    may_be_infinite,
    or_nothing,
    task_ids,
)
from pwm_sdk.calls.shapes import LEGEND, LETTERS, check_dtypes, measure, own_tensor, place, shaped
from pwm_sdk.checks import seed, seeds

Target = TypeVar("Target", bound=Callable[..., Any])

MAGIC = ("__init__", "__call__")
MARKS = (anywhere, may_be_infinite, or_nothing)  # rules that say something to the checks
# rules that arguments of these names have everywhere
BY_NAME: dict[str, Rule] = {
    "seed": seed,
    "seeds": seeds,
    "tasks": task_ids,
    "context": looked_up,
    "device": device,
}
SIMPLE = frozenset((float, int, str, bool, type(None)))
PLAIN = frozenset((Tensor, nn.Parameter))  # no subclasses, which may hide their type
FEW = 1024  # numbers of a tensor on the CPU that are read; calls of a function that are remembered


_C: Any = torch._C
_transformed = _C._functorch.is_functorch_wrapped_tensor  # under vmap no number can be read


class _Door(threading.local):
    """Whether a checked call is under way: what it calls in turn is not checked again."""

    passed = False


_DOOR = _Door()


def checked(**rules: Rule | tuple[Rule, ...]) -> Callable[[Target], Target]:
    """Check the arguments of a function, or of all public methods of a class, when it is called.

    A call is checked at the door: by the caller's call, not again by those that the package makes
    inside it, so that a loop pays once. Constructors are always checked.

    Args:
        rules: what an annotation cannot say, by the name of the argument: checks of
            `pwm_sdk.checks` and of `pwm_sdk.calls`, one or several. In a class they hold for the
            arguments of that name of all its methods.

    Returns:
        A decorator. What it decorates raises ValueError for an argument that is not what its
        annotation says: a number that is NaN or infinite (`may_be_infinite` allows the latter), a
        bool, a string or None where a number belongs, a float or a bool for a count, an array or a
        list for a tensor, a tensor of another dtype or shape, tensors and modules of several
        devices. Numbers of numpy reach the body as Python's.
    """

    def decorate(target: Target) -> Any:
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


def _checked_function(
    function: Callable[..., Any], rules: Mapping[str, Any], owner: type | None = None
) -> Any:
    if hasattr(function, "__checked__"):  # by rules of its own
        return function
    plan: list[_Plan] = []  # made at the first call, when all names of annotations exist
    makes = function.__name__ == "__init__"

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> Any:
        if torch.compiler.is_compiling() or (_DOOR.passed and not makes):
            return function(*args, **kwargs)
        if not plan:
            plan.append(_Plan(function, rules, owner))
        args, kwargs = plan[0].check(args, kwargs)
        before, _DOOR.passed = _DOOR.passed, True
        try:
            return function(*args, **kwargs)
        finally:
            _DOOR.passed = before

    setattr(call, "__checked__", True)  # noqa: B010 - functions take any attribute
    return call


def outside(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return a user's callback such that its own calls are checked, as at the door."""

    def call(*args: object, **kwargs: object) -> Any:
        before, _DOOR.passed = _DOOR.passed, False
        try:
            return callback(*args, **kwargs)
        finally:
            _DOOR.passed = before

    return call


class _Parameter:
    """How one argument is checked.

    Args:
        name: of the argument.
        kind: what its annotation promises; None: nothing.
        rules: what else holds for it.
        placed: whether it lies on a device.
        optional: whether None is left alone.
        dims: its sizes, as in `shaped`.

    Attributes:
        reads: whether its rules read the numbers of a tensor.
    """

    def __init__(
        self,
        name: str,
        kind: Kind | None,
        rules: tuple[Rule, ...],
        *,
        placed: bool,
        optional: bool,
        dims: tuple[Any, ...] = (),
    ) -> None:
        self.kind, self.rules, self.placed, self.optional = kind, rules, placed, optional
        self.dims = dims
        self.reads = not all(rule is dtype_rule(name) or hasattr(rule, "dims") for rule in rules)

    def take(self, name: str, value: object) -> Any:
        """Return the value, a number as Python's, or raise ValueError."""
        if self.kind is not None:
            value = self.kind.take(name, value)
        if value is not None or not self.optional:
            for rule in self.rules:
                value = _apply(rule, name, value)
        return value


class _Plan:
    """What is checked of a function's arguments, read from its annotations once."""

    def __init__(
        self, function: Callable[..., Any], rules: Mapping[str, Any], owner: type | None
    ) -> None:
        made = function.__name__ == "__init__"
        hints = get_type_hints(owner if made and is_dataclass(owner) else function)
        self.order: list[str] = []
        self.rest = ""  # name of *args
        self.own = False  # whether the first argument is an object, made before
        self.known: dict[str, _Parameter] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind == parameter.VAR_KEYWORD:
                options = getattr(hints.get(name), "__args__", ())
                for key, hint in (get_type_hints(options[0]) if options else {}).items():
                    self.known[key] = _parameter(key, hint, rules, owner, True)
                continue
            if parameter.kind == parameter.VAR_POSITIONAL:
                self.rest = name
            elif parameter.kind != parameter.KEYWORD_ONLY:
                self.order.append(name)
            if name in ("self", "cls"):
                self.own = name == "self" and not made
                continue
            hint = hints.get(name, Any)
            optional = parameter.default is None or hint not in (Any, object)
            self.known[name] = _parameter(name, hint, rules, owner, optional)
        self.dims = {
            name: (p.dims[0] is ..., p.dims[1:] if p.dims[0] is ... else p.dims)
            for name, p in self.known.items()
            if any(isinstance(size, str) for size in p.dims)
        }
        task = self.known.get(keys.TASK)
        self.tasked = task is not None and task.placed
        self.placed = any(p.placed for p in self.known.values())
        letters = {letter for _, own in self.dims.values() for letter in own}
        self.sizes = [LETTERS[letter] for letter in sorted(letters & LETTERS.keys())]
        self.passed: set[Any] = set()

    def check(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments, numbers as Python's, or raise ValueError."""
        seen = self._seen(args, kwargs)
        if seen is None:
            return self._look(args, kwargs)
        if seen not in self.passed:
            self._look(args, kwargs)  # which leaves tensors and plain numbers as they are
            if len(self.passed) >= FEW:
                self.passed.clear()
            self.passed.add(seen)
        return args, kwargs

    def _seen(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """All that is looked at in a call of tensors and plain numbers; None for any other call."""
        if len(args) > len(self.order) or _C._is_any_autocast_enabled():
            return None
        known, found = self.known, []
        if self.own and args:
            found = [getattr(args[0], name, None) for name in self.sizes]
            if (own := own_tensor(args[0])) is not None:
                found += (own.device, own.dtype)
        for name, value in chain(zip(self.order, args, strict=False), kwargs.items()):
            kind = value.__class__
            if kind in PLAIN and name in known and not known[name].reads:
                found += (name, value.dtype, value.shape, value.device)
            elif kind in SIMPLE:
                found += (name, kind, value)
            elif name != "self":
                return None
        return tuple(found)

    def _look(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Look at each argument, and at all of them together."""
        order, known, later = self.order, self.known, None
        given: dict[str, Any] = {}
        more: list[Any] = []
        owner = args[0] if self.own and args else None
        own = own_tensor(owner) if self.placed else None
        expected = None if own is None else own.device
        first = "self"
        for i, (name, value) in enumerate(chain(zip(order, args, strict=False), kwargs.items())):
            parameter = known.get(name)
            if parameter is not None:
                try:
                    value = parameter.take(name, value)
                except ValueError as error:
                    if parameter.kind is not None:
                        raise
                    later = later or error  # numbers first: an object may be anything
                if parameter.placed and (found := place(value)) is not None:
                    if expected is None:
                        first, expected = name, found
                    elif found != expected:
                        message = f"{name} must be on {expected} as {first}, got {found}"
                        later = later or ValueError(message)
            if i < len(order) and i < len(args):
                more.append(value)
            given[name] = value
        if later is not None:
            raise later
        if self.dims:
            ids = given.get(keys.TASK) if self.tasked else None
            measure(owner, given, self.dims, ids)
        if not _C._is_any_autocast_enabled():
            check_dtypes(owner, given)
        more.extend(known[self.rest].take(self.rest, v) for v in args[len(more) :] if self.rest)
        if len(more) < len(args):  # Python's own error follows
            return args, kwargs
        return tuple(more), {name: given[name] for name in kwargs}


def _parameter(
    name: str, hint: object, rules: Mapping[str, Any], owner: type | None, optional: bool
) -> _Parameter:
    own: Any = rules.get(name, ())
    own = own if isinstance(own, tuple) else (own,)
    tasks = name in ("task", "tasks")
    if name == "context":  # its rule says all that can be said, also of ids
        hint = None
    kind = kind_of(hint, infinite=may_be_infinite in own, tasks=tasks, owner=owner)
    placed = anywhere not in own and (kind is None or kind.placed)
    optional = optional or or_nothing in own or name == "context"
    dims: tuple[Any, ...] = ()
    if kind is not None and kind.tensors:
        dims = next((rule.dims for rule in own if hasattr(rule, "dims")), ())
        if not dims and name in LEGEND:
            dims = LEGEND[name]
            own = (shaped(*dims), *own)
        own = (dtype_rule(name), *own)
    if name in BY_NAME and (name in ("context", "device") or (kind and kind.integers)):
        own = (BY_NAME[name], *own)
    if kind is not None and or_nothing in own:
        kind = union([kind, NONE])
    kept = tuple(rule for rule in own if rule not in MARKS)
    return _Parameter(name, kind, kept, placed=placed, optional=optional, dims=dims)


def _apply(rule: Rule, name: str, value: object) -> Any:
    """Apply a rule; numbers of a tensor are read where that costs nothing."""
    if isinstance(value, Tensor) and not getattr(rule, "of_tensors", False):
        if value.layout != torch.strided:
            raise ValueError(f"{name} must be dense, got {value.layout}")
        readable = value.__class__ in PLAIN and not _transformed(value)
        if readable and value.device.type == "cpu" and value.numel() <= FEW:
            rule(**{name: value.detach().reshape(-1).tolist()})
        return value
    result = rule(**{name: value})
    return value if result is None else result
