"""Checks of settings, whose messages name the argument, what is expected of it and what it is.

Each takes settings by name, single numbers or sequences of them. None is let through: it stands for
what a setting leaves out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

__all__ = [
    "at_least",
    "file_name",
    "file_path",
    "finite",
    "flag",
    "in_unit",
    "pair",
    "positive",
    "seed",
    "seeds",
    "single",
    "text",
    "told",
    "whole",
    "widths",
]


SEED = "be an integer in 0..2**32 - 1"


def positive(**settings: object) -> None:
    """Raise ValueError for a setting that is not above 0."""
    _check(settings, "be positive", lambda value: value > 0)


def at_least(least: float, /, **settings: object) -> None:
    """Raise ValueError for a setting below `least`."""
    _check(settings, f"be at least {least}", lambda value: value >= least)


def in_unit(**settings: object) -> None:
    """Raise ValueError for a setting outside [0, 1]."""
    _check(settings, "lie in [0, 1]", lambda value: 0 <= value <= 1)


def finite(**settings: object) -> None:
    """Raise ValueError for a setting that is no number, NaN or infinite."""
    _check(settings, "be a finite number", lambda v: not isinstance(v, bool) and math.isfinite(v))


def flag(**settings: object) -> None:
    """Raise ValueError for a setting that is neither True nor False."""
    for name, value in settings.items():
        if type(value).__name__ not in ("bool", "bool_"):  # numpy's counts, and is not imported
            raise ValueError(f"{name} must be True or False, got {value!r}")


def text(**settings: object) -> None:
    """Raise ValueError for a setting that is no string."""
    for name, value in settings.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a string, got {value!r}")


def single(**settings: object) -> None:
    """Raise ValueError for a setting of several numbers, or none, where one belongs."""
    for name, value in settings.items():
        if value is None or isinstance(value, Iterable):
            raise ValueError(f"{name} must be one number, got {value!r}")


def whole(least: int, /, **settings: object) -> Any:
    """Return counts as Python integers.

    Args:
        least: the smallest that is allowed.
        **settings: integers of Python or numpy, or sequences of them, by name.

    Returns:
        The integer, a tuple for a sequence, None for None; a tuple of these where several settings
        are given.

    Raises:
        ValueError: if it is a float, a bool, a string or anything else that is no integer, or below
            `least`.
    """
    _check(settings, "be an integer", _is_integer)
    at_least(least, **settings)
    return _python_integers(settings)


def seed(**settings: object) -> Any:
    """Return single seeds as Python integers: one rule for torch, numpy and environments.

    Raises:
        ValueError: if it is no integer, or outside 0 to 2**32 - 1.
    """
    for name, given in settings.items():
        if isinstance(given, Iterable):
            raise ValueError(f"{name} must {SEED}, got {given!r}")
    return seeds(**settings)


def seeds(**settings: object) -> Any:
    """Return seeds, or sequences of them, as `whole` returns counts, by the rule of `seed`."""
    _check(settings, SEED, lambda value: _is_integer(value) and 0 <= value < 2**32)
    return _python_integers(settings)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _python_integers(settings: Mapping[str, Any]) -> Any:
    """Return what the settings hold with Python's integers in place of numpy's."""
    values = [
        value if value is None else int(value) if _is_integer(value) else tuple(map(int, value))
        for value in settings.values()
    ]
    return values[0] if len(values) == 1 else tuple(values)


def pair(**settings: object) -> None:
    """Raise ValueError for a setting that is not two numbers."""
    for name, value in settings.items():
        if not isinstance(value, Iterable) or len(list(value)) != 2:
            raise ValueError(f"{name} must be two numbers, got {value!r}")


def widths(**settings: object) -> None:
    """Raise ValueError for a setting that is not a sequence of integers of at least 1."""
    for name, value in settings.items():
        if not isinstance(value, Iterable):
            raise ValueError(f"{name} must be a sequence of widths, got {value!r}")
    whole(1, **settings)


def file_path(**paths: object) -> Path:
    """Return the path of a file or folder; `~` at its beginning is the home folder.

    Args:
        **paths: one path by the argument's name, a string or an `os.PathLike` of one.

    Raises:
        ValueError: if the path is empty, has a null character or an unknown home, or is no path.
    """
    ((name, given),) = paths.items()
    if not isinstance(given, str | os.PathLike):
        raise ValueError(f"{name} must be a path, got {given!r}")
    text = os.fspath(given)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{name} must be a non-empty path, got {given!r}")
    if text.encode(errors="ignore").decode() != text:
        raise ValueError(f"{name} must be a path of UTF-8 text, got {given!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # of a user that this machine does not have
        raise ValueError(f"{name} must be in a known home folder, got {text!r}") from error


def file_name(**names: str) -> str:
    """Return a name that files may have: text without separators that leads to no other folder.

    Args:
        **names: one name by the argument's name.

    Raises:
        ValueError: if it is a path, a hidden name or empty, or has a control character.
    """
    ((name, given),) = names.items()
    text = isinstance(given, str) and given.isprintable() and given.strip() == given != ""
    if not text or given.startswith((".", "~")) or not {"/", "\\"}.isdisjoint(given):
        raise ValueError(f"{name} must be a name without separators, not a path, got {given!r}")
    if len(given.encode(errors="replace")) > 150:
        raise ValueError(f"{name} must have at most 150 bytes, got {len(given)} characters")
    return given


def _check(settings: Mapping[str, Any], expected: str, good: Callable[[Any], bool]) -> None:
    for name, given in settings.items():
        many = isinstance(given, Iterable) and not isinstance(given, str)
        if given is not None and not all(_fits(v, good) for v in (given if many else (given,))):
            raise ValueError(f"{name} must {expected}, got {told(given)}")


def told(value: object) -> str:
    """Return `repr(value)`, also of what has more digits than Python writes."""
    try:
        return repr(value)
    except ValueError:
        return f"a huge {type(value).__name__}"


def _fits(value: object, good: Callable[[Any], bool]) -> bool:
    try:
        return isinstance(value, Real) and bool(good(value))
    except (TypeError, OverflowError):  # no integer, or beyond all floats
        return False
