"""A dataset folder: rows of many episodes in one file, read from it when they are used."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.checkpoints.atomic import disk_errors, sync
from pwm_sdk.checkpoints.locks import one_writer
from pwm_sdk.checkpoints.reading import DIGEST, read_tensors
from pwm_sdk.checkpoints.writing import write_json, write_tensors
from pwm_sdk.checks import file_path
from pwm_sdk.data.disk import DiskStorage, record_type, to_records
from pwm_sdk.data.episode import of_tasks
from pwm_sdk.data.row_checks import ROW_KEYS, check_rows, marked, per_episode
from pwm_sdk.data.state import LENGTH, REAL_LENGTH, episode_counts
from pwm_sdk.data.store import MANIFEST, read_manifest
from pwm_sdk.keys import ACTION, OBSERVATION, REAL, REWARD, TASK, TERMINATED

__all__ = ["DATASET", "Dataset", "DatasetWriter", "open_dataset"]

DATASET, _VERSION, _OLDEST = "pwm_sdk.dataset", 3, 2  # since 3: real rows, ends and digests
_ROWS, _INDEX = "rows.bin", "episodes.safetensors"
_LAYOUT = {
    OBSERVATION: ("float32", ["O"]),
    ACTION: ("float32", ["A"]),
    REWARD: ("float32", [1]),
    TERMINATED: ("bool", [1]),
    TASK: ("int64", []),
}
_VERIFIED_BYTES = 1 << 28
_BLOCK_EPISODES = 1024


class Dataset(NamedTuple):
    """What `open_dataset` finds.

    Attributes:
        rows: N rows on the disk, episodes one behind the other.
        episodes: of each episode first row, number of rows, task, number of real rows and of live
            ones, see `EpisodeSampler.episodes`, [episodes, 5] int64.
    """

    rows: DiskStorage
    episodes: Tensor


class DatasetWriter:
    """Writes a dataset folder, block by block; the folder opens only once it is complete.

    Use it in a `with` block. Where that ends in an error, what was written is removed.

    Args:
        path: the folder; made where it is missing.

    Raises:
        ValueError: If the folder holds data already, or another writer writes into it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = file_path(out=path).absolute()  # the process may go to another one meanwhile
        self._check_empty()
        self.path.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO | None = None
        self._layout: dict[str, dict[str, Any]] = {}
        self._lengths: list[Tensor] = []
        self._about: list[Tensor] = []
        self._digest = _new_digest()

    def append(self, rows: TensorDict, length: Tensor) -> None:
        """Write rows of whole episodes behind those that are there.

        Args:
            rows: TensorDict [N] of the entries of `make_episode`, on any device; without real, all
                rows are.
            length: rows of each episode, [episodes] int64, N in all.

        Raises:
            ValueError: If the entries differ from those of the rows before, or `ReplayBuffer.add`
                would refuse one.
        """
        if sorted(set(rows.keys()) | {REAL}) != sorted((*ROW_KEYS, REAL)):
            raise ValueError(f"rows must have the entries {ROW_KEYS}, got {sorted(rows.keys())}")
        if (len(length) and int(length.min()) < 2) or int(length.sum()) != len(rows):
            raise ValueError(
                f"length must add up to {len(rows)} rows, each 2 or more, got {length}"
            )
        if REAL not in rows.keys():  # noqa: SIM118
            rows = rows.clone(recurse=False).set(REAL, torch.ones_like(rows[TERMINATED]))
        if self._file is None:
            raise ValueError("writer must be used in a with block, got rows outside of it")
        rows, length = rows.cpu(), length.cpu()
        check_rows(rows, length, first=sum(map(len, self._lengths)))
        layout = {
            name: {
                "dtype": str(rows[name].dtype).removeprefix("torch."),
                "shape": [*rows[name].shape[1:]],
            }
            for name in sorted(ROW_KEYS)
        }
        if self._layout and layout != self._layout:
            raise ValueError(f"rows must be laid out as {self._layout}, got {layout}")
        if not self._layout:
            record_of(layout)
            self._digest.update(json.dumps(layout, sort_keys=True).encode())
        self._layout = layout
        records = to_records(rows, record_type(layout)).view(np.uint8).data
        with disk_errors(self.path / _ROWS):
            self._file.write(records)
        self._digest.update(records)
        self._lengths.append(length)
        self._about.append(per_episode(rows, length))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(one_writer(self.path, at_once=True))
            self._check_empty()  # now that nobody else writes
            stack.callback(self._remove_unfinished)
            self._file = stack.enter_context((self.path / _ROWS).open("wb"))
            self._opened = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        with self._opened:
            file, self._file = self._file, None
            if kind is None and file is not None:
                with disk_errors(self.path / _ROWS):
                    file.close()
                self._finish()

    def _check_empty(self) -> None:
        """Raise ValueError if the folder holds data."""
        if (self.path / MANIFEST).exists():
            raise ValueError(f"out must be a folder without data, got {str(self.path)!r}")

    def _remove_unfinished(self) -> None:
        """Remove the rows where no manifest names them."""
        if not (self.path / MANIFEST).exists():
            for name in (_ROWS, _INDEX):
                (self.path / name).unlink(missing_ok=True)

    def _finish(self) -> None:
        """Make everything last, then name it."""
        if not self._lengths:
            raise ValueError("dataset must hold at least one episode, got none")
        sync(self.path / _ROWS)
        about = torch.cat(self._about)
        index = {
            LENGTH: torch.cat(self._lengths),
            TASK: about[:, 0].contiguous(),
            REAL_LENGTH: about[:, 1].contiguous(),
            TERMINATED: about[:, 1] > about[:, 2],
        }
        write_tensors(self.path / _INDEX, index, {})
        manifest = {
            "format": DATASET,
            "version": _VERSION,
            "rows": int(index[LENGTH].sum()),
            "episodes": episode_counts(index[TASK]),
            "entries": self._layout,
            DIGEST: self._digest.hexdigest(),
        }
        write_json(self.path / MANIFEST, manifest)


