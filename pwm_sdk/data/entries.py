"""The entries of an episode: tensors, arrays or lists, brought into tensors of one type each."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk.keys import ACTION, OBSERVATION, REAL, REWARD, TASK, TERMINATED
from pwm_sdk.tasks import Task

__all__ = [
    "ROW_KEYS",
    "Numbers",
    "TaskLike",
    "as_numbers",
    "copied",
    "rows_of_episode",
    "shape_of",
    "task_index",
    "task_indices",
]

ROW_KEYS = (OBSERVATION, ACTION, REWARD, TASK, TERMINATED)
"""Entries of a row that are stored; which rows are real is stored as one number an episode."""

Numbers: TypeAlias = Tensor | ArrayLike
"""A tensor, an array, or rows of numbers as lists."""

TaskLike: TypeAlias = SupportsIndex | Task
"""The index of a task, or the task."""

_TYPES = {TASK: torch.int64, TERMINATED: torch.bool, REAL: torch.bool}


def rows_of_episode(
    episode: Mapping[str, Any] | TensorDictBase, device: torch.device | None = None
) -> dict[str, Tensor]:
    """Return what `check_episode` does, with shapes and types checked and no value looked at."""
    if not isinstance(episode, Mapping | TensorDictBase):
        raise ValueError(f"episode must be a TensorDict or a dictionary, got {type(episode)}")
    if isinstance(episode, TensorDictBase):
        episode = dict(episode.items())  # at once: to ask for one entry takes as long
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
    return {name: value.to(device) for name, value in rows.items()}


def task_index(task: object) -> int:
    """Return the index of a task, given as an integer or as anything with an integer `index`.

    Raises:
        ValueError: if it is neither, or below 0 as that of a `Task` that is not registered.
    """
    try:
        index = operator.index(task if isinstance(task, SupportsIndex) else task.index)  # pyright: ignore
    except (AttributeError, TypeError) as error:
        raise ValueError(f"task must be an integer index or a Task, got {task!r}") from error
    if index < 0 or isinstance(task, bool):
        raise ValueError(f"task must have an index of at least 0 (register_task), got {task!r}")
    return index


def task_indices(tasks: object) -> list[int]:
    """Return the indices of several tasks, given as `task_index` takes them.

    Raises:
        ValueError: if they are no sequence, or one of them has no index.
    """
    if not isinstance(tasks, Iterable) or isinstance(tasks, str):
        raise ValueError(f"tasks must be a sequence of indices or Tasks, got {tasks!r}")
    return [task_index(task) for task in tasks]


def shape_of(value: Tensor) -> list[int]:
    """Return a shape as it reads best in a message."""
    return list(value.shape)


def _entry(name: str, value: object, device: torch.device | None) -> Tensor:
    """Return an entry as a tensor of its type: tensors must have it, arrays and lists get it."""
    expected = _TYPES.get(name, torch.float32)
    if not isinstance(value, Tensor):
        return copied(name, value, expected, device)
    if value.dtype != expected:
        raise ValueError(f"{name} must be {expected}, got {value.dtype}")
    if device is not None and value.device != device:
        raise ValueError(f"{name} must be on {device}, got {value.device}")
    return value.detach()


def _task(value: object, count: int) -> Tensor:
    """Return the task `[T+1]` of an episode, given as a `Task`, a number or `[T+1]` numbers."""
    index = getattr(value, "index", None)  # of a `Task`; a method of a list
    value = index if isinstance(index, int) else value
    if type(value) is int:
        return torch.full((), task_index(value), device="cpu").expand(count)
    if (
        isinstance(value, Tensor)
        and value.dtype == torch.int64
        and value.shape == (count,)
        and bool((value == value[0]).all())
    ):
        return value.detach()
    task = as_numbers(TASK, value)
    if task.is_floating_point() or task.dtype == torch.bool:
        raise ValueError(f"task must be an integer, got {task.dtype}")
    if task.shape not in ((), (count,)) or (task != task.reshape(-1)[0]).any():
        raise ValueError(f"task must be one number [] or [{count}] times the same, got {task}")
    task_index(task.reshape(-1)[0])
    return task.long().expand(count)


def copied(
    name: str, value: object, dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """Return a copy of numbers as a tensor that shares no memory with the caller's.

    Args:
        name: of the argument, for messages.
        value: a tensor, a NumPy array (read-only ones too), a number, or a list of any of these.
        dtype: type of the copy; for bool, the numbers must be 0 and 1.
        device: of the copy; None: where the tensor is, or the CPU.

    Raises:
        ValueError: if `value` holds anything but numbers, or rows of different lengths.
    """
    found = as_numbers(name, value)
    if dtype == torch.bool and found.dtype != torch.bool and ((found != 0) & (found != 1)).any():
        raise ValueError(f"{name} must be true or false, got {found.unique()[:8].tolist()}")
    return found.to(device=found.device if device is None else device, dtype=dtype, copy=True)


def as_numbers(name: str, value: object) -> Tensor:
    """Return numbers as a tensor of their own type, without gradient; arrays and lists are copied.

    Raises:
        ValueError: if `value` holds anything but numbers, or rows of different lengths.
    """
    if isinstance(value, list | tuple) and len(value) and all(isinstance(v, Tensor) for v in value):
        if len(shapes := {tuple(v.shape) for v in value}) > 1:
            raise ValueError(f"{name} must have rows of one shape, got {sorted(shapes)}")
        value = torch.stack(list(value))
    if not isinstance(value, Tensor):
        value = _from_array(name, value)
    if value.is_complex() or value.layout != torch.strided or value.is_quantized:
        raise ValueError(f"{name} must hold real numbers, got {value.dtype} ({value.layout})")
    return value.detach()


def _from_array(name: str, value: object) -> Tensor:
    """Copy what NumPy takes for an array of numbers."""
    try:
        array = np.array(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU, ...
        raise ValueError(
            f"{name} must be a tensor, an array or a list of rows of one length, "
            f"got {type(value).__name__} ({error})"
        ) from error
    if array.dtype.kind not in "biuf":
        given = repr(value) if array.ndim == 0 else f"{type(value).__name__} of {array.dtype}"
        raise ValueError(f"{name} must hold numbers, got {given}")
    kind, size = array.dtype.kind, array.dtype.itemsize
    wide = np.dtype({"f": np.float64, "u": np.int64}.get(kind, array.dtype))
    plain = wide if size > 8 or (kind == "u" and size == 8) else array.dtype.newbyteorder("=")
    return torch.from_numpy(array.astype(plain, order="C", copy=False))
