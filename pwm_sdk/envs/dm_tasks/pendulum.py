"""Pendulum task: spin."""

from __future__ import annotations

from pwm_sdk.envs.dm_tasks.stock import Builder, rewarded
from pwm_sdk.envs.dm_tasks.tolerance import linear
from pwm_sdk.envs.engines import Physics

__all__ = ["TASKS", "spin"]


def spin(physics: Physics) -> float:
    """`clip(|w| / 9, 0, 1)` with the angular velocity `w` in rad/s.

    Source: TD-MPC2 (Hansen et al., 2024), task `pendulum-spin`.
    """
    return linear(abs(float(physics.angular_velocity()[0])), 9.0, margin=4.5, at_margin=0.5)


TASKS: dict[str, Builder] = {"pendulum-spin": rewarded("pendulum", "swingup", spin)}
