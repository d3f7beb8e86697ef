"""The one format of episodes on the disk: a folder of rows, of what each episode is, of a manifest.

`manifest.json` states format and version, sizes, types and a digest; `rows.bin` has a record of
fixed size for each row, episode after episode; `episodes.safetensors` has length and task of each
episode, how many of its rows are real, and, where `ReplayBuffer.save` wrote it, the state of the
replay's random numbers. A folder that `save` replaces has files with a number in their names, and
its manifest has the number: it moves last, so readers find the old state or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.checkpoints.atomic import disk_errors, remove_parts, sync
from pwm_sdk.checkpoints.locks import one_writer
from pwm_sdk.checkpoints.reading import DIGEST, read_json, read_tensors
from pwm_sdk.checkpoints.writing import write_json, write_tensors
from pwm_sdk.checks import file_path
from pwm_sdk.data.entries import ROW_KEYS
from pwm_sdk.data.episode import of_tasks
from pwm_sdk.data.row_checks import check_rows, marked, per_episode
from pwm_sdk.data.state import GENERATOR, LENGTH, REAL_LENGTH, episode_counts, read_old_state
from pwm_sdk.data.storage import (
    DiskStorage,
    RowStorage,
    episode_blocks,
    record_of,
    to_records,
)
from pwm_sdk.keys import REAL, TASK, TERMINATED

__all__ = ["EpisodeSource", "FolderWriter", "StoredEpisodes", "naming", "open_folder", "source_of"]

MANIFEST = "manifest.json"
_FORMAT, _VERSION = "pwm_sdk.episodes", 3
_DATASET, _REPLAY = "pwm_sdk.dataset", "pwm_sdk.replay"  # what conversions and `save` wrote before
_KNOWN = {_FORMAT: (3, _VERSION), _DATASET: (2, 3), _REPLAY: (1, 2)}  # oldest and newest version
_UNSIGNED = 2  # version of datasets without digests and numbers of real rows
_FILE = re.compile(r"(rows(-\d+)?\.bin|(episodes|tensors)(-\d+)?\.safetensors)")
_VERIFIED_BYTES = 1 << 28
_BLOCK_EPISODES = 1024
_ATTEMPTS = 100  # to read a folder that others write without a pause


@runtime_checkable
class EpisodeSource(Protocol):
    """What episodes can be read from, one after the other, as a `ReplayBuffer`."""

    def iter_episodes(self, task: int | None = None) -> Iterator[TensorDict]:
        """Yield the episodes `[T+1]` of all tasks, or of one."""
        ...


class StoredEpisodes(NamedTuple):
    """What `open_folder` finds.

    Attributes:
        rows: N rows, on the disk; in memory where the folder is an old one of `ReplayBuffer.save`.
        episodes: of each episode first row, number of rows, task, number of real rows and of live
            ones, see `EpisodeSampler.episodes`, `[episodes, 5]` int64.
        generator: state of the replay's random numbers, where it was saved.
    """

    rows: DiskStorage | RowStorage
    episodes: Tensor
    generator: Tensor | None = None

    def of_tasks(self, tasks: Sequence[int] | None) -> Self:
        """Return the episodes of some tasks; None: of all.

        Raises:
            ValueError: if a task has no episode.
        """
        if tasks is None:
            return self
        return self.chosen(of_tasks(self.episodes[:, 2], tasks))

    def chosen(self, episodes: Tensor) -> Self:
        """Return some of the episodes, by a mask `[episodes]` or by numbers."""
        return self._replace(episodes=self.episodes[episodes])

    def blocks(
        self, size: int = _BLOCK_EPISODES, *, verify: bool = False
    ) -> Iterator[tuple[TensorDict, Tensor]]:
        """Yield rows `[N]` with real, and lengths, of `size` episodes at a time.

        Args:
            size: number of episodes.
            verify: compare the rows with what `ReplayBuffer.add` takes and with `episodes`.

        Raises:
            ValueError: with `verify`, if they differ.
        """
        first = 0
        if not len(self.episodes):
            return
        for rows, table in episode_blocks(self.rows, self.episodes, len(self.rows), size):
            if verify:
                check_rows(rows, table[:, 1], first=first)
                if not torch.equal(per_episode(rows, table[:, 1]), table[:, 2:]):
                    raise ValueError(f"rows must be of the episodes {table[:, 2:].tolist()[:8]}")
            yield rows, table[:, 1]
            first += len(table)

    def iter_episodes(self, task: int | None = None) -> Iterator[TensorDict]:
        """Yield the episodes `[T+1]` of all tasks, or of one, as copies."""
        mine = self if task is None else self.chosen(self.episodes[:, 2] == task)
        for rows, lengths in mine.blocks(64):
            yield from rows.split(lengths.tolist())  # pyright: ignore[reportReturnType]


class FolderWriter:
    """Writes a folder of episodes, block by block; it opens only once it is complete.

    Use it in a `with` block. Where that ends in an error, what was written is removed, and what was
    there before stays.

    Args:
        path: the folder; made where it is missing.
        replace: replace what was written with `replace` before; False: the folder must hold none.
        generator: state of a replay's random numbers, to be kept with the episodes.

    Raises:
        ValueError: if the folder holds data already, or another writer writes into it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        replace: bool = False,
        generator: Tensor | None = None,
    ) -> None:
        self.path = file_path(out=path).absolute()  # the process may go to another one meanwhile
        self._replace, self._generator = replace, generator
        self._number = self._next_number()
        self.path.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO | None = None
        self._layout: dict[str, dict[str, Any]] = {}
        self._lengths: list[Tensor] = []
        self._about: list[Tensor] = []
        self._digest = _new_digest()

    def append(self, rows: TensorDict, length: Tensor) -> None:
        """Write rows of whole episodes after those that are there.

        Args:
            rows: TensorDict `[N]` of the entries of `make_episode`, on any device; without real,
                all rows are.
            length: rows of each episode, `[episodes]` int64, N in all.

        Raises:
            ValueError: if the entries differ from those of the rows before, or `ReplayBuffer.add`
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
            self._record = record_of(layout)
            self._digest.update(json.dumps(layout, sort_keys=True).encode())
        self._layout = layout
        records = to_records(rows, self._record).view(np.uint8).data
        with disk_errors(self._rows):
            self._file.write(records)
        self._digest.update(records)
        self._lengths.append(length)
        self._about.append(per_episode(rows, length))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(one_writer(self.path, at_once=not self._replace))
            self._number = self._next_number()  # now that nobody else writes
            self._rows, self._index = (self.path / name for name in _names(self._number))
            stack.callback(self._remove_others)
            with disk_errors(self._rows):
                self._file = stack.enter_context(self._rows.open("wb"))
            self._opened = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        with self._opened:
            file, self._file = self._file, None
            if kind is None and file is not None:
                with disk_errors(self._rows):
                    file.close()
                self._finish()

    def _next_number(self) -> int:
        """Return the number of the files to write; raise ValueError for data that must stay."""
        manifest = self.path / MANIFEST
        if not manifest.exists():
            return int(self._replace)
        if not self._replace:
            raise ValueError(f"out must be a folder without data, got {str(self.path)!r}")
        about = read_json(manifest, dict)
        number = _number_of(about, manifest) if about.get("format") == _FORMAT else 0
        if not number and about.get("format") != _REPLAY:
            raise ValueError(f"path must not hold another kind of data, got {str(self.path)!r}")
        return number + 1

    def _remove_others(self) -> None:
        """Remove the files that no manifest names: older ones, or those of a write that failed."""
        manifest, named = self.path / MANIFEST, set()
        if manifest.exists():
            about = read_json(manifest, dict)
            named = {*_names(about.get("number", 0)), about.get("tensors")}
        for file in self.path.iterdir():
            if _FILE.fullmatch(file.name) and file.name not in named:
                file.unlink(missing_ok=True)
        remove_parts(self.path)

    def _finish(self) -> None:
        """Make everything last, then name it."""
        if not self._lengths and not self._replace:
            raise ValueError("dataset must hold at least one episode, got none")
        sync(self._rows)
        none = torch.empty(0, dtype=torch.int64, device="cpu")
        about = torch.cat([none.reshape(0, 3), *self._about])
        index = {
            LENGTH: torch.cat([none, *self._lengths]),
            TASK: about[:, 0].contiguous(),
            REAL_LENGTH: about[:, 1].contiguous(),
            TERMINATED: about[:, 1] > about[:, 2],
        }
        if self._generator is not None:
            index[GENERATOR] = self._generator
        write_tensors(self._index, index, {})
        manifest = {
            "format": _FORMAT,
            "version": _VERSION,
            "number": self._number,
            "rows": int(index[LENGTH].sum()),
            "episodes": episode_counts(index[TASK]),
            "entries": self._layout,
            DIGEST: self._digest.hexdigest(),
        }
        write_json(self.path / MANIFEST, manifest)


def open_folder(path: str | os.PathLike[str], *, verify: bool | None = None) -> StoredEpisodes:
    """Open what `FolderWriter` wrote, now or in an earlier version.

    Args:
        path: the folder.
        verify: read all rows and compare them with their digest, or check their values in a folder
            that has none; None does so up to 256 MiB.

    Raises:
        FileNotFoundError: if there is no such folder, or it is not complete.
        ValueError: if it is damaged, if it holds another format or version, or a file of the wrong
            size.
    """
    folder = file_path(path=path)
    for attempt in range(_ATTEMPTS):
        about = _manifest(folder)
        try:
            if about["format"] == _REPLAY:
                return _old_replay(folder, about)
            return _opened(folder, about, verify)
        except (OSError, ValueError):  # where a writer replaced what the manifest named, once more
            if _manifest(folder) == about or attempt + 1 == _ATTEMPTS:
                raise
    raise RuntimeError("no attempt was made")  # pragma: no cover


def source_of(source: EpisodeSource | str | os.PathLike[str]) -> EpisodeSource:
    """Return a source of episodes as it is, or open a folder as one."""
    return open_folder(source) if isinstance(source, str | os.PathLike) else source


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the path to the message of a ValueError that does not name it."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{error} in {str(path)!r}") from error


def _names(number: object) -> tuple[str, str]:
    """Return the names of a folder's files of rows and of episodes."""
    mark = "" if number in (None, 0) else f"-{number}"
    return f"rows{mark}.bin", f"episodes{mark}.safetensors"


