"""The choice of rows: windows that stay inside their episode, at a cost set by the batch alone."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torchrl.data.replay_buffers.samplers import Sampler
from torchrl.data.replay_buffers.storages import Storage

from pwm_sdk.checks import seed as checked_seed
from pwm_sdk.data.entries import task_index
from pwm_sdk.generators import Generators
from pwm_sdk.keys import REAL

__all__ = ["EpisodeSampler", "OwnStream"]

_COLUMNS = 5  # of the table of episodes
_RECENT_SHARE = 0.1
_RECENT_EPISODES = 5

Source = TypeVar("Source", torch.Generator, Generators)


class OwnStream(Generic[Source]):
    """A source of random numbers that begins again, once, in each worker of a `DataLoader`.

    A worker gets a copy of everything, of random states too. Its own numbers follow from the copied
    state and the worker's seed, which torch draws for each worker and each time that it starts them
    from the generator of the `DataLoader`, or its global one.

    Args:
        source: the numbers outside of workers.
    """

    def __init__(self, source: Source) -> None:
        self._source: Source = source
        self._worker: int | None = None

    @property
    def generator(self) -> Source:
        """The numbers of this process."""
        worker = get_worker_info()
        if worker is not None and self._worker != worker.seed:
            self._worker = worker.seed
            source = self._source
            for part in [source] if isinstance(source, torch.Generator) else source:
                drawn = torch.randint(2**62, (), generator=part, device="cpu")
                words = np.random.SeedSequence([int(drawn), worker.seed]).generate_state(2)
                part.manual_seed(int(words[0]) << 32 | int(words[1]))
        return self._source

    def __getstate__(self) -> dict[str, Any]:
        # Arrays, here and elsewhere in a replay: a tensor that is sent to a process is shared with
        # it, through a file handle that must outlive the sending.
        state = self._source.get_state().numpy()
        return {
            "numbers": state,
            "many": isinstance(self._source, Generators),
            "worker": self._worker,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = torch.from_numpy(np.array(state["numbers"]))
        source: Any = Generators([0], "cpu") if state["many"] else torch.Generator("cpu")
        source.set_state(found)
        self._source, self._worker = source, state["worker"]


class EpisodeSampler(Sampler):
    """Draws windows of consecutive rows from a ring of episodes.

    A draw costs O(batch) operations (each a binary search among the episodes), whatever the number
    of rows. Its tables are rebuilt, at O(episodes), by the first draw after a change.

    Args:
        capacity: rows of the ring.
        slice_len: rows of a window, H + 1.
        task_weights: share of the windows by task, in any unit; tasks left out are not drawn. None
            makes every window of the replay equally likely.
        recent: share in [0, 1] of each task's windows that comes from its newest episodes only: a
            tenth of them, at least five.
        seed: of the sampler's own generator; None takes one from the system.

    Raises:
        ValueError: if an argument is out of its range.
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
        generator, seed = torch.Generator("cpu"), checked_seed(seed=seed)
        generator.manual_seed(generator.seed() if seed is None else seed)
        self._stream = OwnStream(generator)
        self.clear()

    @property
    def generator(self) -> torch.Generator:
        """The sampler's random numbers; a worker of a `DataLoader` has its own."""
        return self._stream.generator

    @property
    def episodes(self) -> Tensor:
        """What is known of each episode, oldest first, `[episodes, 5]` int64.

        Start row in the ring, length in rows, task, number of real rows (the first ones), and of
        live ones: real rows but the one where it terminated.
        """
        return self._table[self._head : self._tail]

    def append(self, starts: Tensor, lengths: Tensor, about: Tensor) -> None:
        """Take in new episodes.

        Args:
            starts: start row of each in the ring, `[episodes]` int64.
            lengths: rows of each, `[episodes]` int64.
            about: task, real rows and live rows of each, `[episodes, 3]` int64.
        """
        end = self._tail + len(starts)
        if end > len(self._table):  # room for as many again, so that adding stays cheap on average
            live = self.episodes
            self._table = live.new_empty(2 * (len(live) + len(starts)), _COLUMNS)
            self._table[: len(live)] = live
            self._head, self._tail, end = 0, len(live), len(live) + len(starts)
        self._table[self._tail : end] = torch.cat([starts[:, None], lengths[:, None], about], dim=1)
        self._tail, self._tables = end, None
        self.num_rows += int(lengths.sum())

    def evict(self) -> None:
        """Forget the oldest episode, whole."""
        self.num_rows -= int(self._table[self._head, 1])
        self._head, self._tables = self._head + 1, None

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Any]]:
        """Draw `batch_size` rows, `slice_len` of them a window, windows sorted by task.

        Beside them stands, under real, whether each is. A window begins at a live row: its first
        step is real. The windows of a task number its share of the batch, rounded down or up at
        random so that the share is exact on average (systematic resampling); so do the recent ones
        among them.

        Raises:
            ValueError: if a weighted task has no episode.
        """
        tables, count = self._current(), batch_size // self.slice_len
        if missing := self.weights.keys() - tables.slot.keys():
            raise ValueError(f"task_weights must name stored tasks only, got {sorted(missing)}")
        shift = self._uniform(2)
        numbers = torch.arange(count + 1, device="cpu")
        points = (numbers[:-1] + shift[0]) / count * tables.cdf[-1]
        slot = torch.searchsorted(tables.cdf, points, right=True).clamp_max_(len(tables.cdf) - 1)
        marks = ((numbers + shift[1]) * self.recent).floor()
        low = torch.where(marks.diff() > 0, tables.recent_low[slot], tables.low[slot])
        episode, offset = tables.windows.draw(low, tables.high[slot], self._uniform(count))
        offset = offset[:, None] + torch.arange(self.slice_len, device="cpu")
        rows = (tables.start[episode, None] + offset).flatten().remainder_(self.capacity)
        return rows, {REAL: (offset < tables.real[episode, None]).flatten()}

    def draw_rows(self, tasks: Sequence[int], count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw rows `[P, count]` of the ring, uniform over the live rows of each of the P tasks.

        Returns:
            The rows, whether a real step follows on them, `[P, count]` bool, and their numbers in
            their episodes, `[P, count]` int64.

        Raises:
            ValueError: if a task has no episode.
        """
        tables = self._current()
        return self._draw(tables.rows, tables.row_bounds, tasks, self._uniform(len(tasks), count))

    def draw_starts(
        self, tasks: Sequence[int], count: int, generators: Generators
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw first rows of windows of real rows, as `draw_rows`.

        All such windows of a task are equally likely; an episode of fewer real rows than a window
        has one, from its first row on. The numbers of a policy come from its own stream of
        `generators`.

        Raises:
            ValueError: if a task has no episode.
        """
        tables = self._current()
        uniform = generators.draw(
            lambda one: torch.rand(count, dtype=torch.float64, generator=one, device="cpu")
        )
        return self._draw(tables.starts, tables.start_bounds, tasks, uniform)

    def _draw(
        self, pool: _Pool, bounds: Tensor, tasks: Sequence[int], uniform: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw rows for each of P tasks by numbers `[P, count]` in [0, 1)."""
        slots = self._current().slot
        if missing := set(tasks) - slots.keys():
            raise ValueError(f"tasks must be among {sorted(slots)}, got {sorted(missing)}")
        low, high = bounds[[slots[task] for task in tasks]].unsqueeze(-1).unbind(1)
        episode, offset = pool.draw(low, high, uniform)
        tables = self._current()
        rows = (tables.start[episode] + offset).remainder_(self.capacity)
        return rows, offset + 1 < tables.real[episode], offset

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=self.generator, device="cpu")

    def _current(self) -> _Tables:
        """Return the tables of the episodes held now."""
        if self._tables is None:
            self._tables = _Tables(self.episodes, self.slice_len, self.weights)
        return self._tables

    def clear(self) -> None:
        """Forget all episodes."""
        self._table = torch.empty(64, _COLUMNS, dtype=torch.int64, device="cpu")
        self._head = self._tail = self.num_rows = 0
        self._tables: _Tables | None = None

    _empty = clear

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the generator; the episodes are `ReplayBuffer.state_dict`'s."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a stream of draws where `state_dict` was taken.

        Raises:
            ValueError: if its `generator` is no state of a generator.
        """
        state = state_dict["generator"]
        try:
            self.generator.set_state(state.cpu())
        except (AttributeError, RuntimeError, TypeError) as error:
            about = f"{state.dtype} {list(state.shape)}" if torch.is_tensor(state) else type(state)
            raise ValueError(f"generator must be the state of one, got {about}") from error

    def __getstate__(self) -> dict[str, Any]:  # arrays: see `OwnStream`
        live = self.episodes.numpy().copy()
        return {**self.__dict__, "_table": live, "_head": 0, "_tail": len(live), "_tables": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._table = torch.from_numpy(np.array(state["_table"]))

    def dumps(self, path: str | os.PathLike[str]) -> None:
        """Write nothing: `ReplayBuffer.save` writes the whole state."""

    def loads(self, path: str | os.PathLike[str]) -> None:
        """Read nothing: `ReplayBuffer.load` reads the whole state."""


class _Pool:
    """What can be drawn, `size[e]` places in episode e, numbered episode after episode."""

    def __init__(self, size: Tensor) -> None:
        self.ends = size.cumsum(0)
        self.begins = self.ends - size

    def draw(self, low: Tensor, high: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Turn numbers in [0, 1) into places of ranges [low, high): episode, and offset in it."""
        width = high - low
        number = low + (uniform * width).long().minimum(width - 1)  # the product can round up
        episode = torch.searchsorted(self.ends, number, right=True)
        return episode, number - self.begins[episode]


class _Tables:
    """The episodes in order of task and age, ready for drawing: one slot for each of K tasks."""

    def __init__(self, episodes: Tensor, slice_len: int, weights: Mapping[int, float]) -> None:
        order = episodes[:, 2].argsort(stable=True)
        start, length, task, real, live = (column[order] for column in episodes.T)
        tasks, held = task.unique_consecutive(return_counts=True)
        last = held.cumsum(0) - 1
        first = last + 1 - held
        newest = (held * _RECENT_SHARE).ceil().long().clamp_min(_RECENT_EPISODES).minimum(held)
        self.slot = {task: slot for slot, task in enumerate(tasks.tolist())}
        self.start, self.real = start, real
        self.rows = _Pool(live)
        self.starts = _Pool((real - slice_len + 1).clamp_min(1))
        self.windows = _Pool((length - slice_len + 1).minimum(real - 1))
        self.row_bounds, self.start_bounds = (
            torch.stack([pool.begins[first], pool.ends[last]], dim=1)
            for pool in (self.rows, self.starts)
        )
        self.low, self.high = self.windows.begins[first], self.windows.ends[last]
        self.recent_low = self.windows.begins[last + 1 - newest]
        share = (self.high - self.low).double()
        if weights:
            known = [weights.get(t, 0.0) for t in self.slot]
            share = torch.tensor(known, dtype=torch.float64, device="cpu")
            drawn = share.nonzero().flatten()  # a task that is not drawn keeps its slot for rows
            self.low, self.high = self.low[drawn], self.high[drawn]
            self.recent_low, share = self.recent_low[drawn], share[drawn]
        self.cdf = share.cumsum(0)
