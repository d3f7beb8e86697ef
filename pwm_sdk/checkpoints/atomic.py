"""Writing a file so that its name only ever leads to a complete one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pwm_sdk.calls import checked
from pwm_sdk.checks import file_path

__all__ = ["disk_errors", "is_part", "remove_parts", "sync", "write_atomic"]

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_PART = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)-[0-9a-f]{12}\.part", re.DOTALL)
_STALE = 3600.0  # seconds without a write after which a part of a dead process is removed


@checked()
def write_atomic(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Write a file through a temporary one beside it.

    Whoever opens `path`, at any moment or after a power cut, finds the old file or the new one,
    never a part of either: the bytes are on the disk before the name moves, and the name is there
    before this returns. A write that fails leaves the old file and no temporary one. Several
    processes or threads may write one file: each has a temporary file of its own, and the last to
    finish wins. A new file has the mode that the umask gives it, an old one keeps its own. Where
    `path` is a symbolic link, the file that it leads to is replaced.

    Args:
        path: the file; its folder is made where it is missing, and `~` is the home folder.
        write: called with the path of the temporary file, which it must write.

    Raises:
        OSError: if the file cannot be written, as on a full disk; it names the file.
        ValueError: if there is a pipe or a device of that name, which cannot be replaced.
    """
    path = file_path(path=path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    old = _mode(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part_of(path)
    with disk_errors(path):
        try:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            mode = stat.S_IMODE(part.stat().st_mode) if old is None else old
            write(part)
            part.chmod(mode)  # a writer may have put another file in its place
            sync(part)
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        sync(path.parent)
    remove_parts(path.parent, path.name)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Let what the system says of a write that fails name the file."""
    try:
        yield
    except Exception as error:
        if (cause := _disk_error(error, path)) is not None:
            raise cause from error
        raise


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_part(name: str) -> bool:
    """Tell whether a file's name is that of a temporary file of `write_atomic`."""
    return _PART.fullmatch(name) is not None


def remove_parts(folder: Path, name: str | None = None, *, age: float = _STALE) -> None:
    """Remove temporary files that writers left in a folder when they were killed.

    Only those of this machine's processes are removed, if their process is gone and nothing was
    written to them for some time.

    Args:
        folder: where to look.
        name: of the file that they were to become; None: of any.
        age: seconds since the last write, at least.
    """
    begin = "." if name is None else f".{_short(name)}."
    for entry in os.scandir(folder):
        found = _PART.fullmatch(entry.name) if entry.name.startswith(begin) else None
        if found is None or found[1] != _HOST or _is_alive(int(found[2])):
            continue
        try:
            if time.time() - entry.stat().st_mtime >= age:
                os.unlink(entry.path)
        except OSError:  # another process was faster, or the folder cannot be written
            continue


def _mode(path: Path) -> int | None:
    """Return the mode of a file that is to be replaced, None where there is none."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise ValueError(f"path must name a file of bytes, got the pipe or device {path}")
    return stat.S_IMODE(mode)


def _part_of(path: Path) -> Path:
    """Return the path of the temporary file of a write, which no other write has."""
    own = f"{_HOST}-{os.getpid()}-{secrets.token_hex(6)}"
    return path.with_name(f".{_short(path.name)}.{own}.part")


def _short(name: str) -> str:
    """Cut a name so that the temporary file's fits into what file systems allow."""
    return os.fsencode(name)[:180].decode(errors="ignore")


def _is_alive(pid: int) -> bool:
    """Tell whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user, or no number of a process
        return True
    return True


def _disk_error(error: Exception, path: Path) -> OSError | None:
    """Return what the system said of a write that failed, with the file's name, if it did."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno:
            return type(link)(link.errno, os.strerror(link.errno), str(path))
        if found := re.search(r"\(os error (\d+)\)", str(link)):  # as safetensors says it
            return OSError(int(found[1]), os.strerror(int(found[1])), str(path))
        link = link.__cause__ or link.__context__
    full = isinstance(error, RuntimeError) and shutil.disk_usage(path.parent).free < 1 << 20
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) if full else None
