"""Discounted sums of the rewards of a trajectory's first steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.functional.returns import alive_steps


def partial_sums(trajectory: TensorDictBase, gamma: float) -> Tensor:
    r"""Sum the rewards up to the first end.

    .. math:: J_h = \sum_{t<h} \gamma^t c_t r_t, \quad c_t = \prod_{s<t} (1 - d_s)

    Args:
        trajectory: `[B, H]` from a `LatentRollout`.
        gamma: discount per step.

    Returns:
        `J_1` to `J_H`, `[B, H]`.
    """
    after: Any = trajectory[keys.NEXT]
    reward = after[keys.REWARD].squeeze(-1)
    alive = alive_steps(after[keys.TERMINATED], reward.dtype).squeeze(-1)
    discount = gamma ** torch.arange(reward.shape[1], dtype=reward.dtype, device=reward.device)
    return (reward * alive * discount).cumsum(1)


def check_horizons(horizons: Sequence[int]) -> None:
    """Raise ValueError unless there are horizons, all of them at least 1."""
    if not horizons or min(horizons) < 1:
        raise ValueError(f"horizons must be at least 1, got {list(horizons)}")
