"""MJCF files that ship with dm_control: each steps with gradients, or is refused by name."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import dm_control
import mujoco
import numpy as np
import pytest
import torch
from mjcf_models import CARTPOLE

from pwm_sdk.simulators.mujoco import MuJoCoModel

SUITE = Path(dm_control.__file__).parent / "suite"
FILES = sorted(path.name for path in SUITE.glob("*.xml"))
LACKING = ("lqr.xml", "dog_base.xml", "swimmer.xml")


def speed(before, action, after):
    return after.qvel.sum(-1, keepdim=True) + 0.0 * action.sum(-1, keepdim=True)


@pytest.mark.parametrize("name", FILES)
def test_files_of_the_suite(name: str) -> None:
    try:
        model = MuJoCoModel(str(SUITE / name), speed, threads=1)
    except ValueError as error:
        assert any(
            word in str(error) for word in ("model must", "integrator must", "actuators must")
        )
        assert name not in LACKING or "must have at least one" in str(error)
        return
    assert name not in LACKING
    action = torch.zeros(2, model.action_dim, requires_grad=True)
    _, reward = model.step(model.reset(2, torch.Generator().manual_seed(0)), action)[:2]
    reward.sum().backward()
    assert torch.isfinite(action.grad).all()


@pytest.mark.parametrize("bounds", [(0.0, 0.0), (1.0, -1.0), (np.nan, 1.0), (-1e308, 1e308)])
def test_a_range_that_no_action_can_be_scaled_to(bounds: tuple[float, float]) -> None:
    compiled = mujoco.MjModel.from_xml_string(CARTPOLE)
    compiled.actuator_ctrlrange[:] = bounds
    with pytest.raises(
        ValueError, match=r"actuators must have a control range, got none .* low must"
    ):
        MuJoCoModel(compiled, speed)


def test_a_model_whose_time_stands_still() -> None:
    with pytest.raises(ValueError, match=r"timestep of the model must be positive, got 0.0"):
        MuJoCoModel(CARTPOLE.replace('timestep="0.01"', 'timestep="0"'), speed)


def test_an_error_leaves_no_thread_at_work() -> None:
    model = MuJoCoModel(CARTPOLE, speed, threads=2)
    busy, loads = threading.Event(), model.bridge._workers[1].load

    def slowly(*given) -> None:
        busy.set()
        time.sleep(0.1)
        loads(*given)
        busy.clear()

    model.bridge._workers[1].load = slowly
    states = model.reset(2).numpy()
    states[0] = np.nan  # the first thread fails at once
    with pytest.raises(ValueError, match="latent must stay finite, got a state in row 0"):
        model.bridge.roll(states, np.zeros((2, model.action_dim)), need=False)
    assert not busy.is_set()
