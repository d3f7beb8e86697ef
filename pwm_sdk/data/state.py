"""The state of a replay as tensors by name: what must be in it, and the folders that held one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.checkpoints.reading import read_tensors
from pwm_sdk.data.entries import ROW_KEYS, rows_of_episode
from pwm_sdk.data.row_checks import check_rows, marked
from pwm_sdk.keys import REAL, TASK

__all__ = [
    "GENERATOR",
    "LENGTH",
    "REAL_LENGTH",
    "episode_counts",
    "read_old_state",
    "rows_of_state",
]

GENERATOR = "generator"
"""State of the random numbers, `[n]` uint8."""

LENGTH = "length"
"""Rows of each episode, `[episodes]` int64."""

REAL_LENGTH = "real_length"
"""Rows of each episode that are real, the first ones, `[episodes]` int64; states of version 1 lack
it, and the rows after an end are found by their values."""

_FILE = re.compile(r"tensors-([0-9]{1,18})\.safetensors")


def read_old_state(folder: Path, about: Mapping[str, Any]) -> tuple[TensorDict, Tensor, Any]:
    """Read a folder of `ReplayBuffer.save` as it was up to version 2: a state in one file.

    Args:
        folder: its path.
        about: its manifest.

    Returns:
        The rows `[N]`, with real, the length of each episode, and the state of the random numbers.

    Raises:
        ValueError: if the folder is damaged.
    """
    name = about.get("tensors")
    if not isinstance(name, str) or not _FILE.fullmatch(name):  # no path to somewhere else
        raise ValueError(f"manifest.json must name a file of tensors, got {name!r} in {folder}")
    try:
        state = read_tensors(folder / name).tensors
    except FileNotFoundError as error:
        raise ValueError(
            f"path must hold the file {name!r} of its manifest, got {str(folder)!r}"
        ) from error
    length = _layout(state)
    rows, found = int(length.sum()), about.get("rows")
    if rows != found:
        raise ValueError(f"manifest must tell of {rows} rows, got {found}")
    counts = episode_counts(state[TASK][length.cumsum(0) - length]) if rows else {}
    if about.get("episodes") != counts:
        raise ValueError(f"manifest must tell of episodes {counts}, got {about.get('episodes')}")
    return *rows_of_state(state), state.get(GENERATOR)


def rows_of_state(state: Mapping[str, Any]) -> tuple[TensorDict, Tensor]:
    """Return the rows `[N]`, with real, and the length of each episode, once all pass the checks.

    Raises:
        ValueError: if an entry is missing or not what `ReplayBuffer.add` takes.
    """
    length = _layout(state)
    if not len(length):
        return TensorDict({}, batch_size=[0]), length
    task = state[TASK]
    whole = {**{name: state[name] for name in ROW_KEYS}, TASK: torch.zeros_like(task)}
    checked = rows_of_episode(whole) | {TASK: task}  # shapes and types
    rows = TensorDict(checked, batch_size=[len(task)], device=task.device)
    if REAL_LENGTH in state:
        rows.set(REAL, _real_rows(length, _numbers(state, REAL_LENGTH)).to(task.device))
    else:
        rows = marked(rows, length)
    check_rows(rows, length, first=0)
    return rows, length


def episode_counts(task: Tensor) -> dict[str, int]:
    """Count episodes by task, `[episodes]` int64, as manifests do."""
    tasks, counts = task.unique(return_counts=True)
    return {str(t): n for t, n in zip(tasks.tolist(), counts.tolist(), strict=True)}


def _layout(state: Mapping[str, Any]) -> Tensor:
    """Return the length of each episode, once entries and numbers of rows fit together."""
    if not isinstance(state, Mapping):
        raise ValueError(f"state must be a dictionary from state_dict(), got {type(state)}")
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


def _real_rows(length: Tensor, real: Tensor) -> Tensor:
    """Mark the first `real` rows of episodes of `length` rows, both `[episodes]`: `[N, 1]` bool.

    Raises:
        ValueError: if an episode has fewer than two such rows, or more than rows.
    """
    if real.shape != length.shape or ((real < 2) | (real > length)).any():
        raise ValueError(f"{REAL_LENGTH} must be 2 to {LENGTH}, got {real.tolist()[:8]}")
    begin = (length.cumsum(0) - length).repeat_interleave(length)
    offset = torch.arange(len(begin), device=length.device) - begin
    return (offset < real.repeat_interleave(length)).unsqueeze(-1)


def _numbers(state: Mapping[str, Any], name: str) -> Tensor:
    """Return one integer an episode, `[episodes]` on the CPU."""
    value = state.get(name)
    if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.dim() != 1:
        about = f"{value.dtype} {[*value.shape]}" if isinstance(value, Tensor) else type(value)
        raise ValueError(f"{name} must be [episodes] torch.int64, got {about}")
    if len(value) and int(value.min()) < 0:
        raise ValueError(f"{name} must not be negative, got {int(value.min())}")
    return value.cpu()