def _number_of(about: dict[str, Any], manifest: Path) -> int:
    """Return the number in the names of a folder's files; it leads to no other folder."""
    number = about.get("number", 0)
    if type(number) is not int or not 0 <= number < 10**18:
        raise ValueError(
            f"number of {MANIFEST} must be a whole number, got {number!r} in {manifest}"
        )
    return number


def _manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder of a known format and version."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        raise FileNotFoundError(f"path must be a folder with a {MANIFEST}, got {str(folder)!r}")
    about = read_json(manifest, dict)
    name, stated = about.get("format"), about.get("version")
    oldest, newest = _KNOWN.get(name if isinstance(name, str) else "", (1, 0))
    if type(stated) is not int or not oldest <= stated <= newest:
        found = f"{name!r} version {stated!r} in {str(folder)!r}"
        old = ": convert its chunks again" if name == _DATASET and stated == 1 else ""
        raise ValueError(f"path must hold {_FORMAT!r} version <= {_VERSION}, got {found}{old}")
    return about


def _old_replay(folder: Path, about: dict[str, Any]) -> StoredEpisodes:
    """Read what `ReplayBuffer.save` wrote up to version 2, into memory."""
    rows, length, generator = read_old_state(folder, about)
    begin = length.cumsum(0) - length
    known = per_episode(rows, length) if len(length) else length.reshape(0, 3)
    table = torch.cat([torch.stack([begin, length], dim=1), known], dim=1)
    return StoredEpisodes(RowStorage(rows, device="cpu"), table, generator)


