"""The layout of one recorded episode: each row is an observation with the step that led to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.calls import array, checked, least
from pwm_sdk.checks import whole
from pwm_sdk.data.entries import ROW_KEYS, Numbers, TaskLike, copied, shape_of, task_index
from pwm_sdk.data.row_checks import ROUNDING, check_episode, check_rows
from pwm_sdk.keys import ACTION, OBSERVATION, REAL, REWARD, TASK, TERMINATED

__all__ = [
    "ROW_KEYS",
    "action_bounds",
    "check_episode",
    "check_lengths",
    "long_enough",
    "make_episode",
    "of_tasks",
    "scaled",
    "task_index",
]


@checked(observations=array, actions=array, rewards=array, terminated=array, absorbing=least(0))
def make_episode(
    observations: Numbers,
    actions: Numbers,
    rewards: Numbers,
    task: TaskLike,
    terminated: Numbers | None = None,
    *,
    absorbing: int = 0,
) -> TensorDict:
    """Lay out an episode of T steps as T+1 rows, copied.

    Row t holds observation t with the action and the reward that led to it. Nothing led to row 0:
    its action and reward are NaN, and `ReplayBuffer.sample` never shows them.

    Args:
        observations: `[T+1, O]`, tensor, array or list; the last one is where the episode ended.
        actions: `[T, A]`, each entry in [-1, 1]; `actions[t]` was taken at `observations[t]`.
        rewards: `[T]` or `[T, 1]`, environment units per step.
        task: index of the task, or a `Task`.
        terminated: `[T]` or `[T, 1]`, True where the last step ended in a state of no further
            reward; None where it did not.
        absorbing: rows to append to an episode whose last step terminated: they stay in its last
            observation without a reward, terminated, under actions drawn from the episode's own
            (the same ones each time, so that equal arguments give equal episodes). A model trained
            on windows of H+1 rows sees ends at each of the H steps with H-1 of them, and without
            them, as windows stay inside an episode, at the last step only. They are marked as not
            real, and nothing but windows shows them: no start, no statistic.

    Returns:
        TensorDict `[T+1]`, or longer by `absorbing`: observation `[T+1, O]`, action `[T+1, A]`,
        reward `[T+1, 1]`, task `[T+1]`, terminated `[T+1, 1]` and real `[T+1, 1]`, False in
        absorbing rows.

    Raises:
        ValueError: if a shape does not fit, a number is not finite, an action lies outside [-1, 1],
            a step before the last one terminated, or `task` is not an integer of at least 0.
    """
    absorbing = whole(0, absorbing=absorbing)
    parts = _laid_out(observations, actions, rewards, task, terminated)
    count, device = parts[TASK].shape, parts[TASK].device
    check_rows(parts, torch.tensor(count, device="cpu"), plural="s")
    return _staying(TensorDict(parts, batch_size=count, device=device), absorbing)


def _laid_out(
    observations: Numbers,
    actions: Numbers,
    rewards: Numbers,
    task: TaskLike,
    terminated: Numbers | None,
) -> dict[str, Tensor]:
    """Copy the parts of an episode into rows; see `make_episode`."""
    observation = copied("observations", observations, torch.float32)
    if observation.ndim != 2 or len(observation) < 2 or not observation.shape[1]:
        raise ValueError(f"observations must be [T+1, O] with T >= 1, got {shape_of(observation)}")
    steps, device = len(observation) - 1, observation.device
    action = copied("actions", actions, torch.float32, device)
    _check_actions("actions", action, steps)
    reward = copied("rewards", rewards, torch.float32, device)
    given = torch.zeros(steps, device=device) if terminated is None else terminated
    ended = copied("terminated", given, torch.bool, device)
    for name, value in (("rewards", reward), ("terminated", ended)):
        if value.shape not in ((steps,), (steps, 1)):
            raise ValueError(f"{name} must be [{steps}] or [{steps}, 1], got {shape_of(value)}")
    return {
        OBSERVATION: observation,
        ACTION: _lead(action, torch.nan),
        REWARD: _lead(reward.reshape(steps, 1), torch.nan),
        TASK: torch.full((steps + 1,), task_index(task), device=device),
        TERMINATED: _lead(ended.reshape(steps, 1), False),
        REAL: torch.ones(steps + 1, 1, dtype=torch.bool, device=device),
    }


def _staying(rows: TensorDict, count: int) -> TensorDict:
    """Repeat the last row of an episode that terminated, without reward, under its own actions."""
    if not count or not bool(rows[TERMINATED][-1]):
        return rows
    rest: Any = rows[-1:].expand(count).clone()
    drawn = torch.Generator("cpu").manual_seed(len(rows))
    steps = torch.randint(1, len(rows), (count,), generator=drawn, device="cpu")
    rest[ACTION] = rows[ACTION][steps.to(rows.device)]
    rest[REWARD].zero_()
    rest[REAL].zero_()
    longer: Any = torch.cat([rows, rest])
    return longer


def action_bounds(bounds: object) -> tuple[Tensor, Tensor] | None:
    """Return low and high of actions as tensors, or None for actions in [-1, 1]."""
    if bounds is None:
        return None
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"bounds must be (low, high), got {bounds!r}")
    low, high = (copied("bounds", edge, torch.float32) for edge in bounds)
    if not bool((low.isfinite() & high.isfinite() & (low < high)).all()):
        raise ValueError(f"bounds must be finite and low below high, got {bounds}")
    return low, high


def scaled(action: Tensor, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
    """Bring actions from their bounds to [-1, 1]."""
    if bounds is None:
        return action
    low, high = bounds
    return (2.0 * (action - low) / (high - low) - 1.0).clamp(-1.0, 1.0)


def of_tasks(owner: Tensor, tasks: Sequence[int]) -> Tensor:
    """Tell which episodes are of some tasks, `[episodes]` bool.

    Args:
        owner: task of each episode, `[episodes]` int64.
        tasks: indices of the tasks.

    Raises:
        ValueError: if a task has no episode.
    """
    held = set(owner.unique().tolist())
    if missing := set(tasks) - held:
        raise ValueError(f"tasks must be among {sorted(held)}, got {sorted(missing)}")
    return torch.isin(owner, torch.tensor(list(tasks), dtype=torch.int64, device=owner.device))


def long_enough(lengths: Tensor, slice_len: int) -> Tensor:
    """Tell which episodes are as long as a window, `[episodes]` bool.

    Args:
        lengths: rows of each, `[episodes]` int64.
        slice_len: rows of a window.

    Raises:
        ValueError: if there are some and none is.
    """
    kept = lengths >= slice_len
    if len(kept) and not kept.any():
        check_lengths(lengths, slice_len, int(lengths.sum()))
    return kept


def check_lengths(lengths: Tensor, slice_len: int, capacity: int) -> None:
    """Check that episodes are neither too short for a window nor too long for the ring.

    Args:
        lengths: rows of each, `[episodes]` int64.
        slice_len: rows of a window.
        capacity: rows of the ring.

    Raises:
        ValueError: if one is.
    """
    if (short := lengths < slice_len).any():
        raise ValueError(
            f"episodes must have length >= slice_len={slice_len} rows, got "
            f"{int(lengths.min())} ({int(short.sum())} of {len(lengths)} are too short)"
        )
    if lengths.sum() > capacity:
        raise ValueError(f"capacity must hold {int(lengths.sum())} rows, got {capacity}")


def _lead(value: Tensor, fill: float | bool) -> Tensor:
    """Put one row of `fill` in front."""
    return torch.cat([torch.full_like(value[:1], fill), value])


def _check_actions(name: str, action: Tensor, steps: int) -> None:
    """Raise ValueError unless actions are `[T, A]`, within [-1, 1] up to what rounding leaves."""
    if action.ndim != 2 or len(action) != steps or not action.shape[1]:
        raise ValueError(f"{name} must be [{steps}, A], got {shape_of(action)}")
    outside = action.abs() > 1.0 + ROUNDING
    if bool(outside.any()):
        step = int(outside.any(1).nonzero()[0, 0])
        raise ValueError(f"{name} must lie in [-1, 1], got {action[step].tolist()} in step {step}")
