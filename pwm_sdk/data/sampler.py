"""The choice of rows: windows that stay inside their episode, at a cost set by the batch alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchrl.data.replay_buffers.samplers import Sampler
from torchrl.data.replay_buffers.storages import Storage

from pwm_sdk.data.episode import task_index
from pwm_sdk.generators import Generators

__all__ = ["EpisodeSampler"]

_RECENT_SHARE = 0.1
_RECENT_EPISODES = 5


class EpisodeSampler(Sampler):
    """Draws windows of consecutive rows from a ring of episodes.

    A draw costs O(batch) operations (each a binary search among the episodes), whatever the number
    of rows. The tables behind it are rebuilt, at O(episodes), by the first draw after a change.

    Args:
        capacity: rows of the ring.
        slice_len: rows of a window, H + 1.
        task_weights: share of the windows by task, in any unit; tasks left out are not drawn. None
            makes every window of the replay equally likely.
        recent: share in [0, 1] of each task's windows that comes from its newest episodes only: a
            tenth of them, at least five.
        seed: of the sampler's own generator; None takes one from the system.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        capacity: int,
        slice_len: int,
        *,
        task_weights: Mapping[int, float] | None = None,
        recent: float = 0.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= recent <= 1.0:
            raise ValueError(f"recent must be between 0 and 1, got {recent}")
        weights = {task_index(t): float(w) for t, w in (task_weights or {}).items()}
        valid = all(math.isfinite(w) and w >= 0.0 for w in weights.values())
        if not valid or (task_weights is not None and not any(weights.values())):
            raise ValueError(f"task_weights must be finite, >= 0, not all 0, got {task_weights}")
        self.capacity, self.slice_len, self.recent = capacity, slice_len, recent
        self.weights = {task: weight for task, weight in weights.items() if weight > 0.0}
        self.generator = torch.Generator()
        self.generator.manual_seed(self.generator.seed() if seed is None else seed)
        self.clear()

    @property
    def episodes(self) -> Tensor:
        """Start row in the ring, length in rows and task of each episode, oldest first, [.., 3]."""
        return self._table[self._head : self._tail]

    def append(self, starts: Tensor, lengths: Tensor, tasks: Tensor) -> None:
        """Take in new episodes: start row in the ring, rows and task of each, [N] int64."""
        end = self._tail + len(starts)
        if end > len(self._table):  # room for as many again, so that adding stays cheap on average
            live = self.episodes
            self._table = live.new_empty(2 * (len(live) + len(starts)), 3)
            self._table[: len(live)] = live
            self._head, self._tail, end = 0, len(live), len(live) + len(starts)
        self._table[self._tail : end] = torch.stack([starts, lengths, tasks], dim=1)
        self._tail, self._tables = end, None
        self.num_rows += int(lengths.sum())

    def evict(self) -> None:
        """Forget the oldest episode, whole."""
        self.num_rows -= int(self._table[self._head, 1])
        self._head, self._tables = self._head + 1, None

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Any]]:
        """Draw `batch_size` rows, `slice_len` of them a window, windows sorted by task.

        The windows of a task number its share of the batch, rounded down or up at random so that
        the share is exact on average (systematic resampling); so do the recent ones among them.

        Raises:
            ValueError: If a weighted task has no episode.
        """
        tables, count = self._current(), batch_size // self.slice_len
        if missing := self.weights.keys() - tables.slot.keys():
            raise ValueError(f"task_weights must name stored tasks only, got {sorted(missing)}")
        shift = torch.rand(2, dtype=torch.float64, generator=self.generator)
        points = (torch.arange(count) + shift[0]) / count * tables.cdf[-1]
        slot = torch.searchsorted(tables.cdf, points, right=True).clamp_max_(len(tables.cdf) - 1)
        marks = ((torch.arange(count + 1) + shift[1]) * self.recent).floor()
        low = torch.where(marks.diff() > 0, tables.recent_low[slot], tables.low[slot])
        start, offset = tables.windows.draw(low, tables.high[slot], self._uniform(count))
        rows = (start + offset)[:, None] + torch.arange(self.slice_len)
        return rows.flatten().remainder_(self.capacity), {}

    def draw_rows(self, tasks: Sequence[int], count: int) -> Tensor:
        """Draw rows [P, count] of the ring, uniform over all rows of each of the P tasks.

        Raises:
            ValueError: If a task has no episode.
        """
        tables = self._current()
        return self._draw(tables.rows, tables.row_bounds, tasks, self._uniform(len(tasks), count))

    def draw_starts(self, tasks: Sequence[int], count: int, generators: Generators) -> Tensor:
        """Draw first rows of windows [P, count], uniform over all windows of each of the P tasks.

        The numbers of a policy come from its own stream of `generators`.

        Raises:
            ValueError: If a task has no episode.
        """
        tables = self._current()
        uniform = generators.draw(lambda one: torch.rand(count, dtype=torch.float64, generator=one))
        return self._draw(tables.windows, tables.window_bounds, tasks, uniform)

    def _draw(self, pool: _Pool, bounds: Tensor, tasks: Sequence[int], uniform: Tensor) -> Tensor:
        """Draw rows for each of P tasks by numbers [P, count] in [0, 1)."""
        slots = self._current().slot
        if missing := set(tasks) - slots.keys():
            raise ValueError(f"tasks must be among {sorted(slots)}, got {sorted(missing)}")
        low, high = bounds[[slots[task] for task in tasks]].unsqueeze(-1).unbind(1)
        start, offset = pool.draw(low, high, uniform)
        return (start + offset).remainder_(self.capacity)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=self.generator)

    def rows_of(self, episodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return each row of some `episodes` [.., 3] in the ring, and its place in its episode."""
        start, length, _ = episodes.T
        begin = (length.cumsum(0) - length).repeat_interleave(length)
        offset = torch.arange(len(begin)) - begin
        return (start.repeat_interleave(length) + offset) % self.capacity, offset

    def _current(self) -> _Tables:
        """Return the tables of the episodes held now."""
        if self._tables is None:
            self._tables = _Tables(self.episodes, self.slice_len, self.weights)
        return self._tables

    def clear(self) -> None:
        """Forget all episodes."""
        self._table = torch.empty(64, 3, dtype=torch.int64)
        self._head = self._tail = self.num_rows = 0
        self._tables: _Tables | None = None

    _empty = clear

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the generator; the episodes are `ReplayBuffer.state_dict`'s."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a stream of draws where `state_dict` was taken."""
        self.generator.set_state(state_dict["generator"].cpu())

    def dumps(self, path: Any) -> None:
        """Write nothing: `ReplayBuffer.save` writes the whole state."""

    def loads(self, path: Any) -> None:
        """Read nothing: `ReplayBuffer.load` reads the whole state."""


class _Pool:
    """What can be drawn, `size[e]` places in episode e, numbered episode after episode."""

    def __init__(self, start: Tensor, size: Tensor) -> None:
        self.start, self.ends = start, size.cumsum(0)
        self.begins = self.ends - size

    def draw(self, low: Tensor, high: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Turn numbers in [0, 1) into places of ranges [low, high): episode's start, and offset."""
        width = high - low
        number = low + (uniform * width).long().minimum(width - 1)  # the product can round up
        episode = torch.searchsorted(self.ends, number, right=True)
        return self.start[episode], number - self.begins[episode]


class _Tables:
    """The episodes in order of task and age, ready for drawing: one slot for each of K tasks."""

    def __init__(self, episodes: Tensor, slice_len: int, weights: Mapping[int, float]) -> None:
        order = episodes[:, 2].argsort(stable=True)
        start, length, task = (column[order] for column in episodes.T)
        tasks, held = task.unique_consecutive(return_counts=True)
        last = held.cumsum(0) - 1
        first = last + 1 - held
        newest = (held * _RECENT_SHARE).ceil().long().clamp_min(_RECENT_EPISODES).minimum(held)
        self.slot = {task: slot for slot, task in enumerate(tasks.tolist())}
        self.rows = _Pool(start, length)
        self.windows = _Pool(start, length - slice_len + 1)
        self.row_bounds = torch.stack([self.rows.begins[first], self.rows.ends[last]], dim=1)
        self.low, self.high = self.windows.begins[first], self.windows.ends[last]
        self.window_bounds = torch.stack([self.low, self.high], dim=1)
        self.recent_low = self.windows.begins[last + 1 - newest]
        share = (self.high - self.low).double()
        if weights:
            share = torch.tensor([weights.get(t, 0.0) for t in self.slot], dtype=torch.float64)
            drawn = share.nonzero().flatten()  # a task that is not drawn keeps its slot for rows
            self.low, self.high = self.low[drawn], self.high[drawn]
            self.recent_low, share = self.recent_low[drawn], share[drawn]
        self.cdf = share.cumsum(0)
