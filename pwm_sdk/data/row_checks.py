"""What rows of episodes must be, whoever made them: a caller, a file or a saved state."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from pwm_sdk.data.arrays import as_numbers, copied
from pwm_sdk.keys import ACTION, OBSERVATION, REAL, REWARD, TASK, TERMINATED

__all__ = [
    "ROUNDING",
    "ROW_KEYS",
    "check_actions",
    "check_episode",
    "check_rows",
    "marked",
    "per_episode",
    "rows_of_episode",
    "shape_of",
    "task_index",
    "task_indices",
]

ROW_KEYS = (OBSERVATION, ACTION, REWARD, TASK, TERMINATED)
"""Entries of a row that are stored; which rows are real is stored as one number an episode."""

_TYPES = {TASK: torch.int64, TERMINATED: torch.bool, REAL: torch.bool}
ROUNDING = 1e-3
"""How far beyond [-1, 1] an action may lie."""


def check_episode(
    episode: Mapping[str, Any] | TensorDictBase, device: torch.device | None = None
) -> TensorDict:
    """Check an episode and return its rows with nothing else in them.

    Args:
        episode: observation [T+1, O], action [T+1, A] and reward [T+1, 1] float32, task [T+1] or
            [] integer, and optionally terminated and real [T+1, 1] bool, as tensors, arrays or
            lists; see `make_episode`.
        device: where its tensors must be; None: anywhere, together.

    Returns:
        TensorDict [T+1] of exactly those six entries, task int64.

    Raises:
        ValueError: If an entry is missing, has the wrong shape, dtype or device, is not finite
            after row 0 (in row 0 too for the observation), if an action lies outside [-1, 1], if
            the task is below 0 or changes on the way, or if the episode goes on after an end.
    """
    rows = rows_of_episode(episode, device)
    check_rows(rows, torch.tensor([len(rows)], device="cpu"))
    return rows


def rows_of_episode(
    episode: Mapping[str, Any] | TensorDictBase, device: torch.device | None = None
) -> TensorDict:
    """Return what `check_episode` does, with shapes and types checked and no value looked at."""
    if not isinstance(episode, Mapping | TensorDictBase):
        raise ValueError(f"episode must be a TensorDict or a dictionary, got {type(episode)}")
    names = set(episode.keys())
    if missing := [n for n in (OBSERVATION, ACTION, REWARD, TASK) if n not in names]:
        raise ValueError(f"episode must have the entries {missing}, got {sorted(map(str, names))}")
    observation = _entry(OBSERVATION, episode[OBSERVATION], device)
    if observation.ndim != 2 or len(observation) < 2 or not observation.shape[1]:
        raise ValueError(f"observation must be [T+1, O] with T >= 1, got {shape_of(observation)}")
    count, device = len(observation), observation.device
    false = torch.zeros(count, 1, dtype=torch.bool, device=device)
    rows = {
        OBSERVATION: observation,
        ACTION: _entry(ACTION, episode[ACTION], device),
        REWARD: _entry(REWARD, episode[REWARD], device),
        TASK: _task(episode[TASK], count).to(device),
        TERMINATED: _entry(TERMINATED, episode.get(TERMINATED, false), device),
        REAL: _entry(REAL, episode.get(REAL, ~false), device),
    }
    for name in (REWARD, TERMINATED, REAL):
        if rows[name].shape != (count, 1):
            raise ValueError(f"{name} must be [{count}, 1], got {shape_of(rows[name])}")
    if rows[ACTION].ndim != 2 or len(rows[ACTION]) != count or not rows[ACTION].shape[1]:
        raise ValueError(f"{ACTION} must be [{count}, A], got {shape_of(rows[ACTION])}")
    return TensorDict(rows, batch_size=[count], device=device)


def check_rows(
    rows: Mapping[str, Tensor] | TensorDictBase,
    length: Tensor,
    first: int | None = None,
    plural: str = "",
) -> None:
    """Check the values of the rows of whole episodes.

    Args:
        rows: TensorDict [N] of `ROW_KEYS` and real, of the right types.
        length: rows of each episode, [episodes] int64, N in all.
        first: number of the first episode, for messages; None: messages name no episode.
        plural: "s" where observation, action and reward are called by their plurals.

    Raises:
        ValueError: As `check_episode`.
    """
    data: Any = rows
    device = data[OBSERVATION].device
    length = length.to(device)
    begin = length.cumsum(0) - length
    owner = torch.arange(len(length), device=device).repeat_interleave(length)
    offset = torch.arange(len(owner), device=device) - begin[owner]

    def at(row: Tensor, what: str = "row") -> str:
        number = int(offset[row]) - (what == "step")
        episode = "" if first is None else f" of episode {first + int(owner[row])}"
        return f"{what} {number}{episode}"

    led = offset > 0  # nothing led to row 0
    for name in (OBSERVATION, ACTION, REWARD):
        wrong = ~data[name].isfinite().all(1)
        if name != OBSERVATION:
            wrong &= led
        if wrong.any():
            row = wrong.nonzero()[0, 0]
            given = data[name][row].tolist()
            raise ValueError(f"{name}{plural} must be finite, got {given} in {at(row)}")
    wrong = (data[ACTION].abs() > 1.0 + ROUNDING).any(1) & led
    if wrong.any():
        row = wrong.nonzero()[0, 0]
        given, place = data[ACTION][row].tolist(), at(row, "step")
        raise ValueError(f"{ACTION} must lie in [-1, 1], got {given} in {place}")
    task = data[TASK]
    if (wrong := (task < 0) | (task != task[begin[owner]])).any():
        row = wrong.nonzero()[0, 0]
        raise ValueError(
            f"{TASK} must be one number of at least 0 an episode, got {int(task[row])} in {at(row)}"
        )
    _check_ends(data, owner, offset, length, at)


def _check_ends(rows: Any, owner: Tensor, offset: Tensor, length: Tensor, at: Any) -> None:
    """Raise ValueError unless episodes end once, and rows after that say so and nothing else."""
    begin = length.cumsum(0) - length
    real, ended = rows[REAL].squeeze(-1), rows[TERMINATED].squeeze(-1)
    count = torch.zeros_like(length).index_add_(0, owner, real.long())
    if (wrong := real != (offset < count[owner])).any() or (count < 2).any():
        row = begin[count < 2][0] if (count < 2).any() else wrong.nonzero()[0, 0]
        raise ValueError(
            f"{REAL} must be true for at least two rows of an episode, then false, "
            f"got {bool(real[row])} in {at(row)}"
        )
    last = count[owner] - 1
    if (early := ended & (offset > 0) & (offset < last)).any():
        row = early.nonzero()[0, 0]
        raise ValueError(
            f"{TERMINATED} must be true at the last step only, got an end at {at(row, 'step')} and "
            f"{int(last[row] - offset[row])} steps after it"
        )
    made = (~real).nonzero().flatten()  # rows that must repeat the one where the episode ended
    end = (begin + count - 1)[owner[made]]
    stays = (rows[OBSERVATION][made] == rows[OBSERVATION][end]).all(1) & ended[made] & ended[end]
    stays &= rows[REWARD].squeeze(-1)[made] == 0
    if not stays.all():
        row = made[(~stays).nonzero()[0, 0]]
        raise ValueError(
            f"rows that are not {REAL} must stay where the episode terminated, without a reward, "
            f"got another row in {at(row)}"
        )


def marked(rows: TensorDict, length: Tensor) -> TensorDict:
    """Mark the rows after the first end of each episode as not real, as older files lack marks.

    Args:
        rows: TensorDict [N] of `ROW_KEYS`.
        length: rows of each episode, [episodes] int64.

    Returns:
        The rows with real, to be checked by `check_rows`: rows that are no copies of the end are
        an error there.
    """
    length = length.to(rows[TERMINATED].device)
    begin = length.cumsum(0) - length
    start = torch.zeros(len(rows), dtype=torch.bool, device=length.device)
    start[begin] = True
    ends = (rows[TERMINATED].squeeze(-1) & ~start).long()
    before = ends.cumsum(0) - ends  # ends in the rows before, of all episodes
    over = before - before[begin].repeat_interleave(length) > 0
    return rows.clone(recurse=False).set(REAL, ~over.unsqueeze(-1))


def per_episode(rows: TensorDictBase, length: Tensor) -> Tensor:
    """Return task, number of real rows and of live ones of each episode, [episodes, 3] on the CPU.

    A live row is a real one at which the episode went on or was cut: all but where it terminated.
    """
    data: Any = rows
    length = length.to(data[TASK].device)
    begin = length.cumsum(0) - length
    owner = torch.arange(len(length), device=length.device).repeat_interleave(length)
    real = torch.zeros_like(length).index_add_(0, owner, data[REAL].flatten().long())
    ended = data[TERMINATED].flatten()[begin + real - 1]
    return torch.stack([data[TASK][begin], real, real - ended.long()], dim=1).cpu()


def check_actions(name: str, action: Tensor, steps: int) -> None:
    """Raise ValueError unless actions are [T, A], within [-1, 1] up to what rounding leaves."""
    if action.ndim != 2 or len(action) != steps or not action.shape[1]:
        raise ValueError(f"{name} must be [{steps}, A], got {shape_of(action)}")
    outside = action.abs() > 1.0 + ROUNDING
    if bool(outside.any()):
        step = int(outside.any(1).nonzero()[0, 0])
        raise ValueError(f"{name} must lie in [-1, 1], got {action[step].tolist()} in step {step}")


def task_index(task: Any) -> int:
    """Return the index of a task, given as an integer or as anything with an integer `index`.

    Raises:
        ValueError: If it is neither, or below 0 as that of a `Task` that is not registered.
    """
    try:
        index = operator.index(task if hasattr(task, "__index__") else task.index)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"task must be an integer index or a Task, got {task!r}") from error
    if index < 0 or isinstance(task, bool):
        raise ValueError(f"task must have an index of at least 0 (register_task), got {task!r}")
    return index


def task_indices(tasks: Any) -> list[int]:
    """Return the indices of several tasks, given as `task_index` takes them.

    Raises:
        ValueError: If they are no sequence, or one of them has no index.
    """
    if not isinstance(tasks, Iterable) or isinstance(tasks, str):
        raise ValueError(f"tasks must be a sequence of indices or Tasks, got {tasks!r}")
    return [task_index(task) for task in tasks]


def shape_of(value: Tensor) -> list[int]:
    """Return a shape as it reads best in a message."""
    return list(value.shape)


def _entry(name: str, value: Any, device: torch.device | None) -> Tensor:
    """Return an entry as a tensor of its type: tensors must have it, arrays and lists get it."""
    expected = _TYPES.get(name, torch.float32)
    if not isinstance(value, Tensor):
        return copied(name, value, expected, device)
    if value.dtype != expected:
        raise ValueError(f"{name} must be {expected}, got {value.dtype}")
    if device is not None and value.device != device:
        raise ValueError(f"{name} must be on {device}, got {value.device}")
    return value.detach()


def _task(value: Any, count: int) -> Tensor:
    """Return the task [T+1] of an episode, given as a `Task`, a number or [T+1] numbers."""
    index = getattr(value, "index", None)  # of a `Task`; a method of a list
    task = as_numbers(TASK, index if isinstance(index, int) else value)
    if task.is_floating_point() or task.dtype == torch.bool:
        raise ValueError(f"task must be an integer, got {task.dtype}")
    if task.shape not in ((), (count,)) or (task != task.reshape(-1)[0]).any():
        raise ValueError(f"task must be one number [] or [{count}] times the same, got {task}")
    task_index(task.reshape(-1)[0])
    return task.long().expand(count)
