"""The quadruped of the suite, with a slow actuator in each of twelve places."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.functional.rewards import tolerance
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.imports import MjModel
from pwm_sdk.simulators.spec import Spec, contacts, remove, suite_body

GOALS = ("walk", "run")
_SPEED = {"walk": 0.5, "run": 5.0}  # m/s
_TOES = ("front_left", "front_right", "back_right", "back_left")


def task(goal: str, margin: float) -> Spec:
    """Return a task."""
    reward = partial(_reward, _SPEED[goal])
    return Spec(_body(), reward, _features, _dropped, substeps=4, sensors=True)


def _body() -> Any:
    """The body alone on its floor, without what other tasks of the suite use."""
    spec = suite_body("quadruped")
    remove(spec, spec.body("ball"))
    remove(spec, spec.site("target"))
    for geom in [g for g in spec.geoms if g.name.startswith("wall_") or g.name == "terrain"]:
        remove(spec, geom)
    for sensor in [s for s in spec.sensors if s.name.startswith("rf_")]:
        remove(spec, sensor)
    return spec


def _reward(speed: float, before: BodyState, action: Tensor, after: BodyState) -> Tensor:
    upright = tolerance(after.axis("torso", "z")[..., 2:], (1.0, math.inf), 2.0, "linear", 0.0)
    torso = after.site("torso")
    forward = torso.local(torso.velocity)[..., :1]
    return upright * tolerance(forward, (speed, math.inf), speed, "linear", 0.5)


def _features(state: BodyState) -> Tensor:
    torso = state.site("torso")
    feet = [state.sensor(f"{kind}_toe_{toe}") for kind in ("force", "torque") for toe in _TOES]
    parts = (
        state.qpos[..., 7:],
        state.qvel[..., 6:],
        state.act,
        torso.local(torso.velocity),
        torso.turn[..., 2, 2:],
        state.sensor("imu_accel"),
        torso.local(torso.rate),
        torch.cat(feet, -1).asinh(),
    )
    return torch.cat(parts, -1)


def _dropped(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Turned anyhow, as low as it can be without touching anything."""
    qpos, turn = model.qpos0.copy(), rng.normal(size=4)
    qpos[:3], qpos[3:7] = 0.0, turn / np.linalg.norm(turn)
    while contacts(model, qpos):
        qpos[2] += 0.01
    return qpos, np.zeros(model.nv)
