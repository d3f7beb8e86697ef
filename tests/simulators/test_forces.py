"""The chain through forces gives the Jacobians that MuJoCo finds column by column."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from mjcf_models import CARTPOLE

from pwm_sdk.simulators.domains.muscles import muscle_body
from pwm_sdk.simulators.forces import ForceChain, applies

# A hinge with a plain motor between two slow actuators, one with early activation, on the floor.
MIXED = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body name="rod" pos="0 0 0.05">
      <freejoint/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.04" mass="1"/>
      <body pos="0.3 0 0">
        <joint name="bend" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.04" mass="0.5"/>
      </body>
    </body>
  </worldbody>
  <default><general ctrllimited="true" ctrlrange="-1 1"/></default>
  <actuator>
    <general joint="bend" dyntype="filter" dynprm="0.05" gainprm="2"/>
    <general joint="bend" gainprm="3" biastype="affine" biasprm="0 -1 -0.1"/>
    <general joint="bend" dyntype="filterexact" dynprm="0.02" gainprm="1" actearly="true"/>
    <general joint="bend" dyntype="integrator" gainprm="1" actlimited="true" actrange="-1 1"/>
    <general joint="bend" gainprm="1"/>
  </actuator>
</mujoco>
"""


def settled(model: mujoco.MjModel, steps: int = 40) -> mujoco.MjData:
    """Return data after some random steps, with some controls at their bounds."""
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    low, high = model.actuator_ctrlrange.T
    for _ in range(steps):
        data.ctrl[:] = rng.uniform(low, high)
        mujoco.mj_step(model, data)
    data.ctrl[:2], data.ctrl[2] = high[:2], low[2]
    data.act[:] = rng.uniform(0.2, 0.8, model.na)
    return data


@pytest.mark.parametrize(("centred", "tolerance"), [(True, 1e-8), (False, 1e-5)])
@pytest.mark.parametrize("body", ["mixed", "muscles"])
def test_jacobians_are_those_of_all_columns(body: str, centred: bool, tolerance: float) -> None:
    text = body == "mixed"
    model = mujoco.MjModel.from_xml_string(MIXED) if text else muscle_body().compile()
    data = settled(model)
    assert data.ncon > 0
    n = 2 * model.nv + model.na
    a, b = np.zeros((n, n)), np.zeros((n, model.nu))
    before = np.zeros(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, before, mujoco.mjtState.mjSTATE_INTEGRATION)
    ForceChain(mujoco, model, data).differentiate(1e-6, centred, a, b)
    after = np.zeros_like(before)
    mujoco.mj_getState(model, data, after, mujoco.mjtState.mjSTATE_INTEGRATION)
    assert np.array_equal(before, after)
    expected_a, expected_b = np.zeros_like(a), np.zeros_like(b)
    mujoco.mjd_transitionFD(model, data, 1e-6, centred, expected_a, expected_b, None, None)
    for ours, theirs in ((a, expected_a), (b, expected_b)):
        assert np.abs(theirs).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1.0, np.abs(theirs).max()))


def test_it_applies_where_it_is_exact_and_pays() -> None:
    mixed = mujoco.MjModel.from_xml_string(MIXED)
    assert applies(mixed, sensors=False)
    assert not applies(mixed, sensors=True)
    assert not applies(mujoco.MjModel.from_xml_string(CARTPOLE), sensors=False)
    implicit = MIXED.replace('timestep="0.005"', 'timestep="0.005" integrator="implicitfast"')
    assert not applies(mujoco.MjModel.from_xml_string(implicit), sensors=False)
    limited = MIXED.replace('damping="0.1"', 'damping="0.1" actuatorfrcrange="-1 1"')
    assert not applies(mujoco.MjModel.from_xml_string(limited), sensors=False)
