"""Writing JSON, tensors and states: atomically, with what `reading` checks them by."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pwm_sdk.calls import checked
from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.checkpoints.reading import DIGEST, STATE, STATE_VERSION, digest_of

__all__ = ["save_state", "write_json", "write_tensors"]


@checked()
def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically.

    Args:
        path: the file.
        value: of dictionaries, lists, numbers and text.
    """
    try:
        text = json.dumps(value, indent=1) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"value must be JSON for {path}, got {error}") from error
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], about: Mapping[str, str]
) -> None:
    """Write a safetensors file atomically, with a digest that `read_tensors` checks.

    Equal tensors and metadata give equal bytes.

    Args:
        path: the file.
        tensors: any shapes and dtypes; moved to the CPU.
        about: metadata.
    """
    contents = {name: value.cpu().contiguous() for name, value in tensors.items()}
    metadata = {**about, DIGEST: digest_of(contents, about)}

    def write(part: Path) -> None:
        save_file(contents, part, metadata)
        _order_metadata(part)

    write_atomic(path, write)


def _order_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, which the library writes in random order."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # a header may end in spaces
            file.seek(8)
            file.write(text.ljust(length))


@checked()
def save_state(
    path: str | os.PathLike[str], state: Any, about: Mapping[str, Any] | None = None
) -> None:
    """Write a state that a run continues from, atomically; `load_state` reads it.

    Args:
        path: the file.
        state: tensors, numbers and text in dictionaries and lists, as of `state_dict()`.
        about: what the state belongs to, such as the settings of a run; JSON values.
    """
    held = {"format": STATE, "version": STATE_VERSION, "about": dict(about or {})}
    held["contents"] = state

    def write(part: Path) -> None:
        with part.open("wb") as file:  # unlike torch's own, this one says why a write fails
            torch.save(held, file)

    write_atomic(path, write)
