"""Locks of folders, which the kernel releases with the process that holds them."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pwm_sdk.calls import checked, least, may_be_infinite
from pwm_sdk.checkpoints.atomic import remove_parts
from pwm_sdk.checks import file_path

try:
    import fcntl
except ImportError:  # not on Windows, which is not supported
    fcntl = None

__all__ = ["LOCK", "FolderLock", "lock_folder", "one_writer"]

LOCK = ".lock"


@checked(handle=least(0))
class FolderLock:
    """A folder that this process holds.

    Attributes:
        folder: its path.
    """

    def __init__(self, folder: Path, handle: int) -> None:
        self.folder, self._handle = folder, handle

    def __reduce__(self) -> Any:
        """Refuse a copy: the lock is the kernel's."""
        raise TypeError(f"lock must stay in the process that took it, got a copy of {self.folder}")

    def check(self) -> None:
        """Raise ValueError if the folder was removed or replaced meanwhile."""
        if not _is_named(self._handle, self.folder / LOCK):
            raise ValueError(f"folder must stay while it is in use, got {self.folder} removed")


@checked(wait=(least(0.0), may_be_infinite))
@contextlib.contextmanager
def lock_folder(path: str | os.PathLike[str], *, wait: float = 0.0) -> Iterator[FolderLock]:
    """Hold a folder for this process alone, as long as the `with` block lasts.

    The lock is the kernel's (`flock`, on a file `.lock` in the folder), so it ends with the process
    however that goes, and a file that is left over locks nothing. Only those who ask for the lock
    heed it. Threads of one process exclude one another as processes do. Temporary files of dead
    writers, in it and below it, are removed.

    Args:
        path: the folder; made where it is missing.
        wait: seconds to wait for another process; `math.inf` waits as long as it takes.

    Yields:
        The lock.

    Raises:
        ValueError: if another process holds it still.
    """
    folder = file_path(path=path).absolute()  # the process may go to another one meanwhile
    folder.mkdir(parents=True, exist_ok=True)
    handle = _take(folder / LOCK, time.monotonic() + wait)
    try:
        for place, _, _ in os.walk(folder):
            remove_parts(Path(place), age=0.0)
        yield FolderLock(folder, handle)
    finally:
        os.close(handle)


def _take(file: Path, deadline: float) -> int:
    """Open and lock a file; who holds it stands in it."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ValueError(f"{file} must be a file, got a pipe or device: delete it")
            locked = _lock(handle, at_once=True)
            if locked and not _is_named(handle, file):  # the folder was removed meanwhile
                os.close(handle)
                file.parent.mkdir(parents=True, exist_ok=True)
                continue
            if locked:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
                return handle
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if time.monotonic() >= deadline:
            by = f" (process {holder})" if holder else ""
            raise ValueError(f"folder must not be in use by another process{by}, got {file.parent}")
        time.sleep(0.02)


@contextlib.contextmanager
def one_writer(folder: Path, *, at_once: bool = False) -> Iterator[None]:
    """Let one writer after the other into a folder of several files, and leave nothing in it.

    Where the file system has no locks of folders, as some of networks, writers are not kept apart.

    Args:
        folder: the folder.
        at_once: do not wait for another writer.

    Raises:
        ValueError: With `at_once`, if there is one.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        free = True
        with contextlib.suppress(OSError):
            free = _lock(handle, at_once)
        if not free:
            raise ValueError(f"folder must have one writer at a time, got another in {folder}")
        yield
    finally:
        os.close(handle)


def _lock(handle: int, at_once: bool) -> bool:
    """Lock an open file or folder; with `at_once`, tell whether it was free."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if at_once else 0))
    except BlockingIOError:
        return False
    return True


def _is_named(handle: int, file: Path) -> bool:
    """Tell whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False
