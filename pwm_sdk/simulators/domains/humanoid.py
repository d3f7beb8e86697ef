"""The humanoid of the suite."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.functional.rewards import tolerance
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.imports import MjModel
from pwm_sdk.simulators.spec import Spec, contacts, forward_reward, random_joints, suite_body

GOALS = ("stand", "walk", "run", "forward")
_STAND = 1.4  # m, of the head
_SPEED = {"stand": 0.0, "walk": 1.0, "run": 10.0}  # m/s


def task(goal: str, margin: float) -> Spec:
    """Return a task; "forward" starts on the feet and ends when the humanoid falls."""
    body = suite_body("humanoid")
    if goal == "forward":
        return Spec(body, forward_reward, upright_features, standing, 4, 1, 250, terminated=fallen)
    return Spec(body, partial(_reward, _SPEED[goal]), _features, _anyhow, substeps=5)


def _reward(speed: float, before: BodyState, action: Tensor, after: BodyState) -> Tensor:
    head, torso = after.position("head")[..., 2:], after.axis("torso", "z")[..., 2:]
    standing = tolerance(head, (_STAND, math.inf), _STAND / 4)
    upright = tolerance(torso, (0.9, math.inf), 1.9, "linear", 0.0)
    effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic")
    effort = (4 + effort.mean(-1, keepdim=True)) / 5
    plane = after.velocity()[..., :2]
    if speed == 0.0:
        move = tolerance(plane, margin=2).mean(-1, keepdim=True)
    else:
        along = plane.norm(dim=-1, keepdim=True)
        move = (5 * tolerance(along, (speed, math.inf), speed, "linear", 0.0) + 1) / 6
    return effort * standing * upright * move


def _features(state: BodyState) -> Tensor:
    torso = state.frame("torso")
    limbs = [f"{side}_{limb}" for side in ("left", "right") for limb in ("hand", "foot")]
    parts = (
        state.qpos[..., 7:],
        state.position("head")[..., 2:],
        *(torso.local(state.position(limb) - torso.place) for limb in limbs),
        torso.turn[..., 2, :],
        state.velocity(),
        state.qvel,
    )
    return torch.cat(parts, -1)


def upright_features(state: BodyState) -> Tensor:
    """Return joint angles, height and heading of the torso, speeds, and actuator states if any."""
    torso = state.frame("torso")
    parts = (
        state.qpos[..., 7:],
        torso.place[..., 2:],
        torso.turn[..., 0],
        torso.turn[..., 2],
        state.qvel,
        state.act,
    )
    return torch.cat(parts, -1)


def fallen(state: BodyState) -> Tensor:
    """Tell whether the torso is below 0.9 m or tilted by more than 60 degrees, `[.., 1]`."""
    return (state.position("torso")[..., 2:] < 0.9) | (state.axis("torso", "z")[..., 2:] < 0.5)


def standing(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Draw a pose on the feet, with half-active muscles where there are any."""
    qpos = model.qpos0.copy()
    qpos[2] = 1.283  # the soles on the floor
    qpos[7:] += 0.02 * rng.normal(size=model.nq - 7)
    return qpos, 0.02 * rng.normal(size=model.nv), np.full(model.na, 0.5)


def _anyhow(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Any pose in the air that touches nothing."""
    qpos = random_joints(model, rng)
    while contacts(model, qpos):
        qpos = random_joints(model, rng)
    return qpos, np.zeros(model.nv)
