"""A folder of named tensors that is replaced as a whole or not at all, and never runs code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from pwm_sdk.checkpoints.atomic import write_atomic

__all__ = ["MANIFEST", "describe", "read_folder", "read_manifest", "write_folder"]

MANIFEST = "manifest.json"


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
    folder = Path(path)
    manifest = folder / MANIFEST
    old = json.loads(manifest.read_text()).get("tensors") if manifest.exists() else "tensors-0"
    if old is None:
        raise ValueError(f"path must not hold another kind of data, got {str(folder)!r}")
    name = f"tensors-{int(old.split('-')[1].split('.')[0]) + 1}.safetensors"
    contents = {key: value.cpu().contiguous() for key, value in tensors.items()}
    write_atomic(folder / name, lambda part: save_file(contents, part))
    text = json.dumps({**about, "tensors": name}, indent=2) + "\n"
    write_atomic(manifest, lambda part: part.write_text(text))
    for file in folder.glob("tensors-*"):
        if file.name != name:
            file.unlink()


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
        ValueError: If the folder is of another format or a newer version.
    """
    about = read_manifest(path, format=format, version=version)
    return load_file(Path(path) / Path(about["tensors"]).name), about


def read_manifest(path: str | os.PathLike[str], *, format: str, version: int) -> dict[str, Any]:
    """Read the description of a folder, and check what it describes.

    Args:
        path: the folder.
        format: the `format` it must state.
        version: the newest `version` the caller understands.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder is of another format or a newer version.
    """
    about = describe(path)
    if about.get("format") != format or not about.get("version", version + 1) <= version:
        found = f"{about.get('format')!r} version {about.get('version')}"
        raise ValueError(f"path must hold {format!r} version <= {version}, got {found}")
    return about


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the manifest of a folder of any format.

    Raises:
        FileNotFoundError: If there is no such folder, or it has no manifest.
    """
    manifest = Path(path) / MANIFEST
    if not manifest.exists():
        raise FileNotFoundError(f"path must be a folder with a {MANIFEST}, got {str(path)!r}")
    return json.loads(manifest.read_text())
