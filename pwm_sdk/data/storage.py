"""Where the rows of a replay live: in memory, or as records of one file that is only read."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import TensorStorage
from torchrl.data.replay_buffers.storages import Storage

from pwm_sdk.data.entries import ROW_KEYS
from pwm_sdk.keys import ACTION, OBSERVATION, REAL, REWARD, TASK, TERMINATED

__all__ = [
    "DiskStorage",
    "RowStorage",
    "episode_blocks",
    "record_of",
    "record_type",
    "rows_of",
    "to_records",
]

_LAYOUT = {
    OBSERVATION: ("float32", ["O"]),
    ACTION: ("float32", ["A"]),
    REWARD: ("float32", [1]),
    TERMINATED: ("bool", [1]),
    TASK: ("int64", []),
}


class RowStorage(TensorStorage):
    """Rows of plain tensors, gathered by number.

    Args:
        storage: TensorDict `[N]` of tensors, on `device`; written in place.
        device: of the rows.
    """

    _storage: TensorDict

    def __init__(self, storage: TensorDict, *, device: torch.device | str) -> None:
        super().__init__(storage, device=device)

    def get(self, index: int | Sequence[int] | slice | Tensor) -> Any:
        """Return the rows `[B]` at `index` `[B]` int64, on any device; other indices as TorchRL."""
        if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype.is_floating_point:
            return super().get(index)  # pyright: ignore[reportArgumentType]
        return self.gather(index, list(self._storage.keys()))

    def gather(self, index: Tensor, names: Sequence[str]) -> TensorDict:
        """Return some entries of the rows at `index` `[..]` int64, as TensorDict `[..]`."""
        rows = index.flatten().to(self._storage.device)
        found = {}
        for name in names:
            entry = self._storage.get(name)
            found[name] = entry.index_select(0, rows).view(*index.shape, *entry.shape[1:])
        return TensorDict(found, batch_size=index.shape, device=self._storage.device)

    def between(self, begin: int, end: int) -> TensorDict:
        """Return a view of the rows from `begin` to before `end`."""
        return self._storage[begin:end]


class DiskStorage(Storage):
    """Rows that are read from a file whenever they are asked for, and never written.

    Rows that follow one another, such as those of a window, are one read. Nothing stays in the
    process's memory; the system may keep what was read as its cache of the file. Reads carry
    their own position, so threads and forked processes can share a storage (a process that trains
    must be forked before torch's first parallel work).

    Args:
        path: the file, records one after the other.
        record: what a record holds, from `record_type`.
        count: number of records.

    Raises:
        ValueError: if the file is missing or of another size.
    """

    def __init__(self, path: Path, record: np.dtype, count: int) -> None:
        path = path.absolute()  # a pickle may be opened in another folder
        expected, size = count * record.itemsize, path.stat().st_size if path.exists() else 0
        if size != expected or not size:
            raise ValueError(f"{path.name} must have {expected} bytes, got {size} in {path.parent}")
        super().__init__(count)
        self.path, self.record = path, record
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        if hasattr(os, "posix_fadvise"):  # windows lie anywhere: reading ahead is of no use
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return self.max_size * self.record.itemsize

    def gather(self, index: Tensor, names: Sequence[str]) -> TensorDict:
        """Return some entries of the rows at `index` `[..]` int64, as TensorDict `[..]`.

        Raises:
            IndexError: if a row is not in the file.
            OSError: if the file has become shorter.
        """
        records = self._read(index.flatten().cpu())
        found = {
            name: torch.from_numpy(np.ascontiguousarray(records[name])).unflatten(0, index.shape)
            for name in names
        }
        return TensorDict(found, batch_size=index.shape)

    def between(self, begin: int, end: int) -> TensorDict:
        """Return a copy of the rows from `begin` to before `end`."""
        return self.get(torch.arange(begin, end, device="cpu"))

    def blocks(self, size: int = 1 << 24) -> Iterator[memoryview]:
        """Yield the bytes of the file in order, `size` at a time."""
        total = self.num_bytes
        room = memoryview(bytearray(min(size, total)))
        for place in range(0, total, size):
            part = room[: min(size, total - place)]
            self._fill(part, place)
            yield part

    def get(self, index: Tensor) -> TensorDict:
        """Return the rows at `index` `[B]` int64."""
        return self.gather(index, list(self.record.names or ()))

    def _read(self, rows: Tensor) -> np.ndarray:
        """Read records `[N]` at `rows` `[N]`, run by run of rows that follow one another."""
        records, size = np.empty(len(rows), self.record), self.record.itemsize
        if not len(rows):
            return records
        if not 0 <= int(rows.min()) <= int(rows.max()) < self.max_size:
            raise IndexError(f"index must be in [0, {self.max_size}), got {rows}")
        room = records.view(np.uint8).data
        breaks = (rows.diff() != 1).nonzero().flatten() + 1
        begins = torch.cat([breaks.new_zeros(1), breaks])
        ends = torch.cat([breaks, breaks.new_tensor([len(rows)])])
        runs = torch.stack([rows[begins], begins, ends], dim=1) * size
        for first, begin, end in runs.tolist():
            self._fill(room[begin:end], first)
        return records

    def _fill(self, room: memoryview, place: int) -> None:
        """Read into `room` what stands from byte `place` on, as a rule in one call."""
        done = 0
        while done < len(room):
            found = os.pread(self._file, len(room) - done, place + done)
            if not found:
                raise OSError(f"{self.path} must have {self.max_size} records, but ends before")
            room[done : done + len(found)] = found
            done += len(found)

    def set(self, cursor: object, data: object, *, set_cursor: bool = True) -> None:
        """Refuse: the file is only read."""
        raise RuntimeError("rows on the disk are only read, got rows to write")

    def __len__(self) -> int:
        return self.max_size

    def __reduce__(self) -> Any:  # another process opens the file itself
        return DiskStorage, (self.path, self.record, self.max_size)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the rows are on the disk."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing."""

    def _empty(self) -> None:
        """Forget nothing."""


def record_type(entries: Mapping[str, Mapping[str, Any]]) -> np.dtype:
    """Return the layout of records as NumPy lays out a C struct, the widest entries first.

    Args:
        entries: dtype (`"float32"`, ...) and shape of each entry of a row, by name.
    """
    fields = [(name, np.dtype(entry["dtype"]), entry["shape"]) for name, entry in entries.items()]
    fields.sort(key=lambda field: (-field[1].itemsize, field[0]))
    return np.dtype([(name, dtype, tuple(shape)) for name, dtype, shape in fields], align=True)


def record_of(entries: object) -> np.dtype:
    """Return the layout of records that a manifest describes.

    Raises:
        ValueError: if it is not that of rows of episodes.
    """
    if not isinstance(entries, dict) or sorted(entries) != sorted(ROW_KEYS):
        found = sorted(entries) if isinstance(entries, dict) else entries
        raise ValueError(f"entries must be {ROW_KEYS}, got {found}")
    for name, entry in entries.items():
        dtype, shape = _LAYOUT[name]
        if not isinstance(entry, dict) or entry.get("dtype") != dtype:
            raise ValueError(f"dtype of {name} must be {dtype!r}, got {entry}")
        found: Any = entry.get("shape")
        sizes = isinstance(found, list) and all(type(n) is int and 0 < n < 2**31 for n in found)
        if not sizes or len(found) != len(shape) or (shape == [1] and found != [1]):
            raise ValueError(f"shape of {name} must be {shape}, got {entry}")
    return record_type(entries)


def to_records(rows: TensorDict, record: np.dtype) -> np.ndarray:
    """Pack rows `[N]` on the CPU as records `[N]`."""
    records = np.zeros(len(rows), record)
    for name in record.names or ():
        records[name] = rows.get(name).numpy()
    return records


def rows_of(episodes: Tensor, capacity: int, *, real: bool = False) -> tuple[Tensor, Tensor]:
    """Return each row of some episodes in a ring, and its place in its episode.

    Args:
        episodes: rows of `EpisodeSampler.episodes`, `[.., 5]`.
        capacity: rows of the ring.
        real: the real rows only.
    """
    start, length = episodes[:, 0], episodes[:, 3 if real else 1]
    begin = (length.cumsum(0) - length).repeat_interleave(length)
    offset = torch.arange(len(begin), device="cpu") - begin
    return (start.repeat_interleave(length) + offset) % capacity, offset


def episode_blocks(
    storage: RowStorage | DiskStorage, episodes: Tensor, capacity: int, size: int
) -> Iterator[tuple[TensorDict, Tensor]]:
    """Yield copies of the rows `[N]` of episodes, with real, and the part of `episodes` they are.

    Args:
        storage: has the rows.
        episodes: see `EpisodeSampler.episodes`, `[.., 5]`.
        capacity: rows of the ring.
        size: number of episodes at a time.
    """
    for block in episodes.split(size):
        places, offset = rows_of(block, capacity)
        rows = storage.gather(places, ROW_KEYS)
        real = (offset < block[:, 3].repeat_interleave(block[:, 1])).unsqueeze(-1)
        yield rows.set(REAL, real.to(rows[ROW_KEYS[0]].device)), block
