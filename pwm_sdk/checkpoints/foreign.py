"""Opening `.pt` files that other programs pickled, without running anything that they ask for."""

from __future__ import annotations

import os
import pickle
import pickletools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
)

from pwm_sdk.calls import checked

__all__ = ["is_pickled", "open_foreign"]

_MAGIC = (b"PK", b"\x80")  # a zip archive, as torch writes since 1.6, or a bare pickle


class _Inert:
    """Attributes of a pickled object; stands in for its class, whose code stays unused."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)


class _Chunk(_Inert):
    """Stands in for a TensorDict."""


class _Statistics(_Inert):
    """Stands in for the running mean and variance of PWM's program."""


def _rebuilt_chunk(cls: type, state: Mapping[str, Any]) -> _Chunk:
    """Stand in for the function that newer releases of tensordict pickle a TensorDict with."""
    chunk = _Chunk()
    chunk.__setstate__(state)
    return chunk


_STAND_INS = [
    (_Chunk, "tensordict.tensordict.TensorDict"),  # until release 0.2
    (_Chunk, "tensordict._td.TensorDict"),
    (_rebuilt_chunk, "tensordict._reductions._make_td"),
    (dict, "tensordict.utils._StringOnlyDict"),
    (set, "builtins.set"),
    (_Statistics, "pwm.utils.running_mean_std.RunningMeanStd"),
]


def is_pickled(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file begins as those that `torch.save` writes."""
    with Path(path).open("rb") as file:
        first = file.read(9)
    return first.startswith(_MAGIC) and not first.endswith(b"{")  # safetensors: length, then JSON


@checked()
def open_foreign(path: str | os.PathLike[str]) -> Any:
    """Read a file that `torch.save` wrote, running no code from it.

    Tensors are mapped from the file, on the CPU: their bytes are read when they are used. A
    TensorDict comes back as a dictionary of its entries, statistics of PWM's program as one of
    their attributes.

    Args:
        path: the file.

    Returns:
        Tensors, numbers and text in dictionaries, lists and tuples.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated or damaged, or asks for an object that is neither a
            tensor nor one of those above; the message names what it asks for.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path must name a file, got {path}")
    with _only_stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the pickle's protocol
        try:
            contents = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        except Exception as error:  # a damaged pickle can fail in any way
            raise ValueError(_reason(path, error)) from error
    return _plain(contents)


@contextmanager
def _only_stand_ins() -> Iterator[None]:
    """Let files ask for stand-ins only, whatever else the running program allows."""
    others = get_safe_globals()
    clear_safe_globals()
    add_safe_globals(_STAND_INS)  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(others)


def _is_zip(path: Path) -> bool:
    """Tell whether a file can be mapped; bare pickles of old releases cannot."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _reason(path: Path, error: Exception) -> str:
    """Say why a file did not open: what it would run, or that it is damaged."""
    if asked := _asked_for(path):
        names = ", ".join(sorted(asked))
        return f"path must hold tensors only, got {path}, which would run code of {names}"
    *_, detail = str(error).partition("WeightsUnpickler error:")  # before it: advice to run code
    detail = detail or ("" if isinstance(error, pickle.UnpicklingError) else str(error))
    cause = f"{type(error).__name__} {detail.strip().partition('. ')[0]}".strip()
    return f"path must be a complete file of torch.save, got {path} ({cause})"


def _asked_for(path: Path) -> set[str]:
    """Name the classes and functions of a file that are refused, as far as it can be read."""
    try:
        return set(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not an archive, or too damaged for a look inside
        found, words = set(), [""]
    with path.open("rb") as file, suppress(ValueError):  # raised at the end of what is a pickle
        while True:  # releases before 1.6 wrote several, one behind the other
            for code, argument, _ in pickletools.genops(file):
                if code.name == "GLOBAL":
                    found.add(str(argument).replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    found.add(".".join(words[-2:]))
                elif isinstance(argument, str):
                    words.append(argument)
    return {name for name in found if not name.startswith(("torch", "collections.OrderedDict"))}


def _plain(value: Any) -> Any:
    """Replace stand-ins by dictionaries, at any depth of dictionaries."""
    if isinstance(value, _Chunk):
        value = vars(value).get("_tensordict", {})
    elif isinstance(value, _Inert):
        value = vars(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value
