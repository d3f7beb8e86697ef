"""The physics behind a task, for methods that differentiate it."""

from __future__ import annotations

from typing import Any

from pwm_sdk import SimulatorEnv, Task, make_gym, make_simulator

SUITES = ("dmcontrol", "metaworld", "simulator")  # the package's own
MARGINS = {"hopper-stand": 0.3, "hopper-hop": 0.3}  # m: slope of a reward that is a step


def simulator_of(task: Task) -> Any:
    """Return a task's own dynamics: the model of its `SimulatorEnv`, or that of `make_simulator`.

    Raises:
        ValueError: for a task that has none.
    """
    model = _model_of(task)
    if model is not None and task.action_repeat == 1:
        return model
    if task.suite not in SUITES:
        raise ValueError(f"task must show a SimulatorEnv step by step, got {task.name!r}")
    return make_simulator(task.name, margin=MARGINS.get(task.name, 0.0), threads=1)


def no_simulator(task: Task) -> str | None:
    """Say why a task cannot be differentiated; None where it can."""
    try:
        simulator_of(task)
    except ValueError as error:
        return str(error)
    return None


def _model_of(task: Task) -> Any:
    env = make_gym(task)
    env.close()
    inner = env.unwrapped
    return inner.model if isinstance(inner, SimulatorEnv) else None
