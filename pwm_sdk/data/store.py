"""A folder of named tensors that is replaced as a whole or not at all, and never runs code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pwm_sdk.checkpoints.atomic import write_atomic

try:
    import fcntl
except ModuleNotFoundError:  # on Windows, where two writers of a folder are not kept apart
    fcntl = None

__all__ = [
    "MANIFEST",
    "check_digest",
    "describe",
    "digest_of",
    "naming",
    "new_digest",
    "read_folder",
    "read_manifest",
    "read_tensors",
    "write_folder",
]

MANIFEST = "manifest.json"
_TRIES = 3  # a writer may replace the file between the reads of its name and of itself


def write_folder(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write tensors and a description of them into a folder, replacing what it holds.

    The tensors go to a new file first, the manifest that names that file replaces the old manifest
    last: whoever reads, at any moment or after a crash, finds the old state or the new one. Of
    several writers one waits for the other.

    Args:
        path: the folder; made where it is missing.
        tensors: any shapes and dtypes; moved to the CPU.
        about: JSON values, among them `format` and `version`.

    Raises:
        ValueError: If the folder holds something that this function did not write.
    """
    folder = Path(path).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    contents = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    about = {**about, "digest": digest_of(contents)}
    with _alone(folder):
        manifest = folder / MANIFEST
        old = describe(folder).get("tensors") if manifest.exists() else "tensors-0"
        number = re.match(r"tensors-(\d{1,18})", str(old))
        if number is None:
            raise ValueError(f"path must not hold another kind of data, got {str(folder)!r}")
        name = f"tensors-{int(number[1]) + 1}.safetensors"
        write_atomic(folder / name, lambda part: save_file(contents, part))
        text = json.dumps({**about, "tensors": name}, indent=2) + "\n"
        write_atomic(manifest, lambda part: part.write_text(text))
        for file in folder.glob("tensors-*"):
            if file.name != name:
                file.unlink(missing_ok=True)


def read_folder(
    path: str | os.PathLike[str],
    *,
    format: str,
    version: int,
    digest_since: int | None = None,
    verify: bool = True,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_folder` wrote.

    Args:
        path: the folder.
        format: the `format` its manifest must state.
        version: the newest `version` the caller understands.
        digest_since: the first version whose manifest must have a digest.
        verify: compare the tensors with the digest of the manifest, where it has one.

    Returns:
        The tensors, on the CPU, and the manifest.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder is damaged, of another format or of a newer version.
    """
    folder = Path(path).expanduser()
    for attempt in range(_TRIES):
        about = read_manifest(folder, format=format, version=version)
        name = Path(str(about.get("tensors"))).name
        if (folder / name).is_file() or attempt == _TRIES - 1:
            break
    tensors = read_tensors(folder / name)
    due = digest_since is not None and about["version"] >= digest_since
    if verify and ("digest" in about or due):
        check_digest(about.get("digest"), digest_of(tensors), folder / name)
    return tensors, about


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises:
        ValueError: If it is missing or damaged; the message names it.
    """
    try:
        return load_file(path)
    except Exception as error:  # a damaged header can fail in any way
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"path must hold an undamaged {path.name}, got {str(path)!r} ({cause}): "
            "restore or write the folder again"
        ) from error


def check_digest(expected: Any, found: str, path: Path) -> None:
    """Raise ValueError, which names the file, for bytes other than those that were written."""
    if expected != found:
        raise ValueError(
            f"{path.name} must have the digest {expected} of its manifest, got {found} in "
            f"{str(path.parent)!r}: the file is damaged, restore or write the folder again"
        )


def read_manifest(path: str | os.PathLike[str], *, format: str, version: int) -> dict[str, Any]:
    """Read the description of a folder, and check what it describes.

    Args:
        path: the folder.
        format: the `format` it must state.
        version: the newest `version` the caller understands.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder is damaged, of another format or of a newer version.
    """
    about = describe(path)
    stated = about.get("version")
    known = isinstance(stated, int) and not isinstance(stated, bool) and 1 <= stated <= version
    if about.get("format") != format or not known:
        found = f"{about.get('format')!r} version {stated} in {str(path)!r}"
        raise ValueError(f"path must hold {format!r} version <= {version}, got {found}")
    return about


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the manifest of a folder of any format.

    Raises:
        FileNotFoundError: If there is no such folder, or it has no manifest.
        ValueError: If the manifest is no JSON object.
    """
    manifest = Path(path).expanduser() / MANIFEST
    if not manifest.exists():
        raise FileNotFoundError(f"path must be a folder with a {MANIFEST}, got {str(path)!r}")
    try:
        about = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"path must hold an undamaged {MANIFEST}, got {str(manifest)!r} ({error}): "
            "restore or write the folder again"
        ) from error
    if not isinstance(about, dict):
        raise ValueError(f"{MANIFEST} must be an object, got {type(about)} in {str(path)!r}")
    return about


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the path to the message of a ValueError that does not name it."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{error} in {str(path)!r}") from error


def new_digest() -> Any:
    """Return the hash that data are signed with: it finds damage, it does not stop forgers."""
    return hashlib.blake2b(digest_size=16)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the digest of tensors on the CPU, by name, type, shape and bytes."""
    digest = new_digest()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        if value.numel():
            flat = value.clone(memory_format=torch.contiguous_format).flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one writer into a folder at a time; the kernel frees it if the writer dies."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
