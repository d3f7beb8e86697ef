"""The replay: episodes of one or many tasks in, windows and start states out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from pwm_sdk.data.dataset import DATASET, open_dataset
from pwm_sdk.data.episode import (
    ROW_KEYS,
    check_episode,
    make_episode,
    select_tasks,
    task_index,
)
from pwm_sdk.data.ring import Ring
from pwm_sdk.data.sampler import EpisodeSampler
from pwm_sdk.data.store import describe, read_folder, write_folder
from pwm_sdk.keys import ACTION, OBSERVATION, REWARD, TASK, TERMINATED

__all__ = ["ReplayBuffer", "make_episode"]

_FORMAT, _VERSION = "pwm_sdk.replay", 1
_BLOCK = 4096  # episodes that are copied at once


class ReplayBuffer:
    """Keeps whole episodes and samples windows of `slice_len` rows from them.

    A ring of rows over TorchRL's storage. When a new episode does not fit, the oldest episodes
    leave, whole, whatever their task. No window crosses from one episode into another, and every
    window of a task is equally likely. One `sample` costs the same for any number of rows.

    Args:
        capacity: rows to keep at most.
        slice_len: rows of a window: H + 1 observations for H steps.
        batch_size: windows of a batch.
        task_weights: share of the windows by task index, in any unit; tasks left out are not
            sampled. None makes every window of the replay equally likely.
        recent: share of each task's windows drawn from its newest episodes only (a tenth of them,
            at least five).
        device: where the rows are kept and come out.
        seed: of the replay's own random numbers; None takes one from the system.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        capacity: int,
        slice_len: int,
        batch_size: int,
        *,
        task_weights: Mapping[int, float] | None = None,
        recent: float = 0.0,
        device: str | torch.device = "cpu",
        seed: int | None = None,
    ) -> None:
        if slice_len < 2:
            raise ValueError(f"slice_len must be at least 2 rows, one step, got {slice_len}")
        if capacity < slice_len:
            raise ValueError(f"capacity must be at least slice_len={slice_len}, got {capacity}")
        self.capacity, self.slice_len, self.batch_size = capacity, slice_len, batch_size
        self.device = torch.empty(0, device=device).device
        self._sampler = EpisodeSampler(
            capacity, slice_len, task_weights=task_weights, recent=recent, seed=seed
        )
        self._ring = Ring(self._sampler, self.device)
        self._check_batch_size(batch_size)

    def add(self, episode: TensorDictBase | Mapping[str, Tensor]) -> None:
        """Keep a copy of an episode, laid out as by `make_episode`.

        Args:
            episode: observation [T+1, O], action [T+1, A] and reward [T+1, 1] float32, task [T+1]
                or [] integer, and optionally terminated [T+1, 1] bool; row t holds the step that
                led to it, so action and reward of row 0 mean nothing and may be NaN.

        Raises:
            ValueError: If the episode is shorter than a window or longer than the replay, if an
                entry is missing or has the wrong shape, dtype or device, or if it is not finite.
        """
        rows = check_episode(episode, self.device)
        lengths = torch.tensor([len(rows)])
        self._ring.check_room(lengths)
        self._ring.write(rows, lengths)

    def sample(self, batch_size: int | None = None) -> TensorDict:
        """Draw a batch of windows, sorted by task.

        Args:
            batch_size: B, windows; None takes the replay's own.

        Returns:
            TensorDict [B]: observation [B, H+1, O]; action [B, H, A], reward [B, H, 1] and
            terminated [B, H, 1] of the H steps between them; task [B] int64.

        Raises:
            ValueError: If the replay is empty, if a weighted task has no episode, or if
                `batch_size` is smaller than the number of weighted tasks.
        """
        count = self.batch_size if batch_size is None else batch_size
        self._check_batch_size(count)
        if not len(self):
            raise ValueError("replay is empty: add an episode first")
        rows = self._ring.sample(count * self.slice_len).reshape(count, self.slice_len)
        steps = {key: rows.get(key)[:, 1:] for key in (ACTION, REWARD, TERMINATED)}
        batch = {OBSERVATION: rows.get(OBSERVATION), **steps, TASK: rows.get(TASK)[:, 0]}
        return TensorDict(batch, batch_size=[count], device=self.device)

    def sample_starts(self, tasks: Sequence[int], count: int) -> TensorDict:
        """Draw observations to start imagination from, uniform over all rows of each task.

        Args:
            tasks: P task indices, one per policy; a task may come several times.
            count: observations per policy.

        Returns:
            TensorDict [P, count]: observation [P, count, O], task [P, count] int64.

        Raises:
            ValueError: If a task has no episode in the replay.
        """
        rows = self._sampler.draw_rows([task_index(task) for task in tasks], count)
        return self._ring.gather(rows, (OBSERVATION, TASK)).to(self.device)

    def statistics(self, task: int) -> dict[str, Tensor]:
        """Return moments of a task's rows, each row counted once, fillers left out.

        Args:
            task: index of the task.

        Returns:
            observation_mean [O], observation_std [O], reward_mean [1] and reward_var [1] (squared
            units); deviations are those of the rows themselves (divided by N, not N - 1).

        Raises:
            ValueError: If the task has no episode in the replay.
        """
        episodes = self._episodes_of(task)
        if not len(episodes):
            raise ValueError(f"task must be among {self.tasks}, got {task_index(task)}")
        rows, offset = self._sampler.rows_of(episodes)
        observation = self._ring.gather(rows, [OBSERVATION])[OBSERVATION].double()
        reward = self._ring.gather(rows[offset > 0], [REWARD])[REWARD].double()
        found = {}
        for name, values in (("observation", observation), ("reward", reward)):
            var, mean = torch.var_mean(values.to(self.device), dim=0, correction=0)
            found |= {f"{name}_mean": mean.float(), f"{name}_var": var.float()}
        found["observation_std"] = found.pop("observation_var").sqrt()
        return found

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
    def generator(self) -> torch.Generator:
        """Source of the replay's random numbers; its state says where `sample` goes on."""
        return self._sampler.generator

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
        mapped: bool = True,
        **settings: Any,
    ) -> ReplayBuffer:
        """Open a folder written by `save` or `from_tdmpc2_chunks` as a replay of its own.

        Args:
            path: the folder.
            tasks: indices (or `Task`s) to keep; None keeps all.
            slice_len: rows of a window.
            batch_size: windows of a batch.
            device: where batches come out, and where the rows are kept if they are copied.
            mapped: leave the rows of `from_tdmpc2_chunks` on the disk, where each batch reads its
                own; no episodes can be added then. False copies the rows of these tasks to
                `device`. What `save` wrote is always copied.
            **settings: further arguments of `ReplayBuffer`; `capacity` is the number of rows kept
                unless it is given.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If a task has no episode in it, an episode is shorter than `slice_len`, the
                folder holds something else, or mapped rows are given a `capacity`.
        """
        kept = None if tasks is None else [task_index(task) for task in tasks]
        settings = {"slice_len": slice_len, "batch_size": batch_size, "device": device, **settings}
        if describe(path).get("format") == DATASET:
            found = open_dataset(path, kept, random=mapped)
            if mapped and "capacity" in settings:
                raise ValueError(f"capacity must be left out, got {settings['capacity']} mapped")
            source = cls(**{**settings, "capacity": len(found.rows)})
            source._ring.map(*found)
            return source if mapped else cls._copy(source, settings)
        state, _ = read_folder(path, format=_FORMAT, version=_VERSION)
        if kept is not None:
            state.update(select_tasks(state, kept))
        replay = cls(**{"capacity": max(int(state["length"].sum()), slice_len), **settings})
        replay.load_state_dict({**state, "generator": replay._sampler.generator.get_state()})
        return replay

    @classmethod
    def _copy(cls, source: ReplayBuffer, settings: dict[str, Any]) -> ReplayBuffer:
        """Copy the episodes of a mapped replay into one of its own."""
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

    def _check_batch_size(self, batch_size: int) -> None:
        """Raise ValueError for a batch without a window for each weighted task."""
        least = max(1, len(self._sampler.weights))
        if batch_size < least:
            raise ValueError(f"batch_size must be at least {least}, got {batch_size}")
