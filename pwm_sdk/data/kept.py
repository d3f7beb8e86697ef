"""The episodes that a replay holds, one by one, as a state and as a folder on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.calls import checked
from pwm_sdk.checks import file_path
from pwm_sdk.data.dataset import DATASET, open_dataset
from pwm_sdk.data.ring import Ring
from pwm_sdk.data.row_checks import ROW_KEYS, task_index, task_indices
from pwm_sdk.data.sampler import EpisodeSampler
from pwm_sdk.data.state import (
    LENGTH,
    REAL_LENGTH,
    about_state,
    long_enough,
    read_state,
    rows_of_state,
    select_tasks,
)
from pwm_sdk.data.store import describe, naming, write_folder
from pwm_sdk.keys import REAL

__all__ = ["KeptEpisodes"]

_BLOCK = 1024  # episodes that are copied at once


@checked()
class KeptEpisodes:
    """What a `ReplayBuffer` holds: rows in `_ring`, and in `_sampler` where the episodes lie."""

    device: torch.device
    left_out: int
    _ring: Ring
    _sampler: EpisodeSampler

    def episodes(self, task: int | None = None) -> list[TensorDict]:
        """Return the episodes [T+1] as they were added, oldest first, of all tasks or of one.

        Their entry real is False in absorbing rows, which are not data. They are views, valid until
        the episode is evicted, or a copy where it wraps round the ring.
        """
        return list(self.iter_episodes(task))

    def iter_episodes(self, task: int | None = None) -> Iterator[TensorDict]:
        """Yield what `episodes` returns, one after the other."""
        return self._ring.episodes(self._episodes_of(task))

    def num_episodes(self, task: int | None = None) -> int:
        """Return the number of episodes kept, of all tasks or of one."""
        return len(self._episodes_of(task))

    @property
    def tasks(self) -> list[int]:
        """Indices of the tasks with at least one episode, ascending."""
        return self._sampler.episodes[:, 2].unique().tolist()

    def __len__(self) -> int:
        """Return the number of rows kept, absorbing rows among them."""
        return self._sampler.num_rows

    def state_dict(self) -> dict[str, Tensor]:
        """Return the rows, what is known of each episode, oldest first, and the random state."""
        state = self._sampler.state_dict()
        episodes = self._sampler.episodes
        state |= {LENGTH: episodes[:, 1].clone(), REAL_LENGTH: episodes[:, 3].clone()}
        if len(self):
            rows, _ = self._sampler.rows_of(episodes)
            state.update(self._ring.gather(rows, ROW_KEYS))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Replace everything kept by a state; `sample` then continues to the bit where it was.

        Episodes shorter than a window are left out, and counted in `left_out`.

        Raises:
            ValueError: If the state has more rows than `capacity`, no episode as long as a window,
                or rows that `add` would refuse; what was kept stays then.
        """
        self._ring.check_owned()
        rows, lengths = rows_of_state(state_dict)
        kept = long_enough(lengths, self._sampler.slice_len)
        rows = rows if kept.all() else rows[kept.repeat_interleave(lengths)]
        self._ring.check_room(lengths[kept])
        self._sampler.load_state_dict({"generator": state_dict.get("generator")})
        self._ring.clear()
        self.left_out = int((~kept).sum())
        if len(rows):
            self._ring.write(rows, lengths[kept])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state to a folder (safetensors and JSON), atomically."""
        write_folder(path, self.state_dict(), about_state(self._sampler.episodes))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace everything kept by what `save` wrote; settings stay those of this replay.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: As `load_state_dict`, or if the folder is damaged or holds something else;
                the message names it.
        """
        with naming(path):
            self.load_state_dict(read_state(path))

    @classmethod
    def from_dataset(
        cls,
        path: str | os.PathLike[str],
        tasks: Sequence[int] | None = None,
        slice_len: int = 17,
        batch_size: int = 512,
        device: str | torch.device = "cpu",
        copy: bool = False,
        verify: bool | None = None,
        **settings: Any,
    ) -> Self:
        """Open a folder written by `save` or `from_tdmpc2_chunks` as a replay of its own.

        Args:
            path: the folder.
            tasks: indices (or `Task`s) to keep; None keeps all.
            slice_len: rows of a window.
            batch_size: windows of a batch.
            device: where batches come out, and where the rows are kept if they are copied.
            copy: keep the rows of these tasks on `device`. False leaves what `from_tdmpc2_chunks`
                wrote on the disk, where each batch reads its own rows; no episodes can be added
                then. What `save` wrote is always copied.
            verify: compare rows left on the disk with the digest that was written with them, and
                look at their values where there is none, for which all of them must be read. None
                does so up to 256 MiB; whatever is copied is compared.
            **settings: further arguments of `ReplayBuffer`; `capacity` is the number of rows kept
                unless it is given.

        Episodes shorter than `slice_len` are left out, and counted in `left_out`.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If a task has no episode in it, or none as long as a window, if the folder
                is damaged or holds something else, or if rows left on the disk are given a
                `capacity`.
        """
        path = file_path(path=path)
        kept = None if tasks is None else task_indices(tasks)
        settings = {"slice_len": slice_len, "batch_size": batch_size, "device": device, **settings}
        if describe(path).get("format") == DATASET:
            if not copy and "capacity" in settings:
                raise ValueError(
                    f"capacity must be left out without copy=True, got {settings['capacity']}"
                )
            with naming(path):
                verify = True if copy and verify is None else verify
                rows, episodes = open_dataset(path, kept, verify=verify)
                source = cls(**{**settings, "capacity": len(rows)})
                long = long_enough(episodes[:, 1], source._sampler.slice_len)
                source._ring.read(rows, episodes[long])
            source.left_out = int((~long).sum())
            return cls._copy(source, settings) if copy else source
        with naming(path):
            state = read_state(path)
            if kept is not None:
                state.update(select_tasks(state, kept))
            replay = cls(**{"capacity": max(int(state[LENGTH].sum()), slice_len), **settings})
            state["generator"] = replay._sampler.generator.get_state()
            replay.load_state_dict(state)
        return replay

    @classmethod
    def _copy(cls, source: KeptEpisodes, settings: dict[str, Any]) -> Self:
        """Copy the episodes of a replay into one of its own."""
        replay = cls(**{"capacity": len(source), **settings})
        episodes = source._sampler.episodes
        replay._ring.check_room(episodes[:, 1])
        for block in episodes.split(_BLOCK):
            rows, offset = source._sampler.rows_of(block)
            copied = source._ring.gather(rows, ROW_KEYS)
            real = offset < block[:, 3].repeat_interleave(block[:, 1])
            replay._ring.write(copied.set(REAL, real.unsqueeze(-1)), block[:, 1])
        replay.left_out = source.left_out
        return replay

    def _episodes_of(self, task: int | None) -> Tensor:
        """Return start, length and task of all episodes, or of one task's."""
        table = self._sampler.episodes
        return table if task is None else table[table[:, 2] == task_index(task)]
