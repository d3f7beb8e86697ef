"""The saved state of a replay: what is in it, and what it must be to be loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.data.episode import long_enough, of_tasks
from pwm_sdk.data.row_checks import ROW_KEYS, check_rows, marked, rows_of_episode
from pwm_sdk.data.store import read_folder
from pwm_sdk.keys import REAL, TASK

__all__ = [
    "LENGTH",
    "REAL_LENGTH",
    "about_state",
    "episode_counts",
    "long_enough",
    "read_state",
    "real_rows",
    "rows_of_state",
    "select_tasks",
]

LENGTH = "length"
"""Rows of each episode, [episodes] int64."""

REAL_LENGTH = "real_length"
"""Rows of each episode that are real, the first ones, [episodes] int64; files of version 1 lack it,
and the rows after an end are found by their values."""

_FORMAT, _VERSION = "pwm_sdk.replay", 2


def about_state(episodes: Tensor) -> dict[str, Any]:
    """Return the manifest of a state.

    Args:
        episodes: see `EpisodeSampler.episodes`.
    """
    about = {"rows": int(episodes[:, 1].sum()), "episodes": episode_counts(episodes[:, 2])}
    return {"format": _FORMAT, "version": _VERSION, **about}


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state that `ReplayBuffer.save` wrote.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is damaged or holds something else.
    """
    state, about = read_folder(path, format=_FORMAT, version=_VERSION)
    length = _layout(state)
    rows, found = int(length.sum()), about.get("rows")
    if rows != found:
        raise ValueError(f"manifest must tell of {rows} rows, got {found}")
    counts = episode_counts(state[TASK][length.cumsum(0) - length]) if rows else {}
    if about.get("episodes") != counts:
        raise ValueError(f"manifest must tell of episodes {counts}, got {about.get('episodes')}")
    return state


def rows_of_state(state: Mapping[str, Any]) -> tuple[TensorDict, Tensor]:
    """Return the rows [N], with real, and the length of each episode, once all pass the checks.

    Raises:
        ValueError: If an entry is missing or not what `ReplayBuffer.add` takes.
    """
    length = _layout(state)
    if not len(length):
        return TensorDict({}, batch_size=[0]), length
    task = state[TASK]
    whole = {**{name: state[name] for name in ROW_KEYS}, TASK: torch.zeros_like(task)}
    rows = rows_of_episode(whole).set(TASK, task)  # shapes and types
    if REAL_LENGTH in state:
        rows.set(REAL, real_rows(length, _numbers(state, REAL_LENGTH)).to(task.device))
    else:
        rows = marked(rows, length)
    check_rows(rows, length, first=0)
    return rows, length


def _layout(state: Mapping[str, Any]) -> Tensor:
    """Return the length of each episode, once entries and numbers of rows fit together."""
    if not isinstance(state, Mapping):
        raise ValueError(f"state must be a dictionary as of state_dict(), got {type(state)}")
    length = _numbers(state, LENGTH)
    if not len(length):
        return length
    if missing := [name for name in ROW_KEYS if name not in state]:
        raise ValueError(f"state must have the entries {missing}, got {sorted(map(str, state))}")
    count = int(length.sum())
    lead = {name: list(getattr(state[name], "shape", ())) for name in ROW_KEYS}
    outside = int(length.min()) < 2 or int(length.max()) > count  # their sum may overflow
    if outside or any(shape[:1] != [count] for shape in lead.values()):
        raise ValueError(f"state must have {count} rows, two or more an episode, got {lead}")
    task = state[TASK]
    if task.dtype != torch.int64 or task.shape != (count,):
        raise ValueError(f"{TASK} must be [{count}] torch.int64, got {task.dtype} {[*task.shape]}")
    if REAL_LENGTH in state and len(_numbers(state, REAL_LENGTH)) != len(length):
        raise ValueError(f"{REAL_LENGTH} must have {len(length)} entries, as {LENGTH}")
    return length


def real_rows(length: Tensor, real: Tensor) -> Tensor:
    """Mark the first `real` rows of episodes of `length` rows, both [episodes], [N, 1] bool.

    Raises:
        ValueError: If an episode has fewer than two such rows, or more than rows.
    """
    if real.shape != length.shape or ((real < 2) | (real > length)).any():
        raise ValueError(f"{REAL_LENGTH} must be 2 to {LENGTH}, got {real.tolist()[:8]}")
    begin = (length.cumsum(0) - length).repeat_interleave(length)
    offset = torch.arange(len(begin), device=length.device) - begin
    return (offset < real.repeat_interleave(length)).unsqueeze(-1)


def select_tasks(state: Mapping[str, Tensor], tasks: Sequence[int]) -> dict[str, Tensor]:
    """Return the episodes of some tasks out of `ReplayBuffer.state_dict`.

    Args:
        state: rows [N, ..] by name, and what is known of the episodes they make up.
        tasks: indices of the tasks to keep.

    Raises:
        ValueError: If a task has no episode there.
    """
    length = state[LENGTH]
    owner = state[TASK][length.cumsum(0) - length] if len(length) else length
    kept = of_tasks(owner, tasks)
    rows = kept.repeat_interleave(length)
    known = [name for name in (LENGTH, REAL_LENGTH) if name in state]
    return {**{name: state[name][rows] for name in ROW_KEYS}, **{k: state[k][kept] for k in known}}


def episode_counts(task: Tensor) -> dict[str, int]:
    """Count episodes by task, [episodes] int64, as manifests do."""
    tasks, counts = task.unique(return_counts=True)
    return {str(t): n for t, n in zip(tasks.tolist(), counts.tolist(), strict=True)}


def _numbers(state: Mapping[str, Any], name: str) -> Tensor:
    """Return one integer an episode, [episodes] on the CPU."""
    value = state.get(name)
    if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.dim() != 1:
        about = f"{value.dtype} {[*value.shape]}" if isinstance(value, Tensor) else type(value)
        raise ValueError(f"{name} must be [episodes] torch.int64, got {about}")
    if len(value) and int(value.min()) < 0:
        raise ValueError(f"{name} must not be negative, got {int(value.min())}")
    return value.cpu()
