"""A dataset folder: rows of many episodes, one file an entry, mapped when they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.checkpoints.atomic import sync, write_atomic
from pwm_sdk.data.episode import ROW_KEYS, of_tasks
from pwm_sdk.data.mapping import MappedFiles
from pwm_sdk.data.store import MANIFEST, read_manifest
from pwm_sdk.keys import TASK

__all__ = ["DATASET", "Dataset", "DatasetWriter", "open_dataset"]

DATASET, _VERSION = "pwm_sdk.dataset", 1
_INDEX = "episodes.safetensors"
_DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


class Dataset(NamedTuple):
    """What `open_dataset` finds.

    Attributes:
        rows: TensorDict [N] of mapped tensors, episodes one behind the other.
        episodes: first row, number of rows and task of each episode, [episodes, 3] int64.
        files: where the rows are.
    """

    rows: TensorDict
    episodes: Tensor
    files: MappedFiles


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
        self._files: dict[str, Any] = {}
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
        for name, value in rows.items():
            if name not in self._files:
                self._files[name] = (self.path / f"{name}.bin").open("wb")
            self._files[name].write(memoryview(value.contiguous().numpy().data).cast("B"))
        self._lengths.append(length)
        self._tasks.append(rows[TASK][length.cumsum(0) - length])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        for file in self._files.values():
            file.close()
        try:
            if kind is None:
                self._finish()
        finally:
            if not (self.path / MANIFEST).exists():
                for name in self._files:
                    (self.path / f"{name}.bin").unlink()

    def _finish(self) -> None:
        """Make everything last, then name it."""
        if not self._files:
            raise ValueError("dataset must hold at least one episode, got none")
        for name in self._files:
            sync(self.path / f"{name}.bin")
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


def open_dataset(
    path: str | os.PathLike[str], tasks: Sequence[int] | None = None, *, random: bool = True
) -> Dataset:
    """Open what `DatasetWriter` wrote; rows are read from the disk when they are used.

    Args:
        path: the folder.
        tasks: indices of the tasks whose episodes are listed; None lists all.
        random: rows will be read in random order, so reading ahead is of no use.

    Raises:
        FileNotFoundError: If there is no such folder, or it is not complete.
        ValueError: If it holds another format, a newer version, or a file of the wrong size, or if
            a task has no episode in it.
    """
    about = read_manifest(path, format=DATASET, version=_VERSION)
    folder, count = Path(path), int(about["rows"])
    if sorted(about["entries"]) != sorted(ROW_KEYS):
        raise ValueError(f"entries must be {ROW_KEYS}, got {sorted(about['entries'])} in {folder}")
    files = MappedFiles()
    rows = {
        name: _mapped(files, folder / f"{name}.bin", count, entry, random)
        for name, entry in about["entries"].items()
    }
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
    return Dataset(TensorDict(rows, batch_size=[count]), episodes, files)


def _mapped(
    files: MappedFiles, path: Path, rows: int, entry: dict[str, Any], random: bool
) -> Tensor:
    """Map a file of the size and kind that the manifest says."""
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"dtype of {path.name} must be one of {list(_DTYPES)}, got {entry}")
    dtype = _DTYPES[entry["dtype"]]
    shape = (rows, *entry["shape"])
    expected = torch.Size(shape).numel() * dtype.itemsize
    found = path.stat().st_size if path.exists() else 0
    if found != expected or not expected:
        raise ValueError(f"{path.name} must have {expected} bytes, got {found} in {path.parent}")
    return files.map(path, dtype, shape, random)


def _counts(task: Tensor) -> dict[str, int]:
    """Count episodes by task."""
    tasks, counts = task.unique(return_counts=True)
    return {str(t): n for t, n in zip(tasks.tolist(), counts.tolist(), strict=True)}
