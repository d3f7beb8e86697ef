"""Reading JSON, tensors and states: whole and undamaged, or a ValueError that names the file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pwm_sdk.calls import checked
from pwm_sdk.checks import file_path

__all__ = [
    "DIGEST",
    "STATE",
    "STATE_VERSION",
    "OtherRunError",
    "Tensors",
    "bytes_of",
    "check_archive",
    "digest_of",
    "existing_file",
    "load_state",
    "read_json",
    "read_tensors",
]

DIGEST = "digest"
STATE, STATE_VERSION = "pwm_sdk.state", 1


class OtherRunError(ValueError):
    """A file is whole, but of another run or another version than the one that reads it."""


class Tensors(NamedTuple):
    """What stands in a safetensors file.

    Attributes:
        tensors: by name, on the CPU.
        about: the file's metadata.
    """

    tensors: dict[str, Tensor]
    about: dict[str, str]


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that is there.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is a folder, a pipe or a device, or no path.
    """
    path = file_path(path=path)
    if not path.exists():
        raise FileNotFoundError(f"path must name a file, got {path}")
    if not path.is_file():  # a pipe would be waited for
        kind = "folder" if path.is_dir() else "pipe or device"
        raise ValueError(f"path must name a file, got the {kind} {path}")
    return path


@checked()
def read_json(
    path: str | os.PathLike[str], kind: type = object, *, remedy: str = "restore it"
) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        kind: what its value must be: `dict`, `list`, or `object` for any.
        remedy: what to do about a damaged file, for the message.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or of another kind; the message names it.
    """
    path = existing_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # of JSON and of UTF-8
        reason = str(error) or "too deep"
        raise ValueError(f"{path} must be undamaged JSON, got {reason}: {remedy}") from error
    if not isinstance(value, kind):
        found = type(value).__name__
        raise ValueError(f"{path} must hold a JSON {kind.__name__}, got {found}: {remedy}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dictionary of a JSON object."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name twice in {sorted(found)[:8]}")
    return found


def read_tensors(path: str | os.PathLike[str], *, remedy: str = "restore it") -> Tensors:
    """Read a safetensors file, and compare its contents with the digest that `write_tensors` left.

    Args:
        path: the file; one without a digest, as other programs write them, is read all the same.
        remedy: what to do about a damaged file, for the message.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged; the message names it.
    """
    path = existing_file(path)
    seen = path.stat()
    try:
        return _tensors_of(path, remedy)
    except ValueError:
        now = existing_file(path).stat()
        if (now.st_ino, now.st_mtime_ns) == (seen.st_ino, seen.st_mtime_ns):
            raise
    return read_tensors(path, remedy=remedy)  # replaced while it was read, which opens it twice


def _tensors_of(path: Path, remedy: str) -> Tensors:
    """Read a file as `read_tensors`, unless it is replaced meanwhile."""
    try:
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} must be an undamaged safetensors file, got {reason}: {remedy}"
        ) from error
    expected = about.pop(DIGEST, None)
    if expected is not None and digest_of(tensors, about) != expected:
        raise ValueError(f"{path} must hold what was written, got other bytes: {remedy}")
    return Tensors(tensors, about)


def digest_of(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Return a digest of tensors and metadata, whatever order they are in."""
    found = hashlib.blake2b(digest_size=16)
    for key in sorted(about):
        found.update(repr((key, about[key])).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        found.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        found.update(bytes_of(value))
    return found.hexdigest()


def bytes_of(value: Tensor) -> Any:
    """Return the bytes of a contiguous tensor of the CPU, without a copy."""
    if not value.numel():
        return b""
    flat = value.as_strided((value.numel(),), (1,))  # one row may have any stride
    return flat.view(torch.uint8).numpy().data


@checked()
def load_state(
    path: str | os.PathLike[str],
    about: Mapping[str, Any] | None = None,
    *,
    remedy: str = "delete it to start over",
) -> Any:
    """Read what `save_state` wrote, running no code from it.

    Args:
        path: the file.
        about: what the file must say that it belongs to, as it was handed to `save_state`; None
            takes any.
        remedy: what to do about a damaged or foreign file, for the message.

    Returns:
        The state, with its tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        OtherRunError: if it is of another version or of something else than `about`.
        ValueError: if it is damaged, or would run code; the message names it.
    """
    path = existing_file(path)
    try:
        check_archive(path, checksums=True)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        reason = _state_reason(error)
        raise ValueError(f"{path} must be an undamaged state, got {reason}: {remedy}") from error
    if not isinstance(held, dict) or held.get("format") != STATE or "contents" not in held:
        raise OtherRunError(
            f"{path} must be a state of this version, got another program's file or an older "
            f"one: {remedy}"
        )
    version, belongs = held.get("version"), _json(held.get("about"))  # of any type in other files
    if type(version) is not int or version != STATE_VERSION:
        raise OtherRunError(
            f"{path} must be a state of version {STATE_VERSION}, got version {version}: {remedy}"
        )
    if about is not None and belongs != _json(dict(about)):
        raise OtherRunError(f"{path} must belong to {dict(about)}, got {belongs}: {remedy}")
    return held["contents"]


def _json(about: object) -> str:
    """Write what a state belongs to as text, to compare it."""
    return json.dumps(about, sort_keys=True, default=str)


def check_archive(path: Path, *, checksums: bool = False) -> None:
    """Check that a zip archive is as `torch.save` writes it, so that it holds no more than itself.

    Args:
        path: the archive.
        checksums: also compare what is in it with its checksums.

    Raises:
        ValueError: if its entries are compressed or larger than the file, or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        held, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if held > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError(f"an archive of {size} bytes that unpacks to {held}")
        if checksums and (wrong := archive.testzip()) is not None:
            raise ValueError(f"other bytes than were written in {wrong}")


def _state_reason(error: Exception) -> str:
    """Say why a state did not load, without advice to let it run code."""
    if isinstance(error, pickle.UnpicklingError):
        return "objects that would run code, or a damaged pickle"
    first = (str(error) or type(error).__name__).splitlines()[0]
    return first if isinstance(error, ValueError | zipfile.BadZipFile) else type(error).__name__
