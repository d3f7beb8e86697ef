"""Imports the simulation suites lazily, without their side effects on the process."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeAlias

from pwm_sdk.simulators.imports import load

__all__ = ["NO_COPY", "MissingSimulatorError", "Physics", "load_dm_control", "load_meta_world"]

Physics: TypeAlias = Any
"""A `Physics` of dm_control, which declares no types."""

NO_COPY = (
    "{} must be made again, not copied or pickled: functions such as partial(make_gym, ..) make "
    "one in each process"
)


class MissingSimulatorError(ImportError):
    """A simulator that the task needs is not installed."""


def load_dm_control() -> ModuleType:
    """The module `dm_control.suite`.

    Observations need no renderer, so none is looked for unless `MUJOCO_GL` names one before the
    first environment is made; one that does not load is done without, with a warning.

    Raises:
        MissingSimulatorError: if dm_control is not installed.
        ImportError: if it does not load.
    """
    suite = load("dm_control", _suite, missing=MissingSimulatorError, headless=True)
    setattr(suite.quadruped.Physics, "_get_sensor_names", _sensor_names)  # noqa: B010
    return suite


def load_meta_world() -> Mapping[str, Any]:
    """The Meta-World classes with a visible goal by name, such as `"reach-v3-goal-observable"`.

    Raises:
        MissingSimulatorError: if Meta-World is not installed.
        ImportError: if it does not load.
    """
    return load("metaworld", _classes, "metaworld", missing=MissingSimulatorError, headless=True)


def _suite() -> ModuleType:
    from dm_control import suite

    return suite


def _classes() -> Mapping[str, Any]:
    from metaworld import env_dict

    return env_dict.ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE


def _sensor_names(physics: Physics, *kinds: int) -> list[str]:
    """Name the quadruped's sensors of some kinds, in the model's order.

    dm_control 1.0.28 looks them up with `np.in1d`, which numpy 2.4 no longer has.
    """
    model = physics.model
    return [model.id2name(i, "sensor") for i, kind in enumerate(model.sensor_type) if kind in kinds]