def open_dataset(
    path: str | os.PathLike[str],
    tasks: Sequence[int] | None = None,
    *,
    verify: bool | None = None,
) -> Dataset:
    """Open what `DatasetWriter` wrote.

    Args:
        path: the folder.
        tasks: indices of the tasks whose episodes are listed; None lists all.
        verify: read all rows and compare them with their digest, or check their values in a folder
            of version 2, which has none; None does so up to 256 MiB.

    Raises:
        FileNotFoundError: If there is no such folder, or it is not complete.
        ValueError: If it is damaged, if it holds another format or version, or a file of the wrong
            size, or if a task has no episode in it.
    """
    about = read_manifest(path, format=DATASET, version=_VERSION)
    if about["version"] < _OLDEST:
        raise ValueError(
            f"path must hold {DATASET!r} version {_OLDEST}, got version {about['version']} in "
            f"{str(path)!r}: convert its chunks again"
        )
    folder, count = file_path(path=path), about.get("rows")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"rows of {MANIFEST} must be a number of at least 1, got {count!r}")
    rows = DiskStorage(folder / _ROWS, record_of(about.get("entries")), count)
    try:
        index = read_tensors(folder / _INDEX).tensors
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"path must hold an undamaged {_INDEX}, got {folder} ({error})") from error
    length, known = _known(index, count, signed=about["version"] > _OLDEST)
    if "episodes" in about and about["episodes"] != episode_counts(known[:, 0]):
        raise ValueError(f"episodes of {MANIFEST} must be those of {_INDEX}")
    if verify or (verify is None and folder.joinpath(_ROWS).stat().st_size <= _VERIFIED_BYTES):
        known = _verify(rows, about, length, known)
    episodes = torch.cat([torch.stack([length.cumsum(0) - length, length], dim=1), known], dim=1)
    if tasks is not None:
        episodes = episodes[of_tasks(known[:, 0], tasks)]
    return Dataset(rows, episodes)


def _known(index: dict[str, Tensor], count: int, signed: bool) -> tuple[Tensor, Tensor]:
    """Return length [episodes] of the episodes and [episodes, 3] of task, real and live rows."""
    names = (LENGTH, TASK, *((REAL_LENGTH, TERMINATED) if signed else ()))
    if LENGTH in index and int(index[LENGTH].sum()) != count:
        raise ValueError(f"{_INDEX} must describe {count} rows, got {int(index[LENGTH].sum())}")
    if missing := [name for name in names if name not in index]:
        raise ValueError(f"{_INDEX} must have the entries {missing}, got {sorted(index)}")
    length, task = index[LENGTH], index[TASK]
    ended = index[TERMINATED] if signed else torch.zeros_like(length, dtype=torch.bool)
    real = index[REAL_LENGTH] if signed else length
    columns = {LENGTH: length, TASK: task, REAL_LENGTH: real, TERMINATED: ended}
    for name, column in columns.items():
        kind = torch.bool if name == TERMINATED else torch.int64
        if column.dtype != kind or column.shape != length.shape or column.dim() != 1:
            found = f"{column.dtype} {[*column.shape]}"
            raise ValueError(f"{name} of {_INDEX} must be [episodes] {kind}, got {found}")
    if ((real < 2) | (real > length) | (length > count) | (task < 0)).any():
        raise ValueError(f"{_INDEX} must have 2 <= {REAL_LENGTH} <= {LENGTH} and {TASK} >= 0")
    return length, torch.stack([task, real, real - ended.long()], dim=1)


def _verify(rows: DiskStorage, about: dict[str, Any], length: Tensor, known: Tensor) -> Tensor:
    """Read all rows and raise ValueError unless they are as written; return what is known then."""
    if DIGEST in about or about["version"] > _OLDEST:
        digest = _new_digest()
        digest.update(json.dumps(about["entries"], sort_keys=True).encode())
        for records in rows.blocks():
            digest.update(records)
        if digest.hexdigest() != about.get(DIGEST):
            raise ValueError(
                f"{rows.path} must hold what was written, got other bytes: restore it, or convert "
                "its chunks again"
            )
        return known
    found, begin, episodes = [], 0, 0
    for block in length.split(_BLOCK_EPISODES):
        end = begin + int(block.sum())
        data = marked(rows.between(begin, end), block)
        check_rows(data, block, first=episodes)
        found.append(per_episode(data, block))
        begin, episodes = end, episodes + len(block)
    if not torch.equal(torch.cat(found)[:, 0], known[:, 0]):
        raise ValueError(f"{_INDEX} must have the tasks of {_ROWS}")
    return torch.cat(found)


def _new_digest() -> Any:
    """Return the hash of rows: it finds damage, it does not stop forgers."""
    return hashlib.blake2b(digest_size=16)


def record_of(entries: Any) -> np.dtype:
    """Return the layout of records that a manifest describes.

    Raises:
        ValueError: If it is not that of rows of episodes.
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
