"""What the rows of episodes must hold, whoever made them: a caller, a file or a saved state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from pwm_sdk.data.entries import ROW_KEYS, rows_of_episode
from pwm_sdk.keys import ACTION, OBSERVATION, REAL, REWARD, TASK, TERMINATED

__all__ = ["ROUNDING", "check_episode", "check_episodes", "check_rows", "marked", "per_episode"]

_BLOCK_ROWS = 1 << 14
ROUNDING = 1e-3
"""How far beyond [-1, 1] an action may lie."""


class _Place(Protocol):
    """Says in messages where a row is."""

    def __call__(self, row: Tensor, what: str = "row") -> str: ...


def check_episode(
    episode: Mapping[str, Any] | TensorDictBase, device: torch.device | None = None
) -> TensorDict:
    """Check an episode and return its rows with nothing else in them.

    Args:
        episode: observation `[T+1, O]`, action `[T+1, A]` and reward `[T+1, 1]` float32, task
            `[T+1]` or `[]` integer, and optionally terminated and real `[T+1, 1]` bool, as tensors,
            arrays or lists; see `make_episode`.
        device: where its tensors must be; None: anywhere, together.

    Returns:
        TensorDict `[T+1]` of exactly those six entries, task int64.

    Raises:
        ValueError: if an entry is missing, has the wrong shape, dtype or device, is not finite
            after row 0 (in row 0 too for the observation), if an action lies outside [-1, 1], if
            the task is below 0 or changes, or if the episode goes on after an end.
    """
    rows = rows_of_episode(episode, device)
    count = len(rows[TASK])
    check_rows(rows, torch.tensor([count], device="cpu"))
    return TensorDict(rows, batch_size=[count], device=rows[TASK].device)


def check_episodes(
    parts: Sequence[Mapping[str, Tensor]], lengths: Tensor, *, numbered: bool = True
) -> Tensor:
    """Check the values of episodes, a block at a time, as large as a processor's cache likes.

    Args:
        parts: rows of each, as `rows_of_episode` returns them.
        lengths: number of rows of each, `[episodes]` int64.
        numbered: messages have the number of the episode.

    Returns:
        What `per_episode` says of each.

    Raises:
        ValueError: if `check_episode` would refuse an episode.
    """
    begins, found = (lengths.cumsum(0) - lengths) // _BLOCK_ROWS, []
    first = 0
    for count in begins.unique_consecutive(return_counts=True)[1].tolist():
        some, length = parts[first : first + count], lengths[first : first + count]
        if len({part[TASK].device for part in some}) > 1:
            some = [{key: value.cpu() for key, value in part.items()} for part in some]
        rows = {key: torch.cat([part[key] for part in some]) for key in (*ROW_KEYS, REAL)}
        check_rows(rows, length, first if numbered else None)
        found.append(per_episode(rows, length))
        first += count
    return torch.cat(found)


def check_rows(
    rows: Mapping[str, Tensor] | TensorDictBase,
    length: Tensor,
    first: int | None = None,
    plural: str = "",
) -> None:
    """Check the values of the rows of whole episodes.

    Args:
        rows: TensorDict `[N]` of `ROW_KEYS` and real, of the right types.
        length: rows of each episode, `[episodes]` int64, N in all.
        first: number of the first episode, for messages; None: messages name no episode.
        plural: "s" where observation, action and reward are called by their plurals.

    Raises:
        ValueError: if `check_episode` would refuse an episode.
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
    _check_numbers(data, led, at, plural)
    task = data[TASK]
    if (wrong := (task < 0) | (task != task[begin[owner]])).any():
        row = wrong.nonzero()[0, 0]
        raise ValueError(
            f"{TASK} must be one number of at least 0 an episode, got {int(task[row])} in {at(row)}"
        )
    _check_ends(data, owner, offset, length, at)


def _check_numbers(rows: Mapping[str, Tensor], led: Tensor, at: _Place, plural: str) -> None:
    """Raise ValueError unless rows are finite and actions in range, apart from those of row 0."""
    action = rows[ACTION].where(led.unsqueeze(1), 0.0)
    reward = rows[REWARD].where(led.unsqueeze(1), 0.0)
    inside = action.abs().max() <= 1.0 + ROUNDING  # not of NaN; a sum shows what is not finite
    if inside & (rows[OBSERVATION].sum() + reward.sum()).isfinite():
        return  # as a rule; finite numbers whose sum is not are looked at one by one
    for name in (OBSERVATION, ACTION, REWARD):
        wrong = ~rows[name].isfinite().all(1)
        if name != OBSERVATION:
            wrong &= led
        if wrong.any():
            row = wrong.nonzero()[0, 0]
            given = rows[name][row].tolist()
            raise ValueError(f"{name}{plural} must be finite, got {given} in {at(row)}")
    wrong = (rows[ACTION].abs() > 1.0 + ROUNDING).any(1) & led
    if wrong.any():
        row = wrong.nonzero()[0, 0]
        given, place = rows[ACTION][row].tolist(), at(row, "step")
        raise ValueError(f"{ACTION} must lie in [-1, 1], got {given} in {place}")


def _check_ends(
    rows: Mapping[str, Tensor], owner: Tensor, offset: Tensor, length: Tensor, at: _Place
) -> None:
    """Raise ValueError unless episodes end once, and rows after that say so and nothing else."""
    begin = length.cumsum(0) - length
    real, ended = rows[REAL].squeeze(-1), rows[TERMINATED].squeeze(-1)
    whole = bool(real.all() & (length.min() >= 2))
    count = length if whole else torch.zeros_like(length).index_add_(0, owner, real.long())
    if not whole and ((wrong := real != (offset < count[owner])).any() or (count < 2).any()):
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
    if whole:
        return
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
        rows: TensorDict `[N]` of `ROW_KEYS`.
        length: rows of each episode, `[episodes]` int64.

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


def per_episode(rows: Mapping[str, Tensor] | TensorDictBase, length: Tensor) -> Tensor:
    """Return task, number of real and of live rows of each episode, `[episodes, 3]` on the CPU.

    A live row is a real one at which the episode went on or was cut: all but where it terminated.
    """
    data: Any = rows
    length = length.to(data[TASK].device)
    begin = length.cumsum(0) - length
    owner = torch.arange(len(length), device=length.device).repeat_interleave(length)
    real = torch.zeros_like(length).index_add_(0, owner, data[REAL].flatten().long())
    ended = data[TERMINATED].flatten()[begin + real - 1]
    return torch.stack([data[TASK][begin], real, real - ended.long()], dim=1).cpu()
