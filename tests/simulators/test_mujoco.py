"""The bridge: steps equal to MuJoCo's to the bit, gradients against central differences, errors."""

from __future__ import annotations

import os
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from mjcf_models import CARTPOLE, FLYING, STANDING
from torch import Tensor

from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.contract.models import SimulatorModel
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.objectives.policy import actor_loss
from pwm_sdk.planner.mppi import MPPI
from pwm_sdk.rollout import LatentRollout
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.mujoco import MuJoCoModel, Reward


def forward(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
    """Reward speed along x and an upright z axis of body 1, with a price on force."""
    return (
        after.velocity()[..., :1]
        + after.frames.turn[..., 1, 2, 2:]
        - 0.1 * action.square().sum(-1, keepdim=True)
    )


def angles(state: BodyState) -> Tensor:
    """Show the cart-pole by its place, the pole's sine and cosine, and the speeds."""
    place, angle = state.qpos.split(1, -1)
    return torch.cat((place, angle.sin(), angle.cos(), state.qvel), -1)


def make(xml: str, reward: Reward = forward, **settings) -> MuJoCoModel:
    return MuJoCoModel(xml, reward, threads=1, dtype=torch.float64, **settings)


def settled(model: MuJoCoModel, rows: int = 2, steps: int = 30, seed: int = 0) -> Tensor:
    """Return states after some random steps: in contact where there is a floor."""
    generator = torch.Generator().manual_seed(seed)
    state = model.reset(rows, generator)
    with torch.no_grad():
        for _ in range(steps):
            action = torch.rand(rows, model.action_dim, generator=generator) * 2 - 1
            state = model.step(state, action)[0]
    return state


@pytest.mark.parametrize("xml", [CARTPOLE, FLYING, STANDING])
@pytest.mark.parametrize("differentiated", [False, True])
def test_steps_are_mujocos_to_the_bit(xml: str, differentiated: bool) -> None:
    model = make(xml, substeps=3, action_repeat=2, sensors=True)
    state = model.reset(2)
    plain = []
    for row in state.numpy():
        data = mujoco.MjData(model.mj)
        data.qpos[:] = row[: model.mj.nq]
        plain.append(data)
    for _ in range(20):
        action = torch.rand(2, model.action_dim, dtype=torch.float64) * 2 - 1
        state = model.step(state, action.requires_grad_(differentiated))[0].detach()
        for row, data, native in zip(state.numpy(), plain, action.detach().numpy(), strict=True):
            low, high = model.mj.actuator_ctrlrange.T
            data.ctrl[:] = native * ((high - low) / 2) + (high + low) / 2
            mujoco.mj_step(model.mj, data, 6)
            expected = (data.qpos, data.qvel, data.act, data.qacc_warmstart, data.sensordata)
            assert np.array_equal(row, np.concatenate(expected))


def test_threads_and_leading_dimensions_do_not_change_results() -> None:
    one, three = make(STANDING), make(STANDING)
    three = MuJoCoModel(STANDING, forward, threads=3, dtype=torch.float64)
    state = settled(one, rows=4)
    results = []
    for model, shape in ((one, (4,)), (three, (4,)), (three, (2, 2))):
        action = torch.full((*shape, 2), 0.3, dtype=torch.float64, requires_grad=True)
        following, reward = model.step(state.reshape(*shape, -1), action)
        (following.sum() + reward.sum()).backward()
        results.append([x.reshape(4, -1) for x in (following.detach(), action.grad)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def total(model: MuJoCoModel, state: Tensor, actions: Tensor) -> Tensor:
    """Return of a sequence of actions, with something of every part of the last state."""
    result = torch.zeros((), dtype=torch.float64)
    for action in actions:
        state, reward = model.step(state, action)
        result = result + reward.sum()
    return result + 0.1 * model.features(state).square().sum()


def moved(model: MuJoCoModel, state: Tensor, way: np.ndarray, size: float) -> Tensor:
    """Move states along tangent directions `[B, 2 nv + na]`; quaternions stay unit."""
    state, nq, nv = state.clone(), model.mj.nq, model.mj.nv
    for row, direction in zip(state.numpy(), way, strict=True):
        qpos = row[:nq].copy()
        mujoco.mj_integratePos(model.mj, qpos, direction[:nv], size)
        row[:nq] = qpos
        row[nq : model.layout.moving] += size * direction[nv:]
    return state


def errors(
    model: MuJoCoModel, state: Tensor, steps: int, directions: int = 6, size: float = 1e-5
) -> np.ndarray:
    """Relative errors of slopes along random directions of actions and start states.

    The slopes that they are compared with are differences over 2 `size` along a direction.
    """
    actions = torch.rand(steps, len(state), model.action_dim, dtype=torch.float64) - 0.5
    start, given = state.clone().requires_grad_(), actions.clone().requires_grad_()
    by_state, by_action = torch.autograd.grad(total(model, start, given), (start, given))
    tangent = model._tangent.pull(state[:, : model.mj.nq].numpy(), by_state[:, : model.mj.nq])
    by_tangent = np.concatenate((tangent, by_state[:, model.mj.nq : model.layout.moving]), 1)
    rng, found = np.random.default_rng(0), []
    with torch.no_grad():
        for _ in range(directions):
            way = torch.from_numpy(rng.normal(size=actions.shape))
            ends = [total(model, state, actions + s * size * way) for s in (1, -1)]
            slope, exact = float(ends[0] - ends[1]) / (2 * size), float((by_action * way).sum())
            found.append(abs(slope - exact) / (abs(exact) + 0.1))
            turn = rng.normal(size=by_tangent.shape)
            ends = [total(model, moved(model, state, turn, s * size), actions) for s in (1, -1)]
            slope, exact = float(ends[0] - ends[1]) / (2 * size), float((by_tangent * turn).sum())
            found.append(abs(slope - exact) / (abs(exact) + 0.1))
    return np.array(found)


@pytest.mark.parametrize("xml", [CARTPOLE, FLYING])
def test_gradients_without_contact(xml: str) -> None:
    """8 agent steps of 2 x 2 substeps: relative error below 1e-6 in every direction."""
    model = make(xml, substeps=2, action_repeat=2)
    assert errors(model, settled(model), steps=8).max() < 1e-6


def test_gradients_in_contact() -> None:
    """6 agent steps on the floor, ten starts: median error 2e-7, four directions in five 5e-6.

    The differences are of 1e-6: larger ones cross from one set of contacts into another, and so do
    these where a start leads to the edge of one; errors are then as large as the slope.
    """
    model, found = make(STANDING, substeps=2), []
    for seed in range(10):
        state = settled(model, seed=seed)
        data = mujoco.MjData(model.mj)
        data.qpos[:] = state[0, : model.mj.nq].numpy()
        mujoco.mj_forward(model.mj, data)
        assert data.ncon > 0
        found.append(errors(model, state, steps=6, directions=5, size=1e-6))
    assert np.median(found) < 2e-7
    assert np.quantile(found, 0.8) < 5e-6


def test_gradients_through_sensors() -> None:
    def felt(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
        return after.sensors[..., :3].sum(-1, keepdim=True)

    model = make(FLYING, felt, substeps=2, sensors=True)
    assert errors(model, settled(model), steps=4).max() < 1e-6


def test_one_sided_differences_are_an_option() -> None:
    model = make(CARTPOLE)
    state = settled(model)
    model.bridge.centred = False
    coarse = errors(model, state, steps=4).max()
    assert 1e-9 < coarse < 1e-3


def test_keeps_the_contract() -> None:
    model = make(STANDING, terminated=lambda state: state.position("trunk")[..., 2:] < 0.0)
    assert isinstance(model, SimulatorModel)
    assert model.observation_dim == model.mj.nq + model.mj.nv + model.mj.na
    check_latent_model(model, model.features(settled(model)))


def test_starts_come_from_the_generator_and_have_unit_quaternions() -> None:
    model = make(FLYING)
    first, second, other = (model.reset(3, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    torch.testing.assert_close(first[:, 3:7].norm(dim=-1), torch.ones(3).double())


def test_what_cannot_be_differentiated_is_refused() -> None:
    with pytest.raises(
        ValueError, match="integrator must be of Euler type for derivatives, got RK4"
    ):
        make(CARTPOLE.replace("implicitfast", "RK4"))
    replaced = make(CARTPOLE.replace("implicitfast", "RK4"), integrator="implicitfast")
    assert replaced.mj.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    with pytest.raises(ValueError, match=r"integrator must be one of \['euler'"):
        make(CARTPOLE, integrator="verlet")
    hand = CARTPOLE.replace('<body name="cart">', '<body name="m" mocap="true"/><body name="cart">')
    with pytest.raises(ValueError, match="model must have no mocap bodies, got 1"):
        make(hand)
    pid = '<extension><plugin plugin="mujoco.pid"/></extension>'
    plugin = CARTPOLE.replace("<worldbody>", f"{pid}<worldbody>").replace(
        "</actuator>", '<plugin plugin="mujoco.pid" joint="slide" ctrlrange="-1 1"/></actuator>'
    )
    with pytest.raises(ValueError, match="model must have no plugins, got 1"):
        make(plugin)
    free = CARTPOLE.replace('ctrllimited="true" ctrlrange="-2 1"', "")
    with pytest.raises(ValueError, match="actuators must have a control range, got none for"):
        make(free)
    with pytest.raises(ValueError, match="substeps must be at least 1, got 0"):
        make(CARTPOLE, substeps=0)


def test_meta_worlds_scenes_are_refused() -> None:
    assets = Path(pytest.importorskip("metaworld").__file__).parent / "assets"
    scene = next(assets.rglob("sawyer_reach_v3.xml"))
    with pytest.raises(ValueError, match="model must have no mocap bodies, got 1"):
        MuJoCoModel(scene, forward)


def test_a_state_that_explodes_is_named_and_leaves_no_log(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = make(CARTPOLE)
    state = model.reset(3)
    for value in (float("nan"), 1e12):
        state[1, 2] = value
        for _ in range(2):
            with pytest.raises(ValueError, match="latent must stay finite, got a state in row 1"):
                model.step(state, torch.zeros(3, 1))
    state[1, 2] = 0.0
    assert bool(torch.isfinite(model.step(state, torch.zeros(3, 1))[0]).all())
    assert os.listdir(tmp_path) == []


def test_a_reward_without_a_graph_is_named() -> None:
    model = make(CARTPOLE, lambda before, action, after: after.qpos.detach()[..., :1])
    action = torch.zeros(2, 1, requires_grad=True)
    with pytest.raises(ValueError, match="reward must be a differentiable torch function of state"):
        model.step(model.reset(2), action)


def test_wrong_states_are_named() -> None:
    model = make(CARTPOLE)
    with pytest.raises(ValueError, match=r"latent must be float64 of size 6, got torch.float32"):
        model.step(model.reset(2).float(), torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"observation must be \[qpos, qvel, act\] of size 4"):
        model.encode(torch.zeros(2, 3))
    seen = make(CARTPOLE, features=angles)
    with pytest.raises(ValueError, match=r"of size 4, got \[2, 5\], the features of a state"):
        seen.encode(seen.features(seen.reset(2)))


def test_planner_and_losses_take_it_as_it_stands() -> None:
    model = MuJoCoModel(CARTPOLE, forward, threads=1)
    planner = MPPI(
        model, torch.zeros_like, lambda seen: seen[..., :1], samples=8, elites=2, policy_samples=0
    )
    states = model.reset(3)
    action = planner.plan(states[:, : model.layout.moving])
    assert action.shape == (3, 1)
    actor, critic = FirstOrderActor.published(4, 1, (8,)), Critic.published(4, (8,), 1)
    trajectory = LatentRollout(model, actor, 3)(states)
    assert trajectory["latent"].dtype == torch.float32
    assert trajectory["state"].dtype == torch.float64
    actor_loss(trajectory, critic, 0.99).backward()
    assert float(actor.net.head.weight.grad.norm()) > 0.0


def test_plans_from_states_beat_random_actions() -> None:
    """Policy and value of a planner see features; it starts from states, as no features could."""

    def upright(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
        return after.frames.turn[..., 2, 2, 2:]

    model = MuJoCoModel(CARTPOLE, upright, features=angles, substeps=2, threads=1)
    seen: set[int] = set()

    def value(shown: Tensor) -> Tensor:
        seen.add(shown.shape[-1])
        return -10.0 * (shown[..., 1:2] + 0.5 * shown[..., 4:]).square()

    planner = MPPI(
        model, lambda shown: torch.zeros(*shown.shape[:-1], 1), value, horizon=4, samples=16,
        elites=4, policy_samples=1, iterations=2,
    )  # fmt: skip
    start = torch.tensor([[0.0, 0.3, 0.0, 0.0]], dtype=torch.float64)
    totals = []
    for act in (
        lambda state: planner.plan(state[:, : model.layout.moving]),
        lambda state: torch.rand(1, 1) * 2 - 1,
    ):
        state, total = model.encode(start), 0.0
        for _ in range(100):
            state, reward = model.step(state, act(state))
            total += float(reward)
        totals.append(total)
    assert seen == {5}
    assert totals[0] > 90.0  # of 100 for a pole that stands still
    assert totals[1] < 60.0
