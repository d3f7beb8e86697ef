"""Cheetah tasks: run backwards, run on one foot, jump."""

from __future__ import annotations

import math
from functools import partial

from pwm_sdk.envs.dm_tasks.stock import Builder, rewarded
from pwm_sdk.envs.dm_tasks.tolerance import gaussian, linear
from pwm_sdk.envs.engines import Physics

__all__ = ["TASKS", "jump", "run_backwards", "run_on_one_foot"]


def run_backwards(physics: Physics) -> float:
    """`clip(-v / 8, 0, 1)` with the speed `v` in m/s.

    Source: TD-MPC2 (Hansen et al., 2024), task `cheetah-run-backwards`.
    """
    return linear(physics.speed(), -math.inf, -8.0, margin=8.0, at_margin=0.0)


def run_on_one_foot(physics: Physics, *, raised: str) -> float:
    """`up (5 clip(v / 6, 0, 1) + 1) / 6`: run forwards with one foot and the torso up in the air.

    `up = (3 tol(foot height; 1.2, inf) + 2 tol(torso height; 1.2, inf)) / 5`.

    Args:
        physics: state of the cheetah.
        raised: body held in the air, `"bfoot"` or `"ffoot"`.

    Source: TD-MPC2 (Hansen et al., 2024), tasks `cheetah-run-front`, `cheetah-run-back`.
    """
    foot = gaussian(_height(physics, raised), 1.2, margin=0.6)
    torso = gaussian(_height(physics, "torso"), 1.2, margin=0.6)
    up = (3.0 * foot + 2.0 * torso) / 5.0
    run = linear(physics.speed(), 6.0, margin=6.0, at_margin=0.0)
    return up * (5.0 * run + 1.0) / 6.0


def jump(physics: Physics) -> float:
    """Mean over the feet of `(5 tol((torso + foot) / 2; 1.2, inf) + still) / 6`, with heights in m.

    `still` is 1 up to 0.5 m/s in either direction and 0 from 1 m/s.

    Source: TD-MPC2 (Hansen et al., 2024), task `cheetah-jump`.
    """
    still = linear(physics.speed(), -0.5, 0.5, margin=0.5, at_margin=0.0)
    torso = _height(physics, "torso")
    heights = ((torso + _height(physics, foot)) / 2.0 for foot in ("bfoot", "ffoot"))
    up = (gaussian(height, 1.2, margin=0.6) for height in heights)
    return sum((5.0 * part + still) / 6.0 for part in up) / 2.0


def _height(physics: Physics, body: str) -> float:
    return physics.named.data.xpos[body, "z"]


TASKS: dict[str, Builder] = {
    "cheetah-run-backwards": rewarded("cheetah", "run", run_backwards),
    "cheetah-run-front": rewarded("cheetah", "run", partial(run_on_one_foot, raised="bfoot")),
    "cheetah-run-back": rewarded("cheetah", "run", partial(run_on_one_foot, raised="ffoot")),
    "cheetah-jump": rewarded("cheetah", "run", jump),
}
