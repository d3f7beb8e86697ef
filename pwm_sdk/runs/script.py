"""Calls that are noted as they are made, so that what they build prints as code that runs."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, NamedTuple, ParamSpec, TypeVar

Args = ParamSpec("Args")
Made = TypeVar("Made")
WIDTH = 100


class _Group(NamedTuple):
    """A call or a list as text: what opens it, its items with what stands before each, its end."""

    head: str
    items: list[tuple[str, Any]]
    tail: str


class Script:
    """Makes parts by ordinary calls, and notes each call as a line of a program.

    What a noted call made is written by its name in later ones. Functions of `pwm_sdk` and `torch`
    are imported, settings are written without what is their default anyway.
    """

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}  # object -> its name, or the call that makes it
        self._kept: list[Any] = []  # so that no other object gets the same id
        self._imports: set[str] = set()
        self._lines: list[str] = []

    def make(
        self, name: str, function: Callable[Args, Made], *args: Args.args, **kwargs: Args.kwargs
    ) -> Made:
        """Call a function and note `name = function(...)`."""
        written = self._call(function, args, kwargs)
        made = function(*args, **kwargs)
        self._lines.append(_laid_out(written, f"{name} = "))
        return self.name(made, name)

    def part(self, function: Callable[Args, Made], *args: Args.args, **kwargs: Args.kwargs) -> Made:
        """Call a function, which is noted inside the one call that is given its result."""
        written = self._call(function, args, kwargs)
        return self.name(function(*args, **kwargs), written)

    def do(self, function: Callable[Args, Any], *args: Args.args, **kwargs: Args.kwargs) -> None:
        """Call a function and note the call."""
        self._lines.append(_laid_out(self._call(function, args, kwargs)))
        function(*args, **kwargs)

    def say(self, text: str) -> None:
        """Note a comment."""
        self._lines.append(f"# {text}")

    def name(self, value: Made, text: str | _Group) -> Made:
        """Write `text` for an object from now on; returns the object."""
        self._kept.append(value)
        self._known[id(value)] = text
        return value

    def use(self, name: str) -> None:
        """Import a public name of the package, which a text of `name` has."""
        self._imports.add(name)

    def text(self) -> str:
        """Return the program so far."""
        names = "".join(f"    {name},\n" for name in sorted(self._imports, key=_order))
        body = "\n".join(self._lines)
        return f"import torch\n\nfrom pwm_sdk import (\n{names})\n\n{body}\n"

    def _call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Group:
        items = [("", self._written(value)) for value in args]
        known = inspect.signature(function).parameters
        kwargs = {k: v for k, v in kwargs.items() if not _is_default(known.get(k), v)}
        items += [(f"{name}=", self._written(value)) for name, value in kwargs.items()]
        return _Group(self._function(function) + "(", items, ")")

    def _function(self, function: Callable[..., Any]) -> str:
        owner = getattr(function, "__self__", None)
        if id(owner) in self._known:
            return f"{self._known[id(owner)]}.{function.__name__}"
        module = function.__module__
        if module.startswith("torch"):
            return f"torch.{'optim.' * ('optim' in module)}{function.__name__}"
        self._imports.add(function.__name__)
        return function.__name__

    def _written(self, value: object) -> Any:
        if id(value) in self._known:
            return self._known[id(value)]
        if isinstance(value, str):
            return json.dumps(value)
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, bool | float | None):
            return repr(value)
        if isinstance(value, int):
            return f"{value:_}" if abs(value) >= 10_000 else str(value)
        if isinstance(value, dict):
            pairs = [(f"{self._written(k)}: ", self._written(v)) for k, v in value.items()]
            return _Group("{", pairs, "}")
        if isinstance(value, list):
            return _Group("[", [("", self._written(v)) for v in value], "]")
        if isinstance(value, tuple):
            end = ",)" if len(value) == 1 else ")"
            return _Group("(", [("", self._written(v)) for v in value], end)
        if is_dataclass(value) and not isinstance(value, type):
            changed = {f.name: getattr(value, f.name) for f in fields(value)}
            for f in fields(value):
                if f.default is not MISSING and changed[f.name] == f.default:
                    del changed[f.name]
            return self._call(type(value), (), changed)
        raise ValueError(f"value must be noted before it is used, got {value!r}")


def _is_default(parameter: inspect.Parameter | None, value: object) -> bool:
    """Tell whether an argument need not be written."""
    if parameter is None or parameter.default is parameter.empty:
        return False
    return type(value) is type(parameter.default) and value == parameter.default


def _laid_out(part: str | _Group, before: str = "", depth: int = 0, after: str = "") -> str:
    """Write an expression as ruff does: in one line, all items in one line, or one item a line."""
    flat = f"{before}{_flat(part)}{after}"
    if isinstance(part, str) or len(flat) + 4 * depth <= WIDTH:
        return flat
    inner = "    " * (depth + 1)
    end = f"{'    ' * depth}{part.tail[-1]}{after}"
    line = inner + ", ".join(name + _flat(item) for name, item in part.items)
    if len(line) <= WIDTH and part.tail != ",)":
        return f"{before}{part.head}\n{line}\n{end}"
    items = [inner + _laid_out(item, name, depth + 1, ",") + "\n" for name, item in part.items]
    return f"{before}{part.head}\n{''.join(items)}{end}"


def _flat(part: str | _Group) -> str:
    if isinstance(part, str):
        return part
    return part.head + ", ".join(name + _flat(item) for name, item in part.items) + part.tail


def _order(name: str) -> tuple[bool, bool, str]:
    """Sort names as ruff does: constants, then classes, then functions."""
    return not name.isupper(), not name[0].isupper(), name
