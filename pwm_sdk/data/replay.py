"""The replay: episodes of one or many tasks in, windows and start states out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from pwm_sdk.calls import array, checked, least
from pwm_sdk.checks import file_path, whole
from pwm_sdk.data.arrays import array_episodes
from pwm_sdk.data.entries import (
    ROW_KEYS,
    Numbers,
    TaskLike,
    rows_of_episode,
    task_index,
    task_indices,
)
from pwm_sdk.data.episode import long_enough, make_episode
from pwm_sdk.data.folder import FolderWriter, StoredEpisodes, naming, open_folder
from pwm_sdk.data.minari_files import MinariDataset, from_minari_episodes
from pwm_sdk.data.ring import Ring
from pwm_sdk.data.row_checks import check_episodes, per_episode
from pwm_sdk.data.sampler import EpisodeSampler
from pwm_sdk.data.starts import Starts
from pwm_sdk.data.state import GENERATOR, LENGTH, REAL_LENGTH, rows_of_state
from pwm_sdk.data.storage import DiskStorage, rows_of
from pwm_sdk.data.transitions import EpisodeCutter
from pwm_sdk.keys import ACTION, FIRST, OBSERVATION, REAL, REWARD, TASK, TERMINATED

__all__ = ["ReplayBuffer", "make_episode"]

_STEPS = (ACTION, REWARD, TERMINATED, REAL)
_BLOCK = 1024  # episodes that are written or copied at once


@checked(
    capacity=least(1), batch_size=least(1), count=least(1), history=least(0),
    observations=array, actions=array, rewards=array, terminals=array, timeouts=array,
    next_observations=array,
)  # fmt: skip
class ReplayBuffer:
    """Keeps whole episodes and samples windows of `slice_len` rows from them.

    A ring of rows over TorchRL's storage. When a new episode does not fit, the oldest episodes
    leave, whole, whatever their task. No window crosses from one episode into another, and every
    window of a task is equally likely. One `sample` costs the same for any number of rows.

    Copies and pickles continue the stream of draws where it was, to the bit. In a worker of a
    `DataLoader` the stream begins again, with numbers that follow from the replay's and from the
    worker's seed, so that no two workers draw the same; other processes must be given replays of
    different seeds.

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

    Attributes:
        left_out: episodes of the folder or state it was loaded from that were shorter than a
            window, and are not kept.

    Raises:
        ValueError: if an argument is out of its range.
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
        capacity, batch_size = whole(1, capacity=capacity, batch_size=batch_size)
        slice_len = whole(1, slice_len=slice_len)
        if slice_len < 2:
            raise ValueError(f"slice_len must be at least 2 rows, one step, got {slice_len}")
        if capacity < slice_len:
            raise ValueError(f"capacity must be at least slice_len={slice_len}, got {capacity}")
        self.capacity, self.slice_len, self.batch_size = capacity, slice_len, batch_size
        self.device = torch.empty(0, device=device).device
        self.left_out = 0
        self._sampler = EpisodeSampler(
            capacity, slice_len, task_weights=task_weights, recent=recent, seed=seed
        )
        self._ring = Ring(self._sampler, self.device)
        self._check_batch_size(batch_size)

    def add(self, episode: TensorDictBase | Mapping[str, Any]) -> None:
        """Keep a copy of an episode, laid out as by `make_episode`.

        Args:
            episode: observation `[T+1, O]`, action `[T+1, A]` and reward `[T+1, 1]`, task `[T+1]`
                or one integer, and optionally terminated and real `[T+1, 1]` bool, as tensors
                (float32, on any device), arrays or lists; row t holds the step that led to it, so
                action and reward of row 0 mean nothing and may be NaN.

        Raises:
            ValueError: if the episode is shorter than a window or longer than the replay, if an
                entry is missing or has the wrong shape, dtype or device, if it is not finite, or if
                the episode goes on after an end.
        """
        rows = rows_of_episode(episode)
        lengths = torch.tensor([len(rows[TASK])], device="cpu")
        about = check_episodes([rows], lengths, numbered=False)
        self._ring.check_room(lengths)
        self._ring.write([rows], lengths, about)

    def extend(self, episodes: Iterable[TensorDictBase | Mapping[str, Any]]) -> None:
        """Keep copies of several episodes, as `add` would one after the other, but faster.

        Args:
            episodes: each as for `add`.

        Raises:
            ValueError: if `add` would refuse one; its number is in the message, and none is kept.
        """
        self._ring.check_owned()
        found = []
        for number, episode in enumerate(episodes):
            try:
                found.append(rows_of_episode(episode))
                if not self.slice_len <= len(found[-1][TASK]) <= self.capacity:
                    self._ring.check_room(torch.tensor([len(found[-1][TASK])], device="cpu"))
            except ValueError as error:
                raise ValueError(f"{error} in episode {number}") from error
        if not found:
            return
        lengths = torch.tensor([len(rows[TASK]) for rows in found], device="cpu")
        self._ring.check_sizes(found)
        about = check_episodes(found, lengths)
        after = lengths.sum() - lengths.cumsum(0) + lengths  # rows from each episode to the end
        left = int(
            (after > self.capacity).sum()
        )  # they would leave again, as would all that is there
        if left:
            self._ring.evict_all()
        self._ring.write(found[left:], lengths[left:], about[left:])

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[TensorDictBase | Mapping[str, Any]],
        slice_len: int = 17,
        batch_size: int = 512,
        **settings: object,
    ) -> Self:
        """Return a replay of some episodes; shorter ones than a window are counted in `left_out`.

        Args:
            episodes: each as for `add`, for example what an `EpisodeCutter` returns.
            slice_len: rows of a window.
            batch_size: windows of a batch.
            **settings: further arguments of `ReplayBuffer`; `capacity` is the number of rows unless
                it is given.

        Raises:
            ValueError: if no episode is as long as a window, or `add` refuses one.
        """
        found = [rows_of_episode(episode) for episode in episodes]
        long = [rows for rows in found if len(rows[TASK]) >= slice_len]
        if not long:
            longest = max((len(rows[TASK]) for rows in found), default=0)
            raise ValueError(
                f"episodes must have length >= slice_len={slice_len} rows, got {longest} at most"
            )
        size = max(slice_len, sum(len(rows[TASK]) for rows in long))
        more: dict[str, Any] = {"capacity": size, **settings}
        replay = cls(**more, slice_len=slice_len, batch_size=batch_size)
        replay.extend(long)
        replay.left_out = len(found) - len(long)
        return replay

    @classmethod
    def from_transitions(
        cls,
        batch: TensorDictBase,
        *,
        task: TaskLike | None = None,
        bounds: tuple[Any, Any] | None = None,
        **settings: object,
    ) -> Self:
        """Return a replay of transitions in TorchRL's layout, as its collectors and datasets have.

        Args:
            batch: transitions `[T]` of one stream or `[N, T]` of N, in order of time; see
                `EpisodeCutter.cut`, which takes a collector's batches one by one.
            task: index of the task, or a `Task`; None: the entry `task`, or 0.
            bounds: low and high of the actions, which are scaled to [-1, 1]; None: they lie there.
            **settings: see `from_episodes`.

        Raises:
            ValueError: if `EpisodeCutter` or `from_episodes` refuses them.
        """
        more: dict[str, Any] = settings
        cutter = EpisodeCutter(task, bounds=bounds, absorbing=_ends_of(more))
        return cls.from_episodes([*cutter.cut(batch), *cutter.rest()], **more)

    @classmethod
    def from_arrays(
        cls,
        observations: Numbers,
        actions: Numbers,
        rewards: Numbers,
        terminals: Numbers,
        timeouts: Numbers | None = None,
        *,
        next_observations: Numbers | None = None,
        task: TaskLike = 0,
        bounds: tuple[Any, Any] | None = None,
        **settings: object,
    ) -> Self:
        """Return a replay of flat arrays of N steps, as D4RL's; see `array_episodes`.

        Args:
            observations: `[N, O]`, before each step.
            actions: `[N, A]`.
            rewards: `[N]`.
            terminals: `[N]`, where an episode ended in a state of no further reward.
            timeouts: `[N]`, where one was cut; None: nowhere.
            next_observations: `[N, O]`; None: taken from the next step, so that the last step of an
                episode that was cut is lost.
            task: index of the task, or a `Task`.
            bounds: low and high of the actions, which are scaled to [-1, 1]; None: they lie there.
            **settings: see `from_episodes`.

        Raises:
            ValueError: if lengths differ, or `from_episodes` refuses the episodes.
        """
        more: dict[str, Any] = settings
        made = array_episodes(
            observations,
            actions,
            rewards,
            terminals,
            timeouts,
            next_observations=next_observations,
            task=task,
            bounds=bounds,
            absorbing=_ends_of(more),
        )
        return cls.from_episodes(made, **more)

    @classmethod
    def from_minari(cls, dataset: MinariDataset, *, task: TaskLike = 0, **settings: object) -> Self:
        """Return a replay of a Minari dataset.

        Args:
            dataset: a `minari.MinariDataset`, or the name of one on this machine.
            task: index of the task, or a `Task`.
            **settings: see `from_episodes`.

        Raises:
            ImportError: if a name is given and minari is not installed.
            ValueError: if observations are no vectors, actions have no bounds, or `from_episodes`
                refuses the episodes.
        """
        more: dict[str, Any] = settings
        made = from_minari_episodes(dataset, task=task, absorbing=_ends_of(more))
        return cls.from_episodes(made, **more)

    def sample(self, batch_size: int | None = None) -> TensorDict:
        """Draw a batch of windows, sorted by task.

        Args:
            batch_size: B, windows; None takes the replay's own.

        Returns:
            TensorDict `[B]`: observation `[B, H+1, O]`; action `[B, H, A]`, reward `[B, H, 1]`,
            terminated `[B, H, 1]` and real `[B, H, 1]` of the H steps between them; task `[B]`
            int64. Steps after an end (`absorbing` of `make_episode`) are not real: there is no
            action to clone in them. The first step is real.

        Raises:
            ValueError: if the replay is empty, if a weighted task has no episode, or if
                `batch_size` is smaller than the number of weighted tasks.
        """
        count = self.batch_size if batch_size is None else whole(1, batch_size=batch_size)
        self._check_batch_size(count)
        self._check_filled()
        rows = self._ring.sample(count * self.slice_len).reshape(count, self.slice_len)
        steps = {key: rows.get(key)[:, 1:] for key in _STEPS}
        batch = {OBSERVATION: rows.get(OBSERVATION), **steps, TASK: rows.get(TASK)[:, 0]}
        return TensorDict(batch, batch_size=[count], device=self.device)

    def sample_starts(self, tasks: Sequence[int], count: int, history: int = 0) -> TensorDict:
        """Draw observations to start imagination from, uniform over all live rows of each task.

        Live rows are those of data, absorbing rows left out, and the ones where an episode
        terminated.

        Args:
            tasks: P task indices, one per policy; a task may come several times.
            count: observations per policy.
            history: C, rows before each that come along, for a model with memory.

        Returns:
            TensorDict `[P, count]`: observation `[P, count, O]`, task `[P, count]` int64, action
            `[P, count, A]` that was taken there, and real `[P, count, 1]`: False, with an action of
            0, where an episode was cut and none was taken. With a history: observation
            `[P, count, C+1, O]`, the last of which is the start, action `[P, count, C+1, A]` that
            was taken at each, and first `[P, count, C+1, 1]`: True where nothing came before, as in
            the rows that repeat an episode's first one in place of missing ones.

        Raises:
            ValueError: if the replay is empty, a task has no episode in it, or `count` is below 1.
        """
        count = whole(1, count=count)
        self._check_filled()
        rows, goes_on, offset = self._sampler.draw_rows(task_indices(tasks), count)
        found = self._ring.starts(rows, goes_on)
        if whole(0, history=history):
            before = self._ring.history(rows, offset, history)
            taken = torch.cat([before[ACTION][..., 1:, :], found[ACTION].unsqueeze(-2)], -2)
            seen = {OBSERVATION: before[OBSERVATION], FIRST: before[FIRST]}
            found.update({**seen, ACTION: taken})
        return found.to(self.device)

    def starts(self, tasks: int | Sequence[int], count: int, seeds: int | Sequence[int]) -> Starts:
        """Return an endless source of first observations of windows, all that a policy needs.

        Args:
            tasks: index (or `Task`) of one policy, or of each of P policies; repeats are welcome.
            count: observations per policy and batch.
            seeds: of a policy's own random numbers, one or P.

        Returns:
            A source whose `sample()` is a TensorDict `[count]` or `[P, count]`.

        Raises:
            ValueError: if there are not as many seeds as policies.
        """
        return Starts(self._sampler, self._ring, tasks, count, seeds, self.device)

    def statistics(self, task: TaskLike) -> dict[str, Tensor]:
        """Return moments of a task's real rows, each counted once, fillers of row 0 left out.

        Args:
            task: index of the task.

        Returns:
            observation_mean `[O]`, observation_std `[O]`, reward_mean `[1]` and reward_var `[1]`
            (squared units); deviations are those of the rows themselves (divided by N, not N - 1).

        Raises:
            ValueError: if the task has no episode in the replay.
        """
        episodes = self._episodes_of(task_index(task))
        if not len(episodes):
            raise ValueError(f"task must be among {self.tasks}, got {task_index(task)}")
        rows, offset = rows_of(episodes, self.capacity, real=True)
        observation = self._ring.gather(rows, [OBSERVATION])[OBSERVATION].double()
        reward = self._ring.gather(rows[offset > 0], [REWARD])[REWARD].double()
        found = {}
        for name, values in (("observation", observation), ("reward", reward)):
            var, mean = torch.var_mean(values.to(self.device), dim=0, correction=0)
            found |= {f"{name}_mean": mean.float(), f"{name}_var": var.float()}
        found["observation_std"] = found.pop("observation_var").sqrt()
        return found

    def episodes(self, task: int | None = None) -> list[TensorDict]:
        """Return the episodes `[T+1]` as they were added, oldest first, of all tasks or of one.

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
            rows, _ = rows_of(episodes, self.capacity)
            state.update(self._ring.gather(rows, ROW_KEYS))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Replace everything kept by a state; `sample` then continues to the bit where it was.

        Episodes shorter than a window are left out, and counted in `left_out`.

        Raises:
            ValueError: if the state has more rows than `capacity`, no episode as long as a window,
                or rows that `add` would refuse; what was kept stays then.
        """
        self._ring.check_owned()
        rows, lengths = rows_of_state(state_dict)
        self._replace(rows, lengths, state_dict.get(GENERATOR))

    @property
    def generator(self) -> torch.Generator:
        """Source of the replay's random numbers; its state says where `sample` goes on."""
        return self._sampler.generator

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state to a folder, replacing atomically what an earlier `save` wrote.

        Raises:
            ValueError: if the folder holds anything else, such as a converted dataset.
        """
        state = self._sampler.state_dict()[GENERATOR]
        with FolderWriter(path, replace=True, generator=state) as writer:
            for rows, lengths in self._ring.blocks(_BLOCK):
                writer.append(rows, lengths)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace everything kept by the episodes of a folder; settings stay those of this replay.

        What `save` wrote continues to the bit. A folder without a state of random numbers, such as
        a converted dataset, leaves those of this replay as they are.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if `load_state_dict` would refuse them, or the folder is damaged or holds
                something else; the message names it.
        """
        with naming(path):
            self._ring.check_owned()
            stored = open_folder(path, verify=True)
            none = TensorDict({}, [0]), torch.empty(0, dtype=torch.int64, device="cpu")
            blocks = stored.blocks(max(1, len(stored.episodes)), verify=True)
            state = stored.generator
            self._replace(
                *next(blocks, none), self.generator.get_state() if state is None else state
            )

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
        **settings: object,
    ) -> Self:
        """Open a folder of episodes, saved or converted, as a replay with a seed of its own.

        Episodes shorter than `slice_len` are left out, and counted in `left_out`.

        Args:
            path: the folder.
            tasks: indices (or `Task`s) to keep; None keeps all.
            slice_len: rows of a window.
            batch_size: windows of a batch.
            device: where batches come out, and where the rows are kept if they are copied.
            copy: keep the rows of these tasks on `device`. False leaves them on the disk, where
                each batch reads its own rows; no episodes can be added then. Folders that `save`
                wrote before version 3 cannot be read so, and are copied.
            verify: compare rows with the digest that was written with them, and look at their
                values where there is none, for which all of them must be read. None does so up to
                256 MiB, and for whatever is copied.
            **settings: further arguments of `ReplayBuffer`; `capacity` is the number of rows unless
                it is given, which needs `copy`.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if a task has no episode in it, or none as long as a window, if the folder
                is damaged or holds something else, or if rows left on the disk are given a
                `capacity`.
        """
        path = file_path(path=path)
        kept = None if tasks is None else task_indices(tasks)
        if not copy and "capacity" in settings:
            raise ValueError(
                f"capacity must be left out without copy=True, got {settings['capacity']}"
            )
        with naming(path):
            stored = open_folder(path, verify=True if copy and verify is None else verify)
            stored = stored.of_tasks(kept)
            long = long_enough(stored.episodes[:, 1], slice_len)
            found = stored.chosen(long)
            here = not copy and isinstance(found.rows, DiskStorage)
            size = len(found.rows) if here else max(slice_len, int(found.episodes[:, 1].sum()))
            more: dict[str, Any] = {"capacity": size, **settings}
            replay = cls(
                **more,
                slice_len=slice_len,
                batch_size=batch_size,
                device=device,
            )
            replay._take_in(found, copy, verify is not False)
        replay.left_out = int((~long).sum())
        return replay

    def _take_in(self, stored: StoredEpisodes, copy: bool, verify: bool) -> None:
        """Copy the rows of a folder into a replay without any, or read them where they are."""
        if not copy and isinstance(stored.rows, DiskStorage):
            self._ring.read(stored.rows, stored.episodes)
            return
        self._ring.check_room(stored.episodes[:, 1])
        for rows, lengths in stored.blocks(_BLOCK, verify=verify):
            self._ring.write([rows], lengths, per_episode(rows, lengths))

    def _replace(self, rows: TensorDict, lengths: Tensor, generator: Tensor | None) -> None:
        """Replace everything kept by rows `[N]` of checked episodes, and continue a stream."""
        kept = long_enough(lengths, self.slice_len)
        about = per_episode(rows, lengths)[kept] if len(lengths) else lengths.reshape(0, 3)
        rows = rows if kept.all() else rows[kept.repeat_interleave(lengths)]
        self._ring.check_room(lengths[kept])
        self._sampler.load_state_dict({GENERATOR: generator})
        self._ring.clear()
        self.left_out = int((~kept).sum())
        if len(rows):
            self._ring.write([rows], lengths[kept], about)

    def _episodes_of(self, task: int | None) -> Tensor:
        """Return start, length and task of all episodes, or of one task's."""
        table = self._sampler.episodes
        return table if task is None else table[table[:, 2] == task_index(task)]

    def _check_filled(self) -> None:
        """Raise ValueError where there is nothing to draw from."""
        if not len(self):
            raise ValueError("replay is empty: add an episode first")

    def _check_batch_size(self, batch_size: int) -> None:
        """Raise ValueError for a batch without a window for each weighted task."""
        least = max(1, len(self._sampler.weights))
        if batch_size < least:
            raise ValueError(f"batch_size must be at least {least}, got {batch_size}")


def _ends_of(settings: Mapping[str, Any]) -> int:
    """Return how many absorbing rows windows of these settings need to show ends at every step."""
    return max(0, whole(2, slice_len=settings.get("slice_len", 17)) - 2)
