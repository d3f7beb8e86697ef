"""A ring of rows over TorchRL's storage: new episodes push out the oldest, whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import ReplayBuffer as TorchRLReplayBuffer

from pwm_sdk.data.disk import DiskStorage
from pwm_sdk.data.episode import check_lengths
from pwm_sdk.data.sampler import EpisodeSampler
from pwm_sdk.data.storage import RowStorage
from pwm_sdk.keys import ACTION, OBSERVATION, TASK

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
        self._rows: TensorDict | None = None

    def check_room(self, lengths: Tensor) -> None:
        """Check that episodes of these lengths [episodes] can be kept.

        Raises:
            ValueError: If they cannot.
        """
        if isinstance(getattr(self, "_storage", None), DiskStorage):
            raise ValueError("replay must own its rows to take in episodes, got rows on the disk")
        check_lengths(lengths, self._sampler.slice_len, self._sampler.capacity)

    def write(self, rows: TensorDict, lengths: Tensor) -> None:
        """Append rows [N] of episodes with these lengths, evicting the oldest for room.

        Raises:
            ValueError: If observations or actions differ in size from those kept.
        """
        sampler, capacity = self._sampler, self._sampler.capacity
        if self._rows is None:
            ring = {k: v.new_empty(capacity, *v.shape[1:]) for k, v in rows.items()}
            self._rows = TensorDict(ring, batch_size=[capacity], device=self._device)
            self._use(RowStorage(self._rows, device=self._device))
        for key in (OBSERVATION, ACTION):
            size, stored = rows.get(key).shape[1], self._rows.get(key).shape[1]
            if size != stored:
                raise ValueError(f"{key} must have {stored} entries a row, got {size}")
        while sampler.num_rows + len(rows) > capacity:
            sampler.evict()
        start = int(self._buffer.extend(rows)[0])
        begins = lengths.cumsum(0) - lengths
        tasks = rows[TASK][begins.to(self._device)].cpu()
        sampler.append((start + begins) % capacity, lengths, tasks)

    def read(self, storage: DiskStorage, episodes: Tensor) -> None:
        """Read rows [capacity] that are on the disk.

        Args:
            storage: reads them.
            episodes: first row, number of rows and task of each episode, [episodes, 3] int64.

        Raises:
            ValueError: If an episode is shorter than a window.
        """
        self.check_room(episodes[:, 1])
        self._use(storage)
        self._sampler.append(*episodes.T)

    def clear(self) -> None:
        """Forget all rows."""
        self._rows = None
        self._sampler.clear()

    def sample(self, count: int) -> TensorDict:
        """Return `count` rows that the sampler chose."""
        return self._buffer.sample(count)

    def gather(self, index: Tensor, names: Sequence[str]) -> TensorDict:
        """Return some entries of the rows at `index` [..] int64, as TensorDict [..]."""
        return self._storage.gather(index, names)

    def episodes(self, table: Tensor) -> Iterator[TensorDict]:
        """Yield the episodes [T+1] of `table`, start, length and task of each, [episodes, 3]."""
        for block in table.split(_BLOCK):  # as Python numbers, millions of them take a lot of room
            for start, length, _ in block.tolist():
                over = start + length - self._sampler.capacity
                rows = self._storage.between(start, start + length - max(0, over))
                yield torch.cat([rows, self._storage.between(0, over)]) if over > 0 else rows

    def _use(self, storage: RowStorage | DiskStorage) -> None:
        """Keep the episodes in `storage`."""
        self._storage = storage
        self._buffer = TorchRLReplayBuffer(
            storage=storage, sampler=self._sampler, collate_fn=lambda rows: rows
        )
