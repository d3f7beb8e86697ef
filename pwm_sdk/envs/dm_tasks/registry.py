"""Every custom dm_control task by name."""

from __future__ import annotations

from pwm_sdk.envs.dm_tasks import cheetah, cup, hopper, pendulum, reacher, walker
from pwm_sdk.envs.dm_tasks.stock import Builder

__all__ = ["CUSTOM_TASKS"]

CUSTOM_TASKS: dict[str, Builder] = {
    **walker.TASKS,
    **cheetah.TASKS,
    **hopper.TASKS,
    **reacher.TASKS,
    **cup.TASKS,
    **pendulum.TASKS,
}
