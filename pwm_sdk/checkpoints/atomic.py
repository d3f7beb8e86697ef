"""Writing a file so that its name only ever leads to a complete one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pwm_sdk.calls import checked

__all__ = ["sync", "write_atomic"]


@checked()
def write_atomic(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Write a file through a temporary one beside it.

    Whoever opens `path`, at any moment or after a power cut, finds the old file or the new one,
    never a part of either: the bytes are on the disk before the name moves, and the name is there
    before this returns. A write that fails leaves the old file and no temporary one.

    Args:
        path: the file; its folder is made where it is missing.
        write: called with the path of the temporary file, which it must write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        sync(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
