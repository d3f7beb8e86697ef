"""The cart-pole of the suite."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.functional.rewards import tolerance
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.imports import MjModel
from pwm_sdk.simulators.spec import Spec, suite_body

GOALS = ("balance", "swingup")


def task(goal: str, margin: float) -> Spec:
    """Return a task; RK4, which has no derivatives, is replaced."""
    start = _up if goal == "balance" else _down
    body = suite_body("cartpole")
    return Spec(body, _reward, _features, start, substeps=1, integrator="implicitfast")


def _reward(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
    upright = (after.qpos[..., 1:].cos() + 1) / 2
    centred = (1 + tolerance(after.qpos[..., :1], margin=2)) / 2
    effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic")
    calm = (1 + tolerance(after.qvel[..., 1:], margin=5)) / 2
    return upright * (4 + effort) / 5 * calm * centred


def _features(state: BodyState) -> Tensor:
    place, angle = state.qpos[..., :1], state.qpos[..., 1:]
    return torch.cat((place, angle.cos(), angle.sin(), state.qvel), -1)


def _down(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.array([0.0, np.pi]) + 0.01 * rng.normal(size=2), 0.01 * rng.normal(size=2)


def _up(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-1, 1, 2) * [0.1, 0.034], 0.01 * rng.normal(size=2)
