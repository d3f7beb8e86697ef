"""Imports the simulation suites lazily, without their side effects on the process."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["MissingSimulatorError", "load_dm_control", "load_meta_world"]


class MissingSimulatorError(ImportError):
    """A simulator that the task needs is not installed."""


def load_dm_control() -> ModuleType:
    """The module `dm_control.suite`.

    Observations need no renderer, so none is looked for unless `MUJOCO_GL` names one before the
    first environment is made.

    Raises:
        MissingSimulatorError: If dm_control cannot be imported.
    """
    with _quiet_import("dm_control"):
        from dm_control import suite
    setattr(suite.quadruped.Physics, "_get_sensor_names", _sensor_names)  # noqa: B010
    return suite


def load_meta_world() -> Mapping[str, Any]:
    """The Meta-World classes with a visible goal by name, such as `"reach-v3-goal-observable"`.

    Raises:
        MissingSimulatorError: If Meta-World cannot be imported.
    """
    with _quiet_import("metaworld"):
        from metaworld import env_dict
    return env_dict.ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE


def _sensor_names(physics: Any, *kinds: int) -> list[str]:
    """Name the quadruped's sensors of some kinds, in the model's order.

    dm_control 1.0.28 looks them up with `np.in1d`, which numpy 2.4 no longer has.
    """
    model = physics.model
    return [model.id2name(i, "sensor") for i, kind in enumerate(model.sensor_type) if kind in kinds]


@contextmanager
def _quiet_import(name: str) -> Iterator[None]:
    """Import without a renderer; leave environment variables and logging as they were.

    dm_control probes for a display while it is imported, which warns on a machine without one, and
    absl, which it logs through, then installs a handler on the root logger.
    """
    handlers = logging.root.handlers[:]
    backend_chosen = "MUJOCO_GL" in os.environ
    os.environ.setdefault("MUJOCO_GL", "disable")
    try:
        yield
    except ImportError as error:
        message = f'{name} must be installed for this task: pip install "pwm-sdk[bench]"'
        raise MissingSimulatorError(message) from error
    finally:
        logging.root.handlers[:] = handlers
        if not backend_chosen:
            del os.environ["MUJOCO_GL"]
