"""The planar hopper of the suite."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.functional.rewards import tolerance
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.imports import MjModel
from pwm_sdk.simulators.spec import Spec, forward_reward, random_start, suite_body

GOALS = ("stand", "hop", "forward")
_STAND = 0.6  # m


def task(goal: str, margin: float) -> Spec:
    """Return a task; "forward" starts on the foot and ends when the hopper falls."""
    body = suite_body("hopper")
    if goal == "forward":
        return Spec(
            body, forward_reward, _features, _on_foot, 4, 1, 250, sensors=True, terminated=_fallen
        )
    return Spec(body, partial(_reward, goal, margin), _features, random_start, 4, sensors=True)


def _reward(
    goal: str, margin: float, before: BodyState, action: Tensor, after: BodyState
) -> Tensor:
    standing = tolerance(_height(after), (_STAND, 2.0), margin)
    if goal == "hop":
        speed = after.velocity()[..., :1]
        return standing * tolerance(speed, (2.0, math.inf), 1.0, "linear", 0.5)
    effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic")
    return standing * (effort.mean(-1, keepdim=True) + 4) / 5


def _features(state: BodyState) -> Tensor:
    touch = torch.cat((state.sensor("touch_toe"), state.sensor("touch_heel")), -1)
    return torch.cat((state.qpos[..., 1:], state.qvel, torch.log1p(touch)), -1)


def _fallen(state: BodyState) -> Tensor:
    return (_height(state) < 0.45) | (state.axis("torso", "z")[..., 2:] < 0.5)


def _height(state: BodyState) -> Tensor:
    return (state.centre("torso") - state.centre("foot"))[..., 2:]


def _on_foot(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    pose = np.array([0.0, -0.1, 0.0, 0.0, -0.4, 0.8, -0.4])  # x, z, tilt, waist, hip, knee, ankle
    noise = 0.02 * rng.normal(size=7) * [0, 0, 1, 1, 1, 1, 1]
    return pose + noise, 0.02 * rng.normal(size=7)
