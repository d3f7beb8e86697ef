"""The humanoid of the suite with muscles in place of its motors."""

from __future__ import annotations

from typing import Any

import numpy as np

from pwm_sdk.simulators.bridge import engine
from pwm_sdk.simulators.domains.humanoid import fallen, standing, upright_features
from pwm_sdk.simulators.imports import MjSpec
from pwm_sdk.simulators.spec import Spec, forward_reward, remove, suite_body

_RING = 8  # muscles around a joint
_RADIUS, _REACH, _TWIST = 0.05, 0.08, np.pi / 4  # m, m, rad


def task() -> Spec:
    """Return the task of walking ahead on 168 muscles; it ends when the humanoid falls."""
    return Spec(
        muscle_body(), forward_reward, upright_features, standing, 4, 1, 250, terminated=fallen
    )


def muscle_body() -> Any:
    """Return the humanoid with a ring of eight muscles around each of its 21 joints.

    A muscle spans from the joint's parent to its child, straight and `_RADIUS` beside the limb's
    axis. Its ends are turned against each other, in turn to the left and to the right, so that a
    ring can also twist the limb. Rings of joints in one place have different lengths and angles.
    Muscles are MuJoCo's, with time constants of 10 and 40 ms, and together about as strong as the
    motor that they replace.

    Returns:
        A `mujoco.MjSpec`.
    """
    mujoco, spec = engine(), suite_body("humanoid")
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    strengths = {int(model.actuator_trnid[i, 0]): model.actuator_gear[i, 0]
                 for i in range(model.nu)}  # fmt: skip
    for sensor in list(spec.sensors):
        remove(spec, sensor)
    for motor in list(spec.actuators):
        remove(spec, motor)
    for joint, strength in strengths.items():
        body = int(model.jnt_bodyid[joint])
        order = joint - int(model.body_jntadr[body])
        along = data.xipos[body] - data.xipos[model.body_parentid[body]]
        ends = _ring(data.xanchor[joint], along, order)
        for i, pair in enumerate(zip(*ends, strict=True)):
            name = f"{model.joint(joint).name}_{i}"
            tendon = spec.add_tendon(name=name)
            for owner, place in zip((model.body_parentid[body], body), pair, strict=True):
                site = f"{name}_{model.body(int(owner)).name}"
                turn = data.xmat[owner].reshape(3, 3)
                home = spec.body(model.body(int(owner)).name)
                home.add_site(name=site, pos=turn.T @ (place - data.xpos[owner]), size=[0.005] * 3)
                tendon.wrap_site(site)
            _add_muscle(spec, name, float(np.linalg.norm(pair[1] - pair[0])), strength)
    return spec


def _ring(anchor: np.ndarray, along: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where muscles start and end in the world, `[8, 3]` each."""
    along = along / np.linalg.norm(along)
    side = np.cross(along, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    angles = 2 * np.pi * np.arange(_RING) / _RING + order * np.pi / 12
    twist = np.where(np.arange(_RING) % 2, _TWIST, -_TWIST) / 2
    reach = _REACH * (1.0 + 0.25 * order)

    def circle(angle: np.ndarray) -> np.ndarray:
        return _RADIUS * (np.outer(np.cos(angle), side)
                          + np.outer(np.sin(angle), np.cross(along, side)))  # fmt: skip

    return (
        anchor - reach * along + circle(angles - twist),
        anchor + reach * along + circle(angles + twist),
    )


def _add_muscle(spec: MjSpec, name: str, length: float, strength: float) -> None:
    """Add a muscle to a tendon; at its length of now it is a little shorter than at its best."""
    mujoco = engine()
    force = strength / (2.0 * _RADIUS)  # N; about half of a ring pulls in any direction
    shape = [0.75, 1.05, force, 200.0, 0.5, 1.6, 1.5, 1.3, 1.2, 0.0]
    muscle = spec.add_actuator(name=name, target=name)
    muscle.trntype = mujoco.mjtTrn.mjTRN_TENDON
    muscle.dyntype = mujoco.mjtDyn.mjDYN_MUSCLE
    muscle.gaintype = mujoco.mjtGain.mjGAIN_MUSCLE
    muscle.biastype = mujoco.mjtBias.mjBIAS_MUSCLE
    muscle.dynprm[:3] = 0.01, 0.04, 0.0
    muscle.gainprm[:10] = muscle.biasprm[:10] = shape
    muscle.ctrllimited, muscle.ctrlrange = True, [0.0, 1.0]
    muscle.lengthrange = [length - 1.5 * _RADIUS, length + _RADIUS]
