"""Checks of what commands are given, which end them with one line and no traceback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def flag(name: str) -> str:
    """Return the option of an argument."""
    return "--" + name.replace("_", "-")


@contextmanager
def refused(what: str) -> Iterator[None]:
    """End the program where what `what` names is refused, with the reason and no traceback."""
    try:
        yield
    except ValueError as error:
        raise SystemExit(f"{what}: {error}") from error


def check_counts(arguments: Any, *names: str, least: int = 1) -> None:
    """End the program if one of these arguments, or of its values, is below `least`.

    None is let through.
    """
    for name in names:
        given = getattr(arguments, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and value < least:
                raise SystemExit(f"{flag(name)} must be at least {least}, got {value}")


def check_once(option: str, names: Sequence[str]) -> None:
    """End the program if a name is given twice, or none is."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SystemExit(f"{option} must name each once, got {', '.join(twice)} more than once")
    if not names:
        raise SystemExit(f"{option} must name at least one, got none")


def check_device(name: str) -> None:
    """End the program if torch has no such device here."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SystemExit(f"--device must be one of this machine, got {name}: {reason}") from error
