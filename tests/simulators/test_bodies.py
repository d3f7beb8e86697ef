"""Places and velocities of bodies are MuJoCo's own."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from mjcf_models import CARTPOLE, FLYING

from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.kinematics import Bodies, at_body


def somewhere(xml: str) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Return a model in a random state, with everything computed."""
    model = mujoco.MjModel.from_xml_string(xml)
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    data.qpos[:], data.qvel[:] = rng.normal(size=model.nq), rng.normal(size=model.nv)
    mujoco.mj_normalizeQuat(model, data.qpos)
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return model, data


def view(model: mujoco.MjModel, data: mujoco.MjData) -> BodyState:
    """Return the view of a single state, float64, without leading dimensions."""
    parts = (torch.tensor(x) for x in (data.qpos, data.qvel, data.act))
    return BodyState(Bodies(model), *parts, torch.zeros(0))


@pytest.mark.parametrize("xml", [CARTPOLE, FLYING])
def test_frames_are_those_of_mujoco(xml: str) -> None:
    model, data = somewhere(xml)
    state = view(model, data)
    for body in range(model.nbody):
        frame = at_body(state.frames, body)
        name = model.body(body).name
        np.testing.assert_allclose(state.position(name), data.xpos[body], atol=1e-12)
        np.testing.assert_allclose(state.centre(name), data.xipos[body], atol=1e-12)
        for i, axis in enumerate("xyz"):
            expected = data.xmat[body].reshape(3, 3)[:, i]
            np.testing.assert_allclose(state.axis(name, axis), expected, atol=1e-12)
        speed = np.zeros(6)
        kind = mujoco.mjtObj.mjOBJ_XBODY
        mujoco.mj_objectVelocity(model, data, kind, body, speed, 0)
        np.testing.assert_allclose(frame.rate, speed[:3], atol=1e-12)
        np.testing.assert_allclose(frame.velocity, speed[3:], atol=1e-12)
    np.testing.assert_allclose(state.velocity(), data.subtree_linvel[0], atol=1e-12)


def test_gradients_are_exact() -> None:
    model, data = somewhere(FLYING)
    bodies = Bodies(model)

    def speed(qpos: torch.Tensor, qvel: torch.Tensor) -> torch.Tensor:
        state = BodyState(bodies, qpos, qvel, qpos[:0], qpos[:0])
        return torch.cat((state.velocity(), state.centre("tip"), state.axis("tip", "x")))

    inputs = [torch.tensor(x, requires_grad=True) for x in (data.qpos, data.qvel)]
    assert torch.autograd.gradcheck(speed, inputs)


def test_leading_dimensions_are_free() -> None:
    model, _ = somewhere(FLYING)
    qpos = torch.tensor(model.qpos0).expand(2, 3, -1)
    state = BodyState(Bodies(model), qpos, torch.zeros(2, 3, model.nv).double(), qpos, qpos)
    assert state.position("tip").shape == (2, 3, 3)
    assert torch.equal(state.velocity(), torch.zeros(2, 3, 3).double())


def test_unknown_names_are_refused() -> None:
    state = view(*somewhere(CARTPOLE))
    with pytest.raises(
        ValueError, match=r"body must be one of \['cart', 'pole', 'world'\], got 'w'"
    ):
        state.position("w")
    with pytest.raises(ValueError, match=r"sensor must be carried by the states: none"):
        state.sensor("touch")
