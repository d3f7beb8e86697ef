"""The layout of one recorded episode: each row is an observation with the step that led to it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from pwm_sdk.calls import array, checked, least
from pwm_sdk.keys import ACTION, OBSERVATION, REWARD, TASK, TERMINATED

__all__ = [
    "ROW_KEYS",
    "check_episode",
    "check_lengths",
    "make_episode",
    "of_tasks",
    "select_tasks",
    "task_index",
]

ROW_KEYS = (OBSERVATION, ACTION, REWARD, TASK, TERMINATED)
"""Entries of a row."""

_ROUNDING = 1e-3


@checked(observations=array, actions=array, rewards=array, terminated=array, absorbing=least(0))
def make_episode(
    observations: Any,
    actions: Any,
    rewards: Any,
    task: Any,
    terminated: Any = None,
    *,
    absorbing: int = 0,
) -> TensorDict:
    """Lay out an episode of T steps as T+1 rows.

    Row t holds observation t with the action and the reward that led to it. Nothing led to row 0:
    its action and reward are NaN, and `ReplayBuffer.sample` never shows them.

    Args:
        observations: [T+1, O], tensor or array; the last one is where the episode ended.
        actions: [T, A], each entry in [-1, 1]; `actions[t]` was taken at `observations[t]`.
        rewards: [T] or [T, 1], environment units per step.
        task: index of the task, or a `Task`.
        terminated: [T] or [T, 1], True where a step ended in a state of no further reward; None
            where no step did.
        absorbing: rows to append to an episode whose last step terminated: they stay in its last
            observation, with no action and no reward, terminated. A model trained on windows of
            H+1 rows sees ends at each of the H steps with H-1 of them, and without them, as
            windows stay inside an episode, at the last step only.

    Returns:
        TensorDict [T+1], or longer by `absorbing`: observation [T+1, O], action [T+1, A], reward
        [T+1, 1], task [T+1] and terminated [T+1, 1].

    Raises:
        ValueError: If a shape does not fit, an action lies outside [-1, 1], or `task` is not an
            integer of at least 0.
    """
    observation = torch.as_tensor(observations, dtype=torch.float32)
    if observation.ndim != 2 or len(observation) < 2:
        raise ValueError(f"observations must be [T+1, O] with T >= 1, got {_shape(observation)}")
    steps, device = len(observation) - 1, observation.device
    action = torch.as_tensor(actions, dtype=torch.float32, device=device)
    _check_actions("actions", action, steps)
    reward = torch.as_tensor(rewards, dtype=torch.float32, device=device)
    if terminated is None:
        terminated = torch.zeros(steps, dtype=torch.bool)
    ended = torch.as_tensor(terminated, dtype=torch.bool, device=device)
    for name, value in (("rewards", reward), ("terminated", ended)):
        if value.shape not in ((steps,), (steps, 1)):
            raise ValueError(f"{name} must be [{steps}] or [{steps}, 1], got {_shape(value)}")
    rows = TensorDict(
        {
            OBSERVATION: observation,
            ACTION: _lead(action, torch.nan),
            REWARD: _lead(reward.reshape(steps, 1), torch.nan),
            TASK: torch.full((steps + 1,), task_index(task), device=device),
            TERMINATED: _lead(ended.reshape(steps, 1), False),
        },
        batch_size=[steps + 1],
        device=device,
    )
    return _staying(rows, absorbing)


def _staying(rows: TensorDict, count: int) -> TensorDict:
    """Repeat the last row of an episode that terminated, without action and reward."""
    if count < 0:
        raise ValueError(f"absorbing must be at least 0, got {count}")
    if not count or not bool(rows[TERMINATED][-1]):
        return rows
    rest: Any = rows[-1:].expand(count).clone()
    rest[ACTION].zero_()
    rest[REWARD].zero_()
    whole: Any = torch.cat([rows, rest])
    return whole


def check_episode(episode: Mapping[str, Any] | TensorDictBase, device: torch.device) -> TensorDict:
    """Check an episode and return its rows with nothing else in them.

    Args:
        episode: observation [T+1, O], action [T+1, A] and reward [T+1, 1] float32, task [T+1] or
            [] integer, and optionally terminated [T+1, 1] bool.
        device: where the rows must be.

    Returns:
        TensorDict [T+1] of exactly those five entries, task int64.

    Raises:
        ValueError: If an entry is missing, has the wrong shape, dtype or device, is not finite
            after row 0 (in row 0 too for the observation), if an action lies outside [-1, 1], or if
            the task is below 0 or changes on the way.
    """
    names = set(episode.keys())
    if missing := [n for n in (OBSERVATION, ACTION, REWARD, TASK) if n not in names]:
        raise ValueError(f"episode must have the entries {missing}, got {sorted(names)}")
    observation: Tensor = episode[OBSERVATION]
    task: Tensor = episode[TASK]
    if observation.ndim != 2 or len(observation) < 2:
        raise ValueError(f"observation must be [T+1, O] with T >= 1, got {_shape(observation)}")
    rows = len(observation)
    if task.is_floating_point() or task.is_complex() or task.dtype == torch.bool:
        raise ValueError(f"task must be an integer, got {task.dtype}")
    if task.shape not in ((), (rows,)) or (task != task.reshape(-1)[0]).any():
        raise ValueError(f"task must be one number [] or [{rows}] times the same, got {task}")
    task_index(task.reshape(-1)[0])
    ended = torch.zeros(rows, 1, dtype=torch.bool, device=device)
    checked = {
        OBSERVATION: observation,
        ACTION: episode[ACTION],
        REWARD: episode[REWARD],
        TASK: task.long().expand(rows),
        TERMINATED: episode[TERMINATED] if TERMINATED in names else ended,
    }
    for name, value in checked.items():
        _check_entry(name, value, rows, device)
    return TensorDict(checked, batch_size=[rows], device=device)


def select_tasks(state: Mapping[str, Tensor], tasks: Sequence[int]) -> dict[str, Tensor]:
    """Return the episodes of some tasks out of `ReplayBuffer.state_dict`.

    Args:
        state: rows [N, ..] by name, and `length` [episodes] of the episodes they make up.
        tasks: indices of the tasks to keep.

    Raises:
        ValueError: If a task has no episode there.
    """
    length = state["length"]
    owner = state[TASK][length.cumsum(0) - length] if len(length) else length
    kept = of_tasks(owner, tasks)
    rows = kept.repeat_interleave(length)
    return {**{name: state[name][rows] for name in ROW_KEYS}, "length": length[kept]}


def of_tasks(owner: Tensor, tasks: Sequence[int]) -> Tensor:
    """Tell which episodes are of some tasks, [episodes] bool.

    Args:
        owner: task of each episode, [episodes] int64.
        tasks: indices of the tasks.

    Raises:
        ValueError: If a task has no episode.
    """
    held = set(owner.unique().tolist())
    if missing := set(tasks) - held:
        raise ValueError(f"tasks must be among {sorted(held)}, got {sorted(missing)}")
    return torch.isin(owner, torch.tensor(list(tasks), dtype=torch.int64))


def check_lengths(lengths: Tensor, slice_len: int, capacity: int) -> None:
    """Check that episodes are neither too short for a window nor too long for the ring.

    Args:
        lengths: rows of each, [episodes] int64.
        slice_len: rows of a window.
        capacity: rows of the ring.

    Raises:
        ValueError: If one is.
    """
    if (short := lengths < slice_len).any():
        raise ValueError(
            f"episodes must have length >= slice_len={slice_len} rows, got "
            f"{int(lengths.min())} ({int(short.sum())} of {len(lengths)} are too short)"
        )
    if lengths.sum() > capacity:
        raise ValueError(f"capacity must hold {int(lengths.sum())} rows, got {capacity}")


def task_index(task: Any) -> int:
    """Return the index of a task, given as an integer or as anything with an integer `index`.

    Raises:
        ValueError: If it is neither, or below 0 as that of a `Task` that is not registered.
    """
    if isinstance(task, bool):
        raise ValueError(f"task must be an integer index or a Task, got {task}")
    try:
        index = operator.index(task if hasattr(task, "__index__") else task.index)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"task must be an integer index or a Task, got {task!r}") from error
    if index < 0:
        raise ValueError(f"task must have an index of at least 0 (register_task), got {task!r}")
    return index


def _check_entry(name: str, value: Tensor, rows: int, device: torch.device) -> None:
    """Raise ValueError unless an entry of an episode has the right shape, type, place and range."""
    expected = {TASK: torch.int64, TERMINATED: torch.bool}.get(name, torch.float32)
    if value.dtype != expected:
        raise ValueError(f"{name} must be {expected}, got {value.dtype}")
    if value.device != device:
        raise ValueError(f"{name} must be on {device}, got {value.device}")
    if name in (REWARD, TERMINATED) and value.shape != (rows, 1):
        raise ValueError(f"{name} must be [{rows}, 1], got {_shape(value)}")
    if name == ACTION and (value.ndim != 2 or len(value) != rows):
        raise ValueError(f"{name} must be [{rows}, A], got {_shape(value)}")
    used = value if name == OBSERVATION else value[1:]
    if not (finite := used.isfinite()).all():
        row = int((~finite).nonzero()[0, 0]) + (name != OBSERVATION)
        raise ValueError(f"{name} must be finite, got {value[row].tolist()} in row {row}")
    if name == ACTION:
        _check_actions(name, used, rows - 1)


def _check_actions(name: str, action: Tensor, steps: int) -> None:
    """Raise ValueError unless actions are [T, A], within [-1, 1] up to what rounding leaves."""
    if action.ndim != 2 or len(action) != steps:
        raise ValueError(f"{name} must be [{steps}, A], got {_shape(action)}")
    outside = action.abs() > 1.0 + _ROUNDING
    if bool(outside.any()):
        step = int(outside.any(1).nonzero()[0, 0])
        raise ValueError(f"{name} must lie in [-1, 1], got {action[step].tolist()} in step {step}")


def _lead(value: Tensor, fill: float | bool) -> Tensor:
    """Put one row of `fill` in front."""
    return torch.cat([torch.full_like(value[:1], fill), value])


def _shape(value: Tensor) -> list[int]:
    """Return a shape as it reads best in a message."""
    return list(value.shape)
