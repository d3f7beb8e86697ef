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

__all__ = ["read_folder", "write_folder"]

_MANIFEST = "manifest.json"


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
    manifest = folder / _MANIFEST
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
    manifest = Path(path) / _MANIFEST
    if not manifest.exists():
        raise FileNotFoundError(f"path must be a folder with a {_MANIFEST}, got {str(path)!r}")
    about = json.loads(manifest.read_text())
    if about.get("format") != format or not about.get("version", version + 1) <= version:
        found = f"{about.get('format')!r} version {about.get('version')}"
        raise ValueError(f"path must hold {format!r} version <= {version}, got {found}")
    return load_file(manifest.parent / Path(about["tensors"]).name), about
