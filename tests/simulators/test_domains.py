"""Large bodies: steps are MuJoCo's to the bit, gradients against central differences, structure."""

from __future__ import annotations

from functools import cache
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from pwm_sdk.envs.engines import load_dm_control
from pwm_sdk.simulators.domains.muscles import muscle_body
from pwm_sdk.simulators.domains.swimmer import swimmer_body
from pwm_sdk.simulators.spec import suite_body
from pwm_sdk.simulators.suite import make_simulator

load = cache(lambda name: make_simulator(name, threads=1, dtype=torch.float64))
BODIES = ["swimmer-5", "quadruped-run", "humanoid-forward", "humanoid-walk", "dog-run",
          "muscle-humanoid"]  # fmt: skip


def actions(model: Any, steps: int, seed: int = 0) -> Tensor:
    """Draw actions `[steps, 1, A]` in [-0.5, 0.5]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(steps, 1, model.action_dim, dtype=torch.float64, generator=generator) - 0.5


def settled(model: Any, steps: int) -> Tensor:
    """Return one state after some random steps."""
    state = model.reset(1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for action in actions(model, steps, seed=1):
            state = model.step(state, action)[0]
    return state


def contacts(model: Any, state: Tensor) -> int:
    """Count contacts of a state."""
    data = mujoco.MjData(model.mj)
    data.qpos[:] = state[0, : model.mj.nq].numpy()
    mujoco.mj_forward(model.mj, data)
    return data.ncon


@pytest.mark.parametrize("name", BODIES)
def test_steps_are_mujocos_to_the_bit(name: str) -> None:
    model = load(name)
    state = model.reset(1, torch.Generator().manual_seed(0))
    data, cuts = mujoco.MjData(model.mj), np.cumsum(model.layout.parts)[:-1]
    data.qpos[:], data.qvel[:], data.act[:] = np.split(state[0].numpy(), cuts)[:3]
    low, high = model.mj.actuator_ctrlrange.T
    for step, action in enumerate(actions(model, 6)):
        action.requires_grad_(step == 1)  # differentiating a step must not change it
        state = model.step(state, action)[0].detach()
        data.ctrl[:] = action.detach().numpy()[0] * ((high - low) / 2) + (high + low) / 2
        mujoco.mj_step(model.mj, data, model.action_repeat * model.bridge.substeps)
        expected = [data.qpos, data.qvel, data.act, data.qacc_warmstart]
        if model.layout.sensors:
            expected.append(data.sensordata)
        assert np.array_equal(state[0].numpy(), np.concatenate(expected))


def total(model: Any, state: Tensor, given: Tensor) -> Tensor:
    """Return of a sequence of actions, with something of every part of the last observation."""
    result = torch.zeros((), dtype=torch.float64)
    for action in given:
        state, reward, *_ = model.step(state, action)
        result = result + reward.sum()
    return result + 0.1 * torch.tanh(model.features(state)).sum()


@pytest.mark.parametrize(
    ("name", "warm_up", "steps", "touches", "tolerance"),
    [
        ("swimmer-5", 5, 8, False, 1e-6),
        ("swimmer-14", 2, 2, False, 1e-6),
        ("humanoid-walk", 0, 2, False, 1e-5),  # joint limits push
        ("humanoid-forward", 2, 4, True, 1e-4),
        ("quadruped-run", 30, 3, True, 1e-4),
        ("dog-run", 4, 1, True, 1e-4),
        ("muscle-humanoid", 2, 3, True, 1e-4),
    ],
)
def test_returns_have_the_slope_of_central_differences(
    name: str, warm_up: int, steps: int, touches: bool, tolerance: float
) -> None:
    """Several agent steps, along two random directions in the space of all actions."""
    model = load(name)
    state, given = settled(model, warm_up), actions(model, steps).requires_grad_()
    assert (contacts(model, state) > 0) == touches
    (gradient,) = torch.autograd.grad(total(model, state, given), given)
    generator, size = torch.Generator().manual_seed(2), 1e-5
    for _ in range(2):
        way = torch.randn(given.shape, dtype=torch.float64, generator=generator)
        with torch.no_grad():
            ends = [total(model, state, given + sign * size * way) for sign in (1, -1)]
        slope, exact = float(ends[0] - ends[1]) / (2 * size), float((gradient * way).sum())
        assert exact == pytest.approx(slope, rel=tolerance, abs=tolerance * 0.1)


@pytest.mark.parametrize("links", [6, 15])
def test_the_swimmer_is_the_suites(links: int) -> None:
    suite = load_dm_control()
    text, files = suite.swimmer.get_model_and_assets(links)
    theirs = mujoco.MjModel.from_xml_string(text.decode(), files)
    ours = swimmer_body(links - 1).compile()
    for field in ("body_mass", "body_inertia", "body_pos", "jnt_pos", "jnt_range", "jnt_axis",
                  "dof_armature", "jnt_solref", "geom_size", "geom_fluid", "actuator_gear",
                  "actuator_ctrlrange", "actuator_trnid"):  # fmt: skip
        assert np.array_equal(getattr(ours, field), getattr(theirs, field)), field
    ends = []
    for model in (ours, theirs):
        data = mujoco.MjData(model)
        data.ctrl[:] = np.linspace(-1, 1, model.nu)
        mujoco.mj_step(model, data, 100)
        ends.append(data.qpos.copy())
    assert np.array_equal(*ends)


def test_a_shorter_swimmer_than_the_suites_works() -> None:
    assert swimmer_body(1).compile().nu == 1


def test_muscles_are_about_as_strong_as_the_motors_in_both_directions() -> None:
    motors, model = suite_body("humanoid").compile(), muscle_body().compile()
    assert (model.nu, model.na, model.nv) == (168, 168, 27)
    data, forces = mujoco.MjData(model), []
    data.qpos[2] = 1.283
    for active in (0.0, 1.0):
        data.act[:] = active
        mujoco.mj_forward(model, data)
        forces.append(data.actuator_force.copy())
    arms = np.zeros((model.nu, model.nv))
    rows = data.moment_rownnz, data.moment_rowadr, data.moment_colind
    mujoco.mju_sparse2dense(arms, data.actuator_moment, *rows)
    assert np.all(forces[1] - forces[0] < -50.0)  # they pull
    torque = arms * (forces[1] - forces[0])[:, None]
    for (joint, _), (gear, *_) in zip(motors.actuator_trnid, motors.actuator_gear, strict=True):
        reach = torque[:, model.jnt_dofadr[joint]]
        for side in (reach[reach > 0].sum(), -reach[reach < 0].sum()):
            assert 0.7 * gear < side < 6.0 * gear, model.joint(joint).name


def test_a_rings_muscles_leave_the_body_as_it_was() -> None:
    motors, model = suite_body("humanoid").compile(), muscle_body().compile()
    for field in ("body_mass", "body_inertia", "jnt_range", "jnt_stiffness", "dof_damping"):
        assert np.array_equal(getattr(motors, field), getattr(model, field))
