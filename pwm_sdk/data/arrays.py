"""Flat arrays of steps, as D4RL has them, cut into episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.calls import array, checked, least
from pwm_sdk.data.entries import Numbers, TaskLike, copied
from pwm_sdk.data.episode import action_bounds, make_episode, scaled

__all__ = ["array_episodes"]


@checked(
    observations=array, actions=array, rewards=array, terminals=array, timeouts=array,
    next_observations=array, absorbing=least(0),
)  # fmt: skip
def array_episodes(
    observations: Numbers,
    actions: Numbers,
    rewards: Numbers,
    terminals: Numbers,
    timeouts: Numbers | None = None,
    *,
    next_observations: Numbers | None = None,
    task: TaskLike = 0,
    bounds: tuple[Any, Any] | None = None,
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
        Episodes as `make_episode` lays them out.

    Raises:
        ValueError: if shapes do not fit, or `make_episode` refuses an episode.
    """
    flat = observations, actions, rewards, terminals, timeouts, next_observations
    seen, parts = _flat(*flat)
    ended = parts["terminals"]
    action = scaled(parts["actions"], action_bounds(bounds))
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
    observations: Numbers,
    actions: Numbers,
    rewards: Numbers,
    terminals: Numbers,
    timeouts: Numbers | None,
    after: Numbers | None,
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
