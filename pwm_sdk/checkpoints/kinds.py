"""Which program wrote a foreign file, and how a module of it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pwm_sdk.checkpoints.foreign import open_foreign
from pwm_sdk.checkpoints.layout import Part, PartReader, sections

__all__ = ["kind_of", "read_part"]

# a key that only this program's files have at the top
_MARKS = {"TD-MPC2": {"model"}, "PWM": {"world_model", "actor", "critic"}}


def kind_of(contents: object) -> str:
    """Return the program that wrote a file, "TD-MPC2" or "PWM".

    Args:
        contents: of the file.

    Raises:
        ValueError: if it is neither.
    """
    contents = sections(contents)
    keys = set(contents) if isinstance(contents, Mapping) else set()
    kinds = [kind for kind, marks in _MARKS.items() if marks & keys]
    if len(kinds) != 1:
        found = sorted(map(str, keys))[:8] if keys else type(contents).__name__
        raise ValueError(f"checkpoint must be laid out as by TD-MPC2 or PWM, got {found}")
    return kinds[0]


def read_part(path: str | os.PathLike[str], readers: Mapping[str, PartReader], wanted: str) -> Part:
    """Read settings and weights of a module from a foreign file.

    Args:
        path: the file.
        readers: what reads that module, by the program that wrote the file.
        wanted: name of the module, for messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file does not open, or has no such module, or not in a known layout.
    """
    contents = open_foreign(path)
    try:
        kind = kind_of(contents)
        if kind not in readers:
            raise ValueError(f"path must hold a {wanted}, got a checkpoint of {kind}")
        return readers[kind](contents)
    except ValueError as error:
        raise ValueError(f"{error}, in {path}") from error
