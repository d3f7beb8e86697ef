"""The planar walker of the suite."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from pwm_sdk.functional.rewards import tolerance
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.spec import Spec, random_start, suite_body

GOALS = ("stand", "walk", "run")
_STAND = 1.2  # m
_SPEED = {"stand": 0.0, "walk": 1.0, "run": 8.0}  # m/s


def task(goal: str, margin: float) -> Spec:
    """Return a task."""
    return Spec(suite_body("walker"), partial(_reward, _SPEED[goal]), _features, random_start, 10)


def _reward(target: float, before: BodyState, action: Tensor, after: BodyState) -> Tensor:
    height = after.position("torso")[..., 2:]
    standing = tolerance(height, (_STAND, math.inf), _STAND / 2)
    upright = (1 + after.axis("torso", "z")[..., 2:]) / 2
    stand = (3 * standing + upright) / 4
    if target == 0.0:
        return stand
    speed = after.velocity()[..., :1]
    move = tolerance(speed, (target, math.inf), target / 2, "linear", 0.5)
    return stand * (5 * move + 1) / 6


def _features(state: BodyState) -> Tensor:
    turns = state.frames.turn[..., 1:, 0, ::2].flatten(-2)
    return torch.cat((turns, state.position("torso")[..., 2:], state.qvel), -1)
