"""Writing JSON, tensors and states: atomically, with what `reading` checks them by."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pwm_sdk.calls import checked
from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.checkpoints.reading import DIGEST, STATE, STATE_VERSION, bytes_of, digest_of

__all__ = ["save_state", "write_json", "write_pickled", "write_tensors"]

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@checked()
def write_json(path: str | os.PathLike[str], value: object) -> None:
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

    Equal tensors and metadata give equal bytes, unlike the library's own writer, which orders
    metadata at random and leaves a file of its own where it is killed.

    Args:
        path: the file.
        tensors: any shapes; moved to the CPU.
        about: metadata.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if a tensor is of a type that such files do not have.
    """
    contents = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = _header(contents, {**about, DIGEST: digest_of(contents, about)})

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name in _order(contents):
                file.write(bytes_of(contents[name]))

    write_atomic(path, write)


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the order of tensors in a file: the widest numbers first, so that all are aligned."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _header(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """Return what a safetensors file says of its tensors, in whole words of 8 bytes."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(about.items()))}
    end = 0
    for name in _order(tensors):
        value = tensors[name]
        if value.dtype not in _TYPES:
            raise ValueError(f"{name} must be of a type in {list(_TYPES)}, got {value.dtype}")
        begin, end = end, end + value.numel() * value.element_size()
        entry = {"dtype": _TYPES[value.dtype], "shape": [*value.shape]}
        header[name] = entry | {"data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


@checked()
def save_state(
    path: str | os.PathLike[str], state: object, about: Mapping[str, Any] | None = None
) -> None:
    """Write a state that a run continues from, atomically; `load_state` reads it.

    Args:
        path: the file.
        state: tensors, numbers and text in dictionaries and lists, such as a `state_dict()`.
        about: what the state belongs to, such as the settings of a run; JSON values.
    """
    held = {"format": STATE, "version": STATE_VERSION, "about": dict(about or {})}
    held["contents"] = state

    write_pickled(path, held)


def write_pickled(path: str | os.PathLike[str], value: object) -> None:
    """Write what `torch.save` does, atomically.

    Args:
        path: the file.
        value: anything that can be pickled.
    """

    def write(part: Path) -> None:
        with part.open("wb") as file:  # torch's own keeps it open, and says not why a write fails
            torch.save(value, file)

    write_atomic(path, write)
