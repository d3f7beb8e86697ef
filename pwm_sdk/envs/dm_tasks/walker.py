"""Walker tasks: walk and run backwards."""

from __future__ import annotations

import math
from functools import partial

from pwm_sdk.envs.dm_tasks.stock import Builder, rewarded
from pwm_sdk.envs.dm_tasks.tolerance import gaussian, linear
from pwm_sdk.envs.engines import Physics

__all__ = ["TASKS", "backwards"]


def backwards(physics: Physics, *, speed: float) -> float:
    """`stand (5 move + 1) / 6`: upright, and moving to the left at `speed` m/s or more.

    `stand = (3 tol(height; 1.2, inf) + (1 + u) / 2) / 4` with `u` the vertical part of the torso's
    axis, `move = clip(-v / speed, 0, 1)`.

    Source: TD-MPC2 (Hansen et al., 2024), tasks `walker-walk-backwards`, `walker-run-backwards`.
    """
    standing = gaussian(physics.torso_height(), 1.2, margin=0.6)
    upright = (1.0 + physics.torso_upright()) / 2.0
    stand = (3.0 * standing + upright) / 4.0
    velocity = physics.horizontal_velocity()
    move = linear(velocity, -math.inf, -speed, margin=speed / 2.0, at_margin=0.5)
    return stand * (5.0 * move + 1.0) / 6.0


TASKS: dict[str, Builder] = {
    "walker-walk-backwards": rewarded("walker", "walk", partial(backwards, speed=1.0)),
    "walker-run-backwards": rewarded("walker", "run", partial(backwards, speed=8.0)),
}
