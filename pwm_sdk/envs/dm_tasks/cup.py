"""Ball-in-cup task: spin the ball around the cup."""

from __future__ import annotations

import math

import numpy as np

from pwm_sdk.envs.dm_tasks.stock import Builder, rewarded
from pwm_sdk.envs.dm_tasks.tolerance import linear
from pwm_sdk.envs.engines import Physics

__all__ = ["TASKS", "spin", "start"]


def spin(physics: Physics) -> float:
    """`(clip(2 d, 0, 1) + 2 clip(s / 6, 0, 1)) / 3` outside the cup, 0 inside it.

    `d` is the distance from the ball to the middle of the cup in m, `s` the ball's speed in m/s.

    Source: TD-MPC2 (Hansen et al., 2024), task `cup-spin`.
    """
    if physics.in_target():
        return 0.0
    far = linear(_norm(physics.ball_to_target()), 0.5, margin=0.25, at_margin=0.5)
    velocity = physics.named.data.qvel[["ball_x", "ball_z"]]
    fast = linear(_norm(velocity), 6.0, margin=3.0, at_margin=0.5)
    return (far + 2.0 * fast) / 3.0


def start(physics: Physics, random: np.random.RandomState) -> None:
    """Place the ball where it touches nothing, in nine episodes of ten inside the cup.

    The order of the draws is part of the task: one uniform number for the kind of the episode,
    then x and z of the ball until the place is good.
    """
    outside_is_good = random.uniform(0.0, 1.0) < 0.1
    good = False
    while not good:
        physics.named.data.qpos["ball_x"] = random.uniform(-0.2, 0.2)
        physics.named.data.qpos["ball_z"] = random.uniform(0.2, 0.5)
        physics.after_reset()
        good = physics.data.ncon == 0 and (outside_is_good or bool(physics.in_target()))


def _norm(vector: np.ndarray) -> float:
    return math.sqrt(float(vector.dot(vector)))


TASKS: dict[str, Builder] = {"cup-spin": rewarded("ball_in_cup", "catch", spin, start)}
