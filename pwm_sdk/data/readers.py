"""Data of others as episodes: transitions in TorchRL's layout, flat arrays, Minari's datasets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from pwm_sdk.calls import array, checked, has, least
from pwm_sdk.checks import whole
from pwm_sdk.data.arrays import copied
from pwm_sdk.data.episode import make_episode, task_index
from pwm_sdk.keys import ACTION, DONE, NEXT, OBSERVATION, REWARD, TASK, TERMINATED, TRUNCATED

__all__ = ["EpisodeCutter", "array_episodes", "minari_data_episodes"]

# Entries that number the trajectories of a batch, by who writes them; the first one found counts.
TRAJECTORIES = (("collector", "traj_ids"), "traj_ids", "episode", ("collector", "episode"))


@checked(absorbing=least(0), batch=has("batch_size", "get"))
class EpisodeCutter:
    """Cuts streams of transitions, in TorchRL's layout, into episodes.

    A stream is cut where a step is done, where the number of its trajectory changes, and where the
    next observation of a step is not the observation that follows: then the rest was recorded
    elsewhere. What is open at the end of a batch goes on with the next one.

    Args:
        task: index of the task, or a `Task`; None: that of the batches, or 0.
        bounds: low and high of the actions, numbers or `[A]`, which are scaled to [-1, 1]; None:
            they lie there.
        absorbing: see `make_episode`.

    Raises:
        ValueError: for bounds that are not finite, or not in order.
    """

    def __init__(self, task: Any = None, *, bounds: Any = None, absorbing: int = 0) -> None:
        self.task = None if task is None else task_index(task)
        self.absorbing = whole(0, absorbing=absorbing)
        self._bounds = _checked_bounds(bounds)
        self._open: list[TensorDictBase] = []  # of each stream

    def cut(self, batch: TensorDictBase) -> list[TensorDict]:
        """Take in a batch and return the episodes that it completes.

        Args:
            batch: transitions `[T]` of one stream or `[N, T]` of N of them, in order of time:
                observation `[.., O]`, action `[.., A]`, and under next observation `[.., O]`,
                reward and done or terminated (and truncated), `[.., 1]`.

        Returns:
            Episodes as of `make_episode`, stream by stream.

        Raises:
            ValueError: for a batch of another number of streams than before, an entry that is
                missing, or steps that no episode can hold.
        """
        rows = _entries(batch, self.task)
        if self._open and len(self._open) != len(rows):
            raise ValueError(f"batch must hold {len(self._open)} streams, got {len(rows)}")
        streams: list[Any] = list(rows.unbind(0))
        if self._open:
            streams = [torch.cat(pair) for pair in zip(self._open, streams, strict=True)]
        done: list[TensorDict] = []
        self._open = []
        for stream in streams:
            first = 0
            for last in (stream[_ENDS] | _jumps(stream)).nonzero().flatten().tolist():
                done.append(self._episode(stream[first : last + 1]))
                first = last + 1
            self._open.append(stream[first:])
        return done

    def rest(self) -> list[TensorDict]:
        """Return what is open as episodes that were cut, and begin anew."""
        begun, self._open = self._open, []
        return [self._episode(rows) for rows in begun if len(rows)]

    def _episode(self, rows: Any) -> TensorDict:
        observations = torch.cat([rows[OBSERVATION], rows[_AFTER][-1:]])
        action, task = _scaled(rows[ACTION], self._bounds), int(rows[TASK][0])
        flags = rows[TERMINATED]
        return make_episode(
            observations, action, rows[REWARD], task, flags, absorbing=self.absorbing
        )


_AFTER, _ENDS, _NUMBER = "after", "ends", "number"


def _checked_bounds(bounds: Any) -> tuple[Tensor, Tensor] | None:
    """Return low and high of actions as tensors, or None for actions in [-1, 1]."""
    if bounds is None:
        return None
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"bounds must be (low, high), got {bounds!r}")
    low, high = (copied("bounds", edge, torch.float32) for edge in bounds)
    if not bool((low.isfinite() & high.isfinite() & (low < high)).all()):
        raise ValueError(f"bounds must be finite and low below high, got {bounds}")
    return low, high


def _scaled(action: Tensor, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
    """Bring actions from their bounds to [-1, 1]."""
    if bounds is None:
        return action
    low, high = bounds
    return (2.0 * (action - low) / (high - low) - 1.0).clamp(-1.0, 1.0)


def _entries(batch: TensorDictBase, task: int | None) -> TensorDict:
    """Return what episodes need of a batch `[T]` or `[N, T]`, `[N, T]` on the CPU."""
    if batch.device is not None and batch.device.type == "meta":
        raise ValueError("batch must hold numbers, got tensors on meta")
    if len(batch.batch_size) not in (1, 2):
        raise ValueError(f"batch must have batch size [T] or [N, T], got {list(batch.batch_size)}")
    shape = batch.batch_size if len(batch.batch_size) == 2 else (1, *batch.batch_size)
    found = {name: _entry(batch, name) for name in (OBSERVATION, ACTION)}
    found[_AFTER] = _entry(batch, (NEXT, OBSERVATION))
    found[REWARD] = _entry(batch, (NEXT, REWARD))
    flags = [batch.get((NEXT, name), None) for name in (DONE, TERMINATED, TRUNCATED)]
    if flags[0] is None and flags[1] is None:
        raise ValueError("batch must hold done or terminated under next, got neither")
    ends = [flag.reshape(batch.batch_size) for flag in flags if flag is not None]
    found[_ENDS] = torch.stack([end.bool() for end in ends]).any(0)
    terminated: Any = flags[1] if flags[1] is not None else flags[0]
    found[TERMINATED] = terminated.bool().reshape(batch.batch_size)
    numbers = next((n for key in TRAJECTORIES if (n := batch.get(key, None)) is not None), None)
    none = torch.zeros(batch.batch_size, dtype=torch.int64, device="cpu")
    found[_NUMBER] = none if numbers is None else numbers.reshape(batch.batch_size)
    if task is None:
        ids = batch.get(TASK, None)
        found[TASK] = none if ids is None else ids.reshape(batch.batch_size)
    else:
        found[TASK] = torch.full(batch.batch_size, task, device="cpu")
    rows = {key: value.detach().cpu().reshape(*shape, *value.shape[len(batch.batch_size) :])
            for key, value in found.items()}  # fmt: skip
    return TensorDict(rows, shape)


def _entry(batch: TensorDictBase, key: Any) -> Tensor:
    """Return a floating-point entry of a batch."""
    value = batch.get(key, None)
    if not isinstance(value, Tensor) or value.is_meta:
        raise ValueError(f"batch must hold {key}, got {sorted(map(str, batch.keys(True, True)))}")
    return value.float() if value.is_floating_point() else value


def _jumps(rows: TensorDictBase) -> Tensor:
    """Tell after which of the rows `[T]` the stream goes on elsewhere, `[T]` bool; not the last."""
    same: Any = (rows[_AFTER][:-1] == rows[OBSERVATION][1:]).all(-1)
    same &= (rows[_NUMBER][:-1] == rows[_NUMBER][1:]) & (rows[TASK][:-1] == rows[TASK][1:])
    return torch.cat([~same, torch.zeros(1, dtype=torch.bool, device="cpu")])


@checked(
    observations=array, actions=array, rewards=array, terminals=array, timeouts=array,
    next_observations=array, absorbing=least(0),
)  # fmt: skip
def array_episodes(
    observations: Any,
    actions: Any,
    rewards: Any,
    terminals: Any,
    timeouts: Any = None,
    *,
    next_observations: Any = None,
    task: Any = 0,
    bounds: Any = None,
    absorbing: int = 0,
) -> list[TensorDict]:
    """Cut flat arrays of N steps, as D4RL's, into episodes.

    Args:
        observations: `[N, O]`, of each step before it was taken.
        actions: `[N, A]`.
        rewards: `[N]` or `[N, 1]`.
        terminals: `[N]`, where a step ended in a state of no further reward.
        timeouts: `[N]`, where an episode was cut after a step; None: nowhere.
        next_observations: `[N, O]`; None: the observation of the next step, so that the last step
            of an episode that was cut is lost, and one that terminated ends where its last step
            began.
        task: index of the task, or a `Task`.
        bounds: low and high of the actions, see `EpisodeCutter`.
        absorbing: see `make_episode`.

    Returns:
        Episodes as of `make_episode`.

    Raises:
        ValueError: for shapes that do not fit, and what `make_episode` refuses.
    """
    flat = observations, actions, rewards, terminals, timeouts, next_observations
    seen, parts = _flat(*flat)
    ended = parts["terminals"]
    action = _scaled(parts["actions"], _checked_bounds(bounds))
    stops = ended | parts["timeouts"]
    stops[-1] = True
    episodes, first = [], 0
    for last in stops.nonzero().flatten().tolist():
        end = last + 1
        if next_observations is not None:
            after = parts["next_observations"][last:end]
        elif ended[last]:
            after = seen[last:end]
        else:
            after, end = seen[last:end], last
        if end > first:
            steps = slice(first, end)
            observed = torch.cat([seen[steps], after])
            rest = action[steps], parts["rewards"][steps], task, ended[steps]
            episodes.append(make_episode(observed, *rest, absorbing=absorbing))
        first = last + 1
    return episodes


def _flat(
    observations: Any, actions: Any, rewards: Any, terminals: Any, timeouts: Any, after: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return flat arrays as tensors, all of one length."""
    seen = copied("observations", observations, torch.float32)
    if seen.dim() != 2 or not len(seen):
        raise ValueError(f"observations must be [N, O], got {list(seen.shape)}")
    cuts = np.zeros(len(seen), bool) if timeouts is None else timeouts
    parts = {
        "actions": copied("actions", actions, torch.float32),
        "rewards": copied("rewards", rewards, torch.float32).reshape(-1),
        "terminals": copied("terminals", terminals, torch.bool).reshape(-1),
        "timeouts": copied("timeouts", cuts, torch.bool).reshape(-1),
    }
    if after is not None:
        parts["next_observations"] = copied("next_observations", after, torch.float32)
        if parts["next_observations"].shape != seen.shape:
            raise ValueError(
                f"next_observations must have the shape of observations, {list(seen.shape)}, got "
                f"{list(parts['next_observations'].shape)}"
            )
    for name, value in parts.items():
        if not value.dim() or len(value) != len(seen):
            raise ValueError(
                f"{name} must have {len(seen)} entries as observations, got {list(value.shape)}"
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    return seen, parts


@checked(absorbing=least(0))
def minari_data_episodes(
    dataset: Any, *, task: Any = 0, absorbing: int = 0
) -> Iterable[TensorDict]:
    """Yield the episodes of a Minari dataset.

    Args:
        dataset: a `minari.MinariDataset`, or the name of one on this machine. Its observations and
            actions are vectors, and actions are scaled from the bounds of its space to [-1, 1].
        task: index of the task, or a `Task`.
        absorbing: see `make_episode`.

    Yields:
        Episodes as of `make_episode`.

    Raises:
        ImportError: if a name is given and minari is not installed.
        ValueError: for observations or actions that are no vectors, or actions without bounds.
    """
    from gymnasium.spaces import Box

    if isinstance(dataset, str):
        try:
            import minari
        except ModuleNotFoundError as error:
            raise ImportError('minari must be installed: pip install "pwm-sdk[minari]"') from error
        try:
            dataset = minari.load_dataset(dataset)
        except FileNotFoundError as error:
            raise ValueError(
                f"dataset must be one that minari finds on this machine, got {dataset!r}"
            ) from error
    if not hasattr(dataset, "iterate_episodes"):
        raise ValueError(f"dataset must be a minari.MinariDataset or a name, got {dataset!r}")
    space: Any = dataset.action_space
    if not isinstance(space, Box) or not space.is_bounded():
        raise ValueError(f"dataset must have actions of a bounded Box, got {space}")
    bounds = _checked_bounds((space.low, space.high))
    for episode in dataset.iterate_episodes():
        if not isinstance(episode.observations, np.ndarray):
            raise ValueError(
                f"dataset must have vectors for observations, got {type(episode.observations)}"
            )
        yield make_episode(
            np.asarray(episode.observations, np.float32),
            _scaled(copied("actions", episode.actions, torch.float32), bounds),
            np.asarray(episode.rewards, np.float32),
            task,
            np.asarray(episode.terminations, bool),
            absorbing=absorbing,
        )
