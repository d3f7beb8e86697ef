"""Reacher tasks: reach with an arm of three links."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial
from typing import Any

import numpy as np

from pwm_sdk.envs.dm_tasks.stock import Builder
from pwm_sdk.envs.engines import load_dm_control

__all__ = ["TASKS", "three_link_arm"]

_ARM = """
<body name="arm0" pos="0 0 .01">
  <joint name="shoulder0"/>
  <geom name="arm0" type="capsule" fromto="0 0 0 .09 0 0" size=".01" material="self"/>
  <body name="arm1" pos=".09 0 0">
    <joint name="shoulder1" limited="true" range="-80 80"/>
    <geom name="arm1" type="capsule" fromto="0 0 0 .09 0 0" size=".01" material="self"/>
    <body name="hand" pos=".09 0 0">
      <joint name="wrist" limited="true" range="-80 80"/>
      <geom name="hand" type="capsule" fromto="0 0 0 .1 0 0" size=".01" material="self"/>
      <body name="finger" pos=".09 0 0">
        <geom name="finger" type="sphere" size=".01" material="effector"/>
      </body>
    </body>
  </body>
</body>
"""
_JOINTS = ("shoulder0", "shoulder1", "wrist")


def three_link_arm(model: str) -> str:
    """The stock reacher's model with its arm replaced by one of three links.

    Args:
        model: MJCF of the stock reacher.

    Returns:
        MJCF with the joints and motors `shoulder0` (unlimited), `shoulder1` and `wrist` (+-80
        degrees); everything else is kept.

    Raises:
        ValueError: if the model lacks the stock arm or motors.

    Source: TD-MPC2 (Hansen et al., 2024), tasks `reacher-three-easy` and `reacher-three-hard`.
    """
    root = ET.fromstring(model)
    world, motors = root.find("worldbody"), root.find("actuator")
    arm = None if world is None else world.find("body[@name='arm']")
    if world is None or arm is None or motors is None:
        raise ValueError("model must be the stock reacher's, got one without its arm or motors")
    place = list(world).index(arm)
    world.remove(arm)
    world.insert(place, ET.fromstring(_ARM))
    for motor in list(motors):
        motors.remove(motor)
    for joint in _JOINTS:
        ET.SubElement(motors, "motor", name=joint, joint=joint)
    return ET.tostring(root, encoding="unicode")


def _build(random: np.random.RandomState, *, target_size: float) -> Any:
    """The stock task, which asks for nothing that depends on the number of links."""
    load_dm_control()
    from dm_control.rl import control
    from dm_control.suite import reacher

    model, assets = reacher.get_model_and_assets()
    text = model.decode() if isinstance(model, bytes) else model
    physics = reacher.Physics.from_xml_string(three_link_arm(text), assets)
    task = reacher.Reacher(target_size=target_size, random=random)
    return control.Environment(physics, task, time_limit=20.0)


TASKS: dict[str, Builder] = {
    "reacher-three-easy": partial(_build, target_size=0.05),
    "reacher-three-hard": partial(_build, target_size=0.015),
}
