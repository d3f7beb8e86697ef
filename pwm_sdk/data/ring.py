"""A ring of rows over TorchRL's storage: new episodes push out the oldest, whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.data.entries import ROW_KEYS
from pwm_sdk.data.episode import check_lengths
from pwm_sdk.data.sampler import EpisodeSampler
from pwm_sdk.data.storage import DiskStorage, RowStorage, episode_blocks
from pwm_sdk.keys import ACTION, FIRST, OBSERVATION, REAL, TASK

__all__ = ["Ring"]

_BLOCK = 4096


class Ring:
    """Rows of episodes, written by whole episodes; or rows on the disk, which it only reads.

    Args:
        sampler: knows which episode lies where; its `capacity` is the number of rows.
        device: of the rows.
    """

    _storage: RowStorage | DiskStorage

    def __init__(self, sampler: EpisodeSampler, device: torch.device) -> None:
        self._sampler, self._device = sampler, device
        self.clear()

    def check_room(self, lengths: Tensor) -> None:
        """Check that episodes of these lengths `[episodes]` can be kept.

        Raises:
            ValueError: if they cannot.
        """
        self.check_owned()
        check_lengths(lengths, self._sampler.slice_len, self._sampler.capacity)

    def check_owned(self) -> None:
        """Raise ValueError for rows that are only read."""
        if isinstance(getattr(self, "_storage", None), DiskStorage):
            raise ValueError("replay must own its rows to take in episodes, got rows on the disk")

    def check_sizes(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """Check that rows are of one size, and of that of the rows kept.

        Args:
            parts: each of rows `[n]`.

        Raises:
            ValueError: if they are not.
        """
        for key in (OBSERVATION, ACTION):
            sizes = {part[key].shape[1] for part in parts}
            if len(sizes) > 1:
                raise ValueError(f"{key} must have one size in all episodes, got {sorted(sizes)}")
            stored = sizes if self._rows is None else {self._rows.get(key).shape[1]}
            if sizes != stored:
                raise ValueError(f"{key} must have {stored.pop()} entries a row, got {sizes.pop()}")

    def write(self, parts: Sequence[Mapping[str, Tensor]], lengths: Tensor, about: Tensor) -> None:
        """Append rows of checked episodes, evicting the oldest for room.

        Args:
            parts: one or more of rows `[n]`, on any device, N in all: `ROW_KEYS`.
            lengths: rows of each episode, `[episodes]` int64; they fit into the ring together.
            about: task, real rows and live rows of each, see `per_episode`.

        Raises:
            ValueError: if observations or actions differ in size from those kept.
        """
        sampler, capacity, count = self._sampler, self._sampler.capacity, int(lengths.sum())
        self.check_sizes(parts)
        held = self._rows
        if held is None:
            like = ((key, parts[0][key]) for key in ROW_KEYS)
            held = self._keep(
                {k: v.new_empty(capacity, *v.shape[1:], device=self._device) for k, v in like}
            )
        while sampler.num_rows + count > capacity:
            sampler.evict()
        start = self._next
        for key in ROW_KEYS:
            _write_round(held.get(key), start, [part[key] for part in parts])
        self._next = (start + count) % capacity
        lengths = lengths.cpu()
        sampler.append((start + lengths.cumsum(0) - lengths) % capacity, lengths, about)

    def read(self, storage: DiskStorage, episodes: Tensor) -> None:
        """Read rows `[capacity]` that are on the disk.

        Args:
            storage: reads them.
            episodes: of each episode what `EpisodeSampler.episodes` has, `[episodes, 5]` int64.

        Raises:
            ValueError: if an episode is shorter than a window.
        """
        self.check_room(episodes[:, 1])
        self._storage = storage
        self._sampler.append(episodes[:, 0], episodes[:, 1], episodes[:, 2:])

    def evict_all(self) -> None:
        """Let all episodes go; the ring goes on where it is."""
        while self._sampler.num_rows:
            self._sampler.evict()

    def clear(self) -> None:
        """Forget all rows."""
        self._rows: TensorDict | None = None
        self._next = 0
        self._sampler.clear()

    def sample(self, count: int) -> TensorDict:
        """Return `count` rows that the sampler chose, with real."""
        places, marks = self._sampler.sample(self._storage, count)
        rows = self.gather(places, ROW_KEYS)
        return rows.set(REAL, marks[REAL].unsqueeze(-1).to(rows[TASK].device))

    def gather(self, index: Tensor, names: Sequence[str]) -> TensorDict:
        """Return some entries of the rows at `index` `[..]` int64, as TensorDict `[..]`."""
        return self._storage.gather(index, names)

    def blocks(self, size: int) -> Iterator[tuple[TensorDict, Tensor]]:
        """Yield copies of rows `[N]` with real, and lengths, of `size` episodes, oldest first."""
        held, capacity = self._sampler.episodes, self._sampler.capacity
        if len(held):  # there is no storage before
            for rows, table in episode_blocks(self._storage, held, capacity, size):
                yield rows, table[:, 1]

    def starts(self, index: Tensor, goes_on: Tensor) -> TensorDict:
        """Return what imagination may start from.

        Args:
            index: rows `[..]` int64.
            goes_on: whether a real step follows on them, `[..]` bool.

        Returns:
            TensorDict `[..]`: observation, task, the action taken there (0 where no step follows)
            and real, whether one does.
        """
        after = torch.where(goes_on, index + 1, index) % self._sampler.capacity
        if isinstance(self._storage, DiskStorage):  # one read for both rows
            both: Any = self.gather(
                torch.stack([index, after], dim=-1), (OBSERVATION, ACTION, TASK)
            )
            here, action = both[..., 0], both[..., 1][ACTION]
        else:
            here = self.gather(index, (OBSERVATION, TASK))
            action = self.gather(after, (ACTION,))[ACTION]
        real = goes_on.unsqueeze(-1).to(action.device)
        found = {
            OBSERVATION: here[OBSERVATION],
            ACTION: action.where(real, 0.0),
            REAL: real,
            TASK: here[TASK],
        }
        return TensorDict(found, batch_size=index.shape, device=here.device)

    def history(self, index: Tensor, offset: Tensor, count: int) -> TensorDict:
        """Return what came before some rows, the rows included.

        Args:
            index: rows `[..]` int64.
            offset: their numbers in their episodes, `[..]` int64.
            count: C, rows before each.

        Returns:
            TensorDict `[.., C+1]`: observation, the action that led to it, and first `[.., 1]`:
            True where nothing of the episode comes before, as in the rows that stand in for missing
            ones, which repeat its first.
        """
        back = torch.arange(-count, 1, device="cpu")
        place = offset.unsqueeze(-1) + back
        rows = index.unsqueeze(-1) + back.maximum(-offset.unsqueeze(-1))
        found = self.gather(rows % self._sampler.capacity, (OBSERVATION, ACTION))
        first = (place <= 0).unsqueeze(-1).to(found[OBSERVATION].device)
        found[ACTION] = found[ACTION].where(~first, 0.0)  # row 0 may hold NaN
        return found.set(FIRST, first)

    def episodes(self, table: Tensor) -> Iterator[TensorDict]:
        """Yield the episodes `[T+1]` of `table`, see `EpisodeSampler.episodes`, with real."""
        for block in table.split(_BLOCK):  # as Python numbers, millions of them take a lot of room
            for start, length, _, real, _ in block.tolist():
                over = start + length - self._sampler.capacity
                rows: Any = self._storage.between(start, start + length - max(0, over))
                if over > 0:
                    rows = torch.cat([rows, self._storage.between(0, over)])
                marks = torch.arange(length, device=rows[TASK].device) < real
                yield rows.set(REAL, marks.unsqueeze(-1))

    def __getstate__(self) -> dict[str, Any]:  # arrays: see `OwnStream`
        state = self.__dict__.copy()
        if not isinstance(state.get("_storage"), DiskStorage):
            state.pop("_storage", None)
        if self._rows is not None:
            state["_rows"] = {k: v.cpu().numpy().copy() for k, v in self._rows.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if state["_rows"] is not None:
            self._keep({k: torch.from_numpy(np.array(v)) for k, v in state["_rows"].items()})

    def _keep(self, rows: Mapping[str, Tensor]) -> TensorDict:
        """Keep rows `[capacity]` in place, and return them."""
        own = {name: value.to(self._device) for name, value in rows.items()}
        self._rows = TensorDict(own, batch_size=[self._sampler.capacity], device=self._device)
        self._storage = RowStorage(self._rows, device=self._device)
        return self._rows


def _write_round(entry: Tensor, place: int, parts: Sequence[Tensor]) -> None:
    """Write rows from row `place` of a ring on, in one copy where they reach not beyond its end.

    Args:
        entry: of all rows, `[capacity, ..]`.
        place: first row.
        parts: `[n, ..]` each, on any device; they may be views of what is written over.
    """
    count, mine = sum(map(len, parts)), entry.untyped_storage().data_ptr()
    over = max(0, place + count - len(entry))
    apart = all(
        part.device == entry.device and part.untyped_storage().data_ptr() != mine for part in parts
    )
    if apart and not over:
        torch.cat(list(parts), out=entry[place : place + count])
        return
    joined = torch.cat([part.to(entry.device) for part in parts])
    entry[place : place + count - over] = joined[: count - over]
    entry[:over] = joined[count - over :]
