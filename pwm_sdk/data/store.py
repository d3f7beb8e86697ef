"""A folder of named tensors that is replaced as a whole or not at all, and never runs code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from pwm_sdk.checkpoints.atomic import remove_parts
from pwm_sdk.checkpoints.locks import one_writer
from pwm_sdk.checkpoints.reading import read_json, read_tensors
from pwm_sdk.checkpoints.writing import write_json, write_tensors
from pwm_sdk.checks import file_path

__all__ = ["MANIFEST", "describe", "naming", "read_folder", "read_manifest", "write_folder"]

MANIFEST = "manifest.json"
_NAME = re.compile(r"tensors-([0-9]{1,18})\.safetensors")
_LAST = 10**18 - 1
_ATTEMPTS = 100  # to read a folder that others write without a pause


def write_folder(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write tensors and a description of them into a folder, replacing what it holds.

    The tensors go to a new file first, the manifest that names that file replaces the old manifest
    last: whoever reads, at any moment or after a crash, finds the old state or the new one.

    Args:
        path: the folder; made where it is missing.
        tensors: any shapes and dtypes; moved to the CPU.
        about: JSON values, among them `format` and `version`.

    Raises:
        ValueError: If the folder holds something that this function did not write.
    """
    folder = file_path(path=path)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {key: value.cpu().contiguous() for key, value in tensors.items()}
    with one_writer(folder):
        manifest = folder / MANIFEST
        old = read_json(manifest, dict).get("tensors") if manifest.exists() else ""
        if not isinstance(old, str):
            raise ValueError(f"path must not hold another kind of data, got {str(folder)!r}")
        number = _NAME.fullmatch(old)
        name = f"tensors-{int(number[1]) % _LAST + 1 if number else 1}.safetensors"
        write_tensors(folder / name, contents, {})
        write_json(manifest, {**about, "tensors": name})
        for file in folder.glob("tensors-*"):
            if file.name != name:
                file.unlink(missing_ok=True)
        remove_parts(folder)


def read_folder(
    path: str | os.PathLike[str], *, format: str, version: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_folder` wrote.

    Args:
        path: the folder.
        format: the `format` its manifest must state.
        version: the newest `version` the caller understands.

    Returns:
        The tensors, on the CPU, and the manifest.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder is damaged, of another format or a newer version.
    """
    last: Any = None
    for _ in range(_ATTEMPTS):
        about = read_manifest(path, format=format, version=version)
        name = str(about.get("tensors"))
        if not _NAME.fullmatch(name):  # no path to somewhere else
            raise ValueError(f"{MANIFEST} must name a file of tensors, got {name!r} in {path}")
        try:
            return read_tensors(file_path(path=path) / name).tensors, about
        except FileNotFoundError:  # a writer replaced what the manifest named
            if about == last:
                break
        last = about
    raise ValueError(
        f"path must hold the file {last['tensors']!r} of its manifest, got {str(path)!r}"
    )


def read_manifest(path: str | os.PathLike[str], *, format: str, version: int) -> dict[str, Any]:
    """Read the description of a folder, and check what it describes.

    Args:
        path: the folder.
        format: the `format` it must state.
        version: the newest `version` the caller understands.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder is damaged, of another format or a newer version.
    """
    about = describe(path)
    stated = about.get("version")
    known = isinstance(stated, int) and not isinstance(stated, bool) and 1 <= stated <= version
    if about.get("format") != format or not known:
        found = f"{about.get('format')!r} version {stated!r} in {str(path)!r}"
        raise ValueError(f"path must hold {format!r} version <= {version}, got {found}")
    return about


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the manifest of a folder of any format.

    Raises:
        FileNotFoundError: If there is no such folder, or it has no manifest.
        ValueError: If the manifest is no JSON object.
    """
    manifest = file_path(path=path) / MANIFEST
    if not manifest.exists():
        raise FileNotFoundError(f"path must be a folder with a {MANIFEST}, got {str(path)!r}")
    return read_json(manifest, dict)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the path to the message of a ValueError that does not name it."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{error} in {str(path)!r}") from error
