"""The chain of links in a viscous fluid of the suite, of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.checks import whole
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.bridge import engine
from pwm_sdk.simulators.imports import MjModel
from pwm_sdk.simulators.spec import Spec, remove, suite_body

_LINK = 0.1  # m


def task(joints: int) -> Spec:
    """Return the task of swimming ahead with so many joints, each with a motor."""
    return Spec(swimmer_body(joints), _reward, _features, _bent, 15, 1, 250)


def swimmer_body(joints: int) -> Any:
    """Return the chain as a `mujoco.MjSpec`: a head and a link after each joint.

    As the suite builds it, without sensors.

    Args:
        joints: at least 1; the suite has 5 and 14.

    Raises:
        ValueError: if there are no joints.
    """
    whole(1, joints=joints)
    spec, kinds = suite_body("swimmer"), engine().mjtTrn
    for sensor in list(spec.sensors):
        remove(spec, sensor)
    default, limit = spec.find_default, 360.0 / (joints + 1)
    link = spec.body("head")
    for i in range(joints):
        link = link.add_body(name=f"segment_{i}", pos=[0.0, _LINK, 0.0])
        for part in ("visual", "inertial"):
            link.add_geom(default(part), name=f"{part}_{i}")
        link.add_joint(default("swimmer"), name=f"joint_{i}", range=[-limit, limit])
        motor = spec.add_actuator(name=f"motor_{i}", target=f"joint_{i}")
        motor.trntype = kinds.mjTRN_JOINT
    return spec


def _reward(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
    """Pay the speed of the centre of mass along -y, where the nose points at the start."""
    return -after.velocity()[..., 1:2] / _LINK


def _features(state: BodyState) -> Tensor:
    head = state.frame("head")
    parts = (
        state.qpos[..., 3:],
        head.turn[..., :2, 1],
        head.local(head.velocity)[..., :2],
        state.qvel[..., 2:],
    )
    return torch.cat(parts, -1)


def _bent(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """At rest, ahead, every joint somewhere in the inner fifth of its range."""
    qpos, first = np.zeros(model.nq), model.jnt_qposadr[3:]
    qpos[first] = 0.2 * rng.uniform(*model.jnt_range[3:].T)
    return qpos, np.zeros(model.nv)
