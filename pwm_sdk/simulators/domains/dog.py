"""The dog of the suite, with 38 slow actuators at joints and tendons."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.functional.rewards import tolerance
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.bridge import engine
from pwm_sdk.simulators.imports import MjModel
from pwm_sdk.simulators.spec import Spec, remove, suite_body

GOALS = ("stand", "walk", "trot", "run")
_SPEED = {"stand": 0.0, "walk": 1.0, "trot": 3.0, "run": 9.0}  # m/s
_UPRIGHT = math.cos(math.radians(30))
_PAWS = ("palm_L", "palm_R", "sole_L", "sole_R")


def task(goal: str, margin: float) -> Spec:
    """Return a task."""
    model = _body().compile()
    reward = partial(_reward, *_posture(model), _SPEED[goal])
    return Spec(model, reward, _features, _pushed, substeps=3, sensors=True)


def _body() -> Any:
    """The dog alone on its floor, without ball and walls."""
    spec = suite_body("dog")
    remove(spec, spec.body("ball"))
    for camera in [c for c in spec.cameras if c.name in ("ball", "head")]:
        remove(spec, camera)
    for geom in [g for g in spec.geoms if g.name.startswith("wall_") or g.name == "target"]:
        remove(spec, geom)
    return spec


def _posture(model: MjModel) -> tuple[dict[str, float], float]:
    """Return the least heights of torso and pelvis, m, and the weight, N."""
    mujoco = engine()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    heights = {name: 0.9 * float(data.body(name).xpos[2]) for name in ("torso", "pelvis")}
    weight = -float(model.opt.gravity[2] * model.body("torso").subtreemass[0])
    return heights, weight


def _reward(
    heights: dict[str, float],
    weight: float,
    speed: float,
    before: BodyState,
    action: Tensor,
    after: BodyState,
) -> Tensor:
    result = torch.ones_like(after.qpos[..., :1])
    for name, height in heights.items():
        result = result * tolerance(after.position(name)[..., 2:], (height, math.inf), height)
    for name in ("skull", "torso", "pelvis"):
        tilt = after.axis(name, "z")[..., 2:]
        result = result * tolerance(tilt, (_UPRIGHT, math.inf), _UPRIGHT + 1, "linear", 0.0)
    load = torch.cat([after.sensor(paw) for paw in _PAWS], -1).sum(-1, keepdim=True)
    result = result * tolerance(load, (weight, math.inf), weight, "linear", 0.9)
    if speed == 0.0:
        return result
    forward = after.frame("torso").local(after.velocity())[..., :1]
    move = tolerance(forward, (speed, 2 * speed), max(1.0, speed), "linear", 0.0)
    return result * (4 * move + 1) / 5


def _features(state: BodyState) -> Tensor:
    head, torso = state.site("head"), state.frame("torso")
    trunk = [state.frame(name) for name in ("skull", "torso", "pelvis")]
    parts = (
        state.qpos[..., 7:],
        state.qvel[..., 6:],
        *(frame.place[..., 2:] for frame in trunk[1:]),
        *(frame.turn[..., 2, :] for frame in trunk),
        torso.local(state.velocity()),
        state.sensor("accelerometer"),
        head.local(head.velocity),
        head.local(head.rate),
        *(state.sensor(limb) for limb in ("foot_L", "foot_R", "hand_L", "hand_R")),
        *(state.sensor(paw) for paw in _PAWS),
        state.act,
    )
    return torch.cat(parts, -1)


def _pushed(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """On its feet, facing anywhere, pushed and turned, with actuators in any state."""
    qpos, qvel = model.qpos0.copy(), np.zeros(model.nv)
    half = rng.uniform(0, 2 * np.pi) / 2
    qpos[3:7] = np.cos(half), 0.0, 0.0, np.sin(half)
    qvel[[0, 1, 5]] = 2 * rng.normal(size=3)
    return qpos, qvel, rng.uniform(*model.actuator_ctrlrange.T)