def _opened(folder: Path, about: dict[str, Any], verify: bool | None) -> StoredEpisodes:
    """Open the files that a manifest names."""
    count, signed = about.get("rows"), about["version"] > _UNSIGNED
    rows_name, index_name = _names(_number_of(about, folder / MANIFEST))
    if type(count) is not int or count < (about["format"] != _FORMAT):
        raise ValueError(f"rows of {MANIFEST} must be a number of rows, got {count!r} in {folder}")
    rows: Any = None
    if count:
        rows = DiskStorage(folder / rows_name, record_of(about.get("entries")), count)
    try:
        index = read_tensors(folder / index_name).tensors
    except (FileNotFoundError, ValueError) as error:
        wanted = f"path must hold an undamaged {index_name}"
        raise ValueError(f"{wanted}, got {folder} ({error})") from error
    length, known = _known(index, count, signed, index_name)
    if "episodes" in about and about["episodes"] != episode_counts(known[:, 0]):
        raise ValueError(f"episodes of {MANIFEST} must be those of {index_name}")
    if not count:
        rows = RowStorage(TensorDict({}, [0]), device="cpu")
    elif verify or (verify is None and rows.num_bytes <= _VERIFIED_BYTES):
        known = _verified(rows, about, length, known)
    table = torch.cat([torch.stack([length.cumsum(0) - length, length], dim=1), known], dim=1)
    return StoredEpisodes(rows, table, index.get(GENERATOR))


