"""Hopper task: hop backwards."""

from __future__ import annotations

import math

from pwm_sdk.envs.dm_tasks.stock import Builder, rewarded
from pwm_sdk.envs.dm_tasks.tolerance import linear
from pwm_sdk.envs.engines import Physics

__all__ = ["TASKS", "hop_backwards"]


def hop_backwards(physics: Physics) -> float:
    """`clip(-v, 0, 1)` while the torso is 0.6 to 2 m above the foot, else 0; `v` in m/s.

    Source: TD-MPC2 (Hansen et al., 2024), task `hopper-hop-backwards`.
    """
    if not 0.6 <= physics.height() <= 2.0:
        return 0.0
    return linear(physics.speed(), -math.inf, -1.0, margin=0.5, at_margin=0.5)


TASKS: dict[str, Builder] = {"hopper-hop-backwards": rewarded("hopper", "hop", hop_backwards)}
