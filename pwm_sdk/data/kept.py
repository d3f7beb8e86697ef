"""The episodes that a replay holds, one by one, as a state and as a folder on the disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.calls import checked
from pwm_sdk.data.dataset import DATASET, open_dataset
from pwm_sdk.data.episode import ROW_KEYS, select_tasks, task_index
from pwm_sdk.data.ring import Ring
from pwm_sdk.data.sampler import EpisodeSampler
from pwm_sdk.data.store import describe, read_folder, write_folder

__all__ = ["KeptEpisodes"]

_FORMAT, _VERSION = "pwm_sdk.replay", 1
_BLOCK = 1024  # episodes that are copied at once


@checked()
class KeptEpisodes:
    """What a `ReplayBuffer` holds: rows in `_ring`, and in `_sampler` where the episodes lie."""

    device: torch.device
    _ring: Ring
    _sampler: EpisodeSampler

    def episodes(self, task: int | None = None) -> list[TensorDict]:
        """Return the episodes [T+1] as they were added, oldest first, of all tasks or of one.

        They are views, valid until the episode is evicted, or a copy where it wraps round the ring.
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
        """Return the number of rows kept."""
        return self._sampler.num_rows

    def state_dict(self) -> dict[str, Tensor]:
        """Return the rows, the length of each episode, oldest first, and the random state."""
        state = self._sampler.state_dict()
        state["length"] = self._sampler.episodes[:, 1].clone()
        if len(self):
            rows, _ = self._sampler.rows_of(self._sampler.episodes)
            state.update(self._ring.gather(rows, ROW_KEYS))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Replace everything kept by a state; `sample` then continues to the bit where it was.

        Raises:
            ValueError: If the state has more rows than `capacity`, or an episode shorter than
                `slice_len`.
        """
        lengths = state_dict["length"]
        rows = TensorDict(
            {key: state_dict[key] for key in ROW_KEYS if key in state_dict},
            batch_size=[int(lengths.sum())],
            device=self.device,
        )
        self._ring.check_room(lengths)
        self._ring.clear()
        self._sampler.load_state_dict({"generator": state_dict["generator"]})
        if len(lengths):
            self._ring.write(rows, lengths)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state to a folder (safetensors and JSON), atomically."""
        held = Counter(self._sampler.episodes[:, 2].tolist())
        about = {"rows": len(self), "episodes": {str(task): held[task] for task in self.tasks}}
        about = {"format": _FORMAT, "version": _VERSION, **about}
        write_folder(path, self.state_dict(), about)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace everything kept by what `save` wrote; settings stay those of this replay.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: As `load_state_dict`, or if the folder holds something else.
        """
        self.load_state_dict(read_folder(path, format=_FORMAT, version=_VERSION)[0])

    @classmethod
    def from_dataset(
        cls,
        path: str | os.PathLike[str],
        tasks: Sequence[int] | None = None,
        slice_len: int = 17,
        batch_size: int = 512,
        device: str | torch.device = "cpu",
        copy: bool = False,
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
            **settings: further arguments of `ReplayBuffer`; `capacity` is the number of rows kept
                unless it is given.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If a task has no episode in it, an episode is shorter than `slice_len`, the
                folder holds something else, or rows left on the disk are given a `capacity`.
        """
        kept = None if tasks is None else [task_index(task) for task in tasks]
        settings = {"slice_len": slice_len, "batch_size": batch_size, "device": device, **settings}
        if describe(path).get("format") == DATASET:
            rows, episodes = open_dataset(path, kept)
            if not copy and "capacity" in settings:
                raise ValueError(
                    f"capacity must be left out without copy=True, got {settings['capacity']}"
                )
            source = cls(**{**settings, "capacity": len(rows)})
            source._ring.read(rows, episodes)
            return cls._copy(source, settings) if copy else source
        state, _ = read_folder(path, format=_FORMAT, version=_VERSION)
        if kept is not None:
            state.update(select_tasks(state, kept))
        replay = cls(**{"capacity": max(int(state["length"].sum()), slice_len), **settings})
        replay.load_state_dict({**state, "generator": replay._sampler.generator.get_state()})
        return replay

    @classmethod
    def _copy(cls, source: KeptEpisodes, settings: dict[str, Any]) -> Self:
        """Copy the episodes of a replay into one of its own."""
        replay = cls(**{"capacity": len(source), **settings})
        episodes = source._sampler.episodes
        replay._ring.check_room(episodes[:, 1])
        for block in episodes.split(_BLOCK):
            rows, _ = source._sampler.rows_of(block)
            copied = source._ring.gather(rows, ROW_KEYS).to(replay.device)
            replay._ring.write(copied, block[:, 1])
        return replay

    def _episodes_of(self, task: int | None) -> Tensor:
        """Return start, length and task of all episodes, or of one task's."""
        table = self._sampler.episodes
        return table if task is None else table[table[:, 2] == task_index(task)]