def _known(index: dict[str, Tensor], count: int, signed: bool, file: str) -> tuple[Tensor, Tensor]:
    """Return length `[episodes]` of episodes, and `[episodes, 3]` of task, real and live rows."""
    names = (LENGTH, TASK, *((REAL_LENGTH, TERMINATED) if signed else ()))
    if LENGTH in index and int(index[LENGTH].sum()) != count:
        raise ValueError(f"{file} must describe {count} rows, got {int(index[LENGTH].sum())}")
    if missing := [name for name in names if name not in index]:
        raise ValueError(f"{file} must have the entries {missing}, got {sorted(index)}")
    length, task = index[LENGTH], index[TASK]
    ended = index[TERMINATED] if signed else torch.zeros_like(length, dtype=torch.bool)
    real = index[REAL_LENGTH] if signed else length
    columns = {LENGTH: length, TASK: task, REAL_LENGTH: real, TERMINATED: ended}
    for name, column in columns.items():
        kind = torch.bool if name == TERMINATED else torch.int64
        if column.dtype != kind or column.shape != length.shape or column.dim() != 1:
            found = f"{column.dtype} {[*column.shape]}"
            raise ValueError(f"{name} of {file} must be [episodes] {kind}, got {found}")
    if ((real < 2) | (real > length) | (length > count) | (task < 0)).any():
        raise ValueError(f"{file} must have 2 <= {REAL_LENGTH} <= {LENGTH} and {TASK} >= 0")
    return length, torch.stack([task, real, real - ended.long()], dim=1)


def _verified(rows: DiskStorage, about: dict[str, Any], length: Tensor, known: Tensor) -> Tensor:
    """Read all rows and raise ValueError unless they are as written; return what is known then."""
    if DIGEST in about or about["version"] > _UNSIGNED:
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
        raise ValueError(f"tasks of the episodes must be those of {rows.path}")
    return torch.cat(found)


def _new_digest() -> Any:
    """Return the hash of rows: it finds damage, it does not stop forgers."""
    return hashlib.blake2b(digest_size=16)
