"""Streams of transitions in TorchRL's layout, cut into episodes."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from pwm_sdk.calls import checked, has, least
from pwm_sdk.checks import whole
from pwm_sdk.data.entries import TaskLike
from pwm_sdk.data.episode import action_bounds, make_episode, scaled, task_index
from pwm_sdk.keys import ACTION, DONE, NEXT, OBSERVATION, REWARD, TASK, TERMINATED, TRUNCATED

__all__ = ["EpisodeCutter"]

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
        ValueError: if bounds are not finite, or not in order.
    """

    def __init__(
        self,
        task: TaskLike | None = None,
        *,
        bounds: tuple[Any, Any] | None = None,
        absorbing: int = 0,
    ) -> None:
        self.task = None if task is None else task_index(task)
        self.absorbing = whole(0, absorbing=absorbing)
        self._bounds = action_bounds(bounds)
        self._open: list[TensorDictBase] = []  # of each stream

    def cut(self, batch: TensorDictBase) -> list[TensorDict]:
        """Take in a batch and return the episodes that it completes.

        Args:
            batch: transitions `[T]` of one stream or `[N, T]` of N of them, in order of time:
                observation `[.., O]`, action `[.., A]`, and under next observation `[.., O]`,
                reward and done or terminated (and truncated), `[.., 1]`.

        Returns:
            Episodes as `make_episode` lays them out, stream by stream.

        Raises:
            ValueError: if the batch has another number of streams than before, an entry is missing,
                or no episode can hold the steps.
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
        """Return what is open as episodes that were cut, and begin again."""
        begun, self._open = self._open, []
        return [self._episode(rows) for rows in begun if len(rows)]

    def _episode(self, rows: TensorDictBase) -> TensorDict:
        observations = torch.cat([rows[OBSERVATION], rows[_AFTER][-1:]])
        action, task = scaled(rows[ACTION], self._bounds), int(rows[TASK][0])
        flags = rows[TERMINATED]
        return make_episode(
            observations, action, rows[REWARD], task, flags, absorbing=self.absorbing
        )


_AFTER, _ENDS, _NUMBER = "after", "ends", "number"


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
    done, terminated, truncated = flags
    if terminated is None and done is not None:  # a step that is done by a time limit is no end
        terminated = done.bool() if truncated is None else done.bool() & ~truncated.bool()
    known: Any = terminated
    found[TERMINATED] = known.bool().reshape(batch.batch_size)
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


def _entry(batch: TensorDictBase, key: str | tuple[str, ...]) -> Tensor:
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
