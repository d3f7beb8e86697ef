"""Opening `.pt` files that other programs pickled, without running anything that they ask for."""

from __future__ import annotations

import os
import pickle
import pickletools
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
)

from pwm_sdk.calls import checked
from pwm_sdk.checkpoints.reading import check_archive, existing_file

__all__ = ["is_pickled", "open_foreign"]

_MAGIC = (b"PK", b"\x80")  # a zip archive, as torch writes since 1.6, or a bare pickle
_DEPTH, _ENTRIES = 100, 1_000_000  # of what is opened; published files have 4 and some thousands
_EXPANSION, _SMALL = 16, 1 << 24  # bytes of tensors: times the file's, or these for small files


class _Inert:
    """Attributes of a pickled object; stands in for its class, whose code stays unused."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping):
            raise ValueError(f"attributes must be a dictionary, got {type(state).__name__}")
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
    with existing_file(path).open("rb") as file:
        first = file.read(9)
    return first.startswith(_MAGIC) and not first.endswith(b"{")  # safetensors: length, then JSON


@checked()
def open_foreign(path: str | os.PathLike[str]) -> Any:
    """Read a file that `torch.save` wrote, running no code from it.

    Tensors are mapped from the file, on the CPU: their bytes are read when they are used. A
    TensorDict comes back as a dictionary of its entries, statistics of PWM's program as one of
    their attributes, a tensor of the `meta` device, which has no values, as None.

    A file can make this process hold little more than its own size: archives that unpack to more,
    tensors that repeat a few bytes, and dictionaries that are nested very deep, hold themselves or
    lead to one another in too many ways are refused. Several threads may open files at once; while
    one does, `torch.load` of other threads takes no classes of `add_safe_globals`.

    Args:
        path: the file.

    Returns:
        Tensors, numbers and text in dictionaries, lists and tuples.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated or damaged, larger inside than outside, or asks for an
            object that is neither a tensor nor one of those above; the message names what it asks
            for.
    """
    path = existing_file(path)
    try:
        zipped = _is_zip(path)
        if zipped:
            check_archive(path)
        with _only_stand_ins():
            contents = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged pickle can fail in any way
        with _only_stand_ins():
            reason = _reason(path, error)
        raise ValueError(reason) from error
    try:
        return _Plain(path.stat().st_size).of(contents)
    except ValueError as error:
        raise ValueError(f"{error}, in {path}") from error


_LOCK = threading.Lock()


def _renew_lock() -> None:
    """Give a forked process a lock that no thread of its parent holds."""
    global _LOCK
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def _only_stand_ins() -> Iterator[None]:
    """Let files ask for stand-ins only, whatever else the running program allows.

    What torch allows is the whole process's: one thread at a time, and what other threads allow
    meanwhile stays allowed.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the pickle's protocol
        others = get_safe_globals()
        clear_safe_globals()
        add_safe_globals(_STAND_INS)  # pyright: ignore[reportArgumentType]
        try:
            yield
        finally:
            others += [entry for entry in get_safe_globals() if entry not in _STAND_INS]
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
    detail = "" if "weights_only" in detail else detail.strip().partition(". ")[0]
    cause = f"{type(error).__name__} {detail}".strip()
    return f"path must be a complete file of torch.save, got {path} ({cause})"


def _asked_for(path: Path) -> set[str]:
    """Name the classes and functions of a file that are refused, as far as it can be read."""
    try:
        return set(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not an archive, or too damaged for a look inside
        found, words = set(), [""]
    with path.open("rb") as file, suppress(ValueError):  # raised at the end of what is a pickle
        while True:  # releases before 1.6 wrote several, one after the other
            for code, argument, _ in pickletools.genops(file):
                if code.name == "GLOBAL":
                    found.add(str(argument).replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    found.add(".".join(words[-2:]))
                elif isinstance(argument, str):
                    words.append(argument)
    return {name for name in found if not name.startswith(("torch", "collections.OrderedDict"))}


class _Plain:
    """Replaces stand-ins by dictionaries, at any depth, and counts what it finds.

    Args:
        size: of the file in bytes.
    """

    def __init__(self, size: int) -> None:
        self.room = max(_SMALL, _EXPANSION * size)
        self.found: dict[int, tuple[Any, Any, int]] = {}  # by id: what it was, is and how large
        self.open: set[int] = set()

    def of(self, value: object) -> Any:
        """Return a value without stand-ins.

        Raises:
            ValueError: if it holds itself, is too deep or too large, or has tensors of odd kinds.
        """
        return self._visit(value, 0)[0]

    def _visit(self, value: object, depth: int) -> tuple[Any, int]:
        """Return a value without stand-ins and its number of entries, counted once for each way."""
        if isinstance(value, Tensor):
            return (None if value.is_meta else self._checked(value)), 1
        if not isinstance(value, _Inert | dict | list | tuple):
            return value, 1
        if (known := self.found.get(id(value))) is not None:
            return known[1:]
        if id(value) in self.open:
            raise ValueError("entries must form a tree, got one that holds itself")
        if depth > _DEPTH:
            raise ValueError(f"entries must be nested at most {_DEPTH} deep, got more")
        self.open.add(id(value))
        plain, count = self._inside(value, depth + 1)
        self.open.remove(id(value))
        if count > _ENTRIES:
            raise ValueError(f"entries must be at most {_ENTRIES}, got more")
        self.found[id(value)] = value, plain, count
        return plain, count

    def _inside(self, value: Any, depth: int) -> tuple[Any, int]:
        """Visit what a dictionary, a sequence or a stand-in holds."""
        if isinstance(value, _Inert):
            held = vars(value)
            plain, count = self._visit(
                held.get("_tensordict", {}) if isinstance(value, _Chunk) else dict(held), depth
            )
            return plain, count + 1
        if isinstance(value, dict):
            found = {key: self._visit(entry, depth) for key, entry in value.items()}
            counts = (count for _, count in found.values())
            return {key: plain for key, (plain, _) in found.items()}, 1 + sum(counts)
        visited = [self._visit(entry, depth) for entry in value]
        entries = [plain for plain, _ in visited]
        made = entries if isinstance(value, list) else _tuple_as(value, entries)
        return made, 1 + sum(count for _, count in visited)

    def _checked(self, value: Tensor) -> Tensor:
        """Take a tensor's bytes from the room, once for each tensor."""
        if value.device.type != "cpu" or value.layout != torch.strided or value.is_quantized:
            kind = f"{value.layout} on {value.device}"
            raise ValueError(f"tensors must be dense ones of the CPU, got {kind}")
        if id(value) not in self.found:
            self.found[id(value)] = value, value, 1
            self.room -= value.numel() * value.element_size()
            if self.room < 0:
                raise ValueError("tensors must not repeat the bytes of a file many times, got some")
        return value


def _tuple_as(value: tuple[Any, ...], entries: list[Any]) -> tuple[Any, ...]:
    """Return a tuple of the same kind, such as a `torch.Size`."""
    return value if all(a is b for a, b in zip(value, entries, strict=True)) else tuple(entries)
