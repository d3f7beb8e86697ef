"""A dataset folder: rows of many episodes in one file, read from it when they are used."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.checkpoints.atomic import sync, write_atomic
from pwm_sdk.data.disk import DiskStorage, record_type, to_records
from pwm_sdk.data.episode import ROW_KEYS, of_tasks
from pwm_sdk.data.store import MANIFEST, read_manifest
from pwm_sdk.keys import TASK

__all__ = ["DATASET", "Dataset", "DatasetWriter", "open_dataset"]

DATASET, _VERSION = "pwm_sdk.dataset", 2
_ROWS, _INDEX = "rows.bin", "episodes.safetensors"
_DTYPES = ("float32", "int64", "bool")


class Dataset(NamedTuple):
    """What `open_dataset` finds.

    Attributes:
        rows: N rows on the disk, episodes one behind the other.
        episodes: first row, number of rows and task of each episode, [episodes, 3] int64.
    """

    rows: DiskStorage
    episodes: Tensor


class DatasetWriter:
    """Writes a dataset folder, block by block; the folder opens only once it is complete.

    Use it in a `with` block. Where that ends in an error, what was written is removed.

    Args:
        path: the folder; made where it is missing.

    Raises:
        ValueError: If the folder holds data already.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if (self.path / MANIFEST).exists():
            raise ValueError(f"out must be a folder without data, got {str(path)!r}")
        self.path.mkdir(parents=True, exist_ok=True)
        self._layout: dict[str, dict[str, Any]] = {}
        self._lengths: list[Tensor] = []
        self._tasks: list[Tensor] = []

    def append(self, rows: TensorDict, length: Tensor) -> None:
        """Write rows of whole episodes behind those that are there.

        Args:
            rows: TensorDict [N] of the entries of `make_episode`, on any device.
            length: rows of each episode, [episodes] int64, N in all.

        Raises:
            ValueError: If the entries differ from those of the rows before.
        """
        if sorted(rows.keys()) != sorted(ROW_KEYS):
            raise ValueError(f"rows must have the entries {ROW_KEYS}, got {sorted(rows.keys())}")
        rows, length = rows.cpu(), length.cpu()
        layout = {
            name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": [*value.shape[1:]]}
            for name, value in sorted(rows.items())
        }
        if self._layout and layout != self._layout:
            raise ValueError(f"rows must be laid out as {self._layout}, got {layout}")
        self._layout = layout
        self._file.write(to_records(rows, record_type(layout)).view(np.uint8).data)
        self._lengths.append(length)
        self._tasks.append(rows[TASK][length.cumsum(0) - length])

    def __enter__(self) -> Self:
        self._file = (self.path / _ROWS).open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._file.close()
        try:
            if kind is None:
                self._finish()
        finally:
            if not (self.path / MANIFEST).exists():
                (self.path / _ROWS).unlink()

    def _finish(self) -> None:
        """Make everything last, then name it."""
        if not self._lengths:
            raise ValueError("dataset must hold at least one episode, got none")
        sync(self.path / _ROWS)
        index = {"length": torch.cat(self._lengths), TASK: torch.cat(self._tasks)}
        write_atomic(self.path / _INDEX, lambda part: save_file(index, part))
        about = {
            "format": DATASET,
            "version": _VERSION,
            "rows": int(index["length"].sum()),
            "episodes": _counts(index[TASK]),
            "entries": self._layout,
        }
        text = json.dumps(about, indent=2) + "\n"
        write_atomic(self.path / MANIFEST, lambda part: part.write_text(text))


def open_dataset(path: str | os.PathLike[str], tasks: Sequence[int] | None = None) -> Dataset:
    """Open what `DatasetWriter` wrote.

    Args:
        path: the folder.
        tasks: indices of the tasks whose episodes are listed; None lists all.

    Raises:
        FileNotFoundError: If there is no such folder, or it is not complete.
        ValueError: If it holds another format or version, or a file of the wrong size, or if a task
            has no episode in it.
    """
    about = read_manifest(path, format=DATASET, version=_VERSION)
    if about["version"] < _VERSION:
        raise ValueError(
            f"path must hold {DATASET!r} version {_VERSION}, got version {about['version']} in "
            f"{str(path)!r}: convert its chunks again"
        )
    folder, count = Path(path), int(about["rows"])
    rows = DiskStorage(folder / _ROWS, _record_type(about["entries"], folder), count)
    try:
        index = load_file(folder / _INDEX)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"path must hold an undamaged {_INDEX}, got {str(path)!r}") from error
    length, task = index["length"], index[TASK]
    if int(length.sum()) != count:
        raise ValueError(f"{_INDEX} must describe {count} rows, got {int(length.sum())}")
    episodes = torch.stack([length.cumsum(0) - length, length, task], dim=1)
    if tasks is not None:
        episodes = episodes[of_tasks(task, tasks)]
    return Dataset(rows, episodes)


def _record_type(entries: dict[str, dict[str, Any]], folder: Path) -> np.dtype:
    """Return the layout of a record that the manifest describes."""
    if sorted(entries) != sorted(ROW_KEYS):
        raise ValueError(f"entries must be {ROW_KEYS}, got {sorted(entries)} in {folder}")
    for name, entry in entries.items():
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"dtype of {name} must be one of {_DTYPES}, got {entry} in {folder}")
    return record_type(entries)


def _counts(task: Tensor) -> dict[str, int]:
    """Count episodes by task."""
    tasks, counts = task.unique(return_counts=True)
    return {str(t): n for t, n in zip(tasks.tolist(), counts.tolist(), strict=True)}
