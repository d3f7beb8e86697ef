"""The sheet of springs: laws of mechanics, exact gradients, and the contract."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.contract.models import SimulatorModel
from pwm_sdk.simulators.mass_spring import MassSpring


def lifted(model: MassSpring, count: int, height: float) -> Tensor:
    """Return start states raised by `height`, in float64."""
    state = model.reset(count, torch.Generator().manual_seed(0)).double()
    state.unflatten(-1, (2, 2, model.masses))[:, 0, 1] += height
    return state


def centre(model: MassSpring, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean height and the mean velocity `[.., 2]`."""
    place, speed = state.unflatten(-1, (2, 2, model.masses)).unbind(-3)
    return place[..., 1, :].mean(-1), speed.mean(-1)


def test_the_standard_body_has_159_muscles_and_keeps_the_contract() -> None:
    model = MassSpring()
    assert (model.action_dim, model.latent_dim, model.masses) == (159, 208, 52)
    assert isinstance(model, SimulatorModel)
    check_latent_model(model, model.reset(3))


def test_a_body_in_the_air_falls_as_a_stone_whatever_its_muscles_do() -> None:
    # Springs pull both ends alike, so the centre obeys v' = v - g t: after 5 steps of 16 ms
    # v = -9.81 * 0.08. Semi-implicit Euler falls g t^2 / 2 * (1 + 1 / n) in n parts.
    model = MassSpring(3, 3)
    state = start = lifted(model, 2, height=10.0)
    for _ in range(5):
        action = torch.rand(2, model.action_dim, dtype=torch.float64) * 2 - 1
        state, reward = model.step(state, action)
        torch.testing.assert_close(reward, torch.zeros_like(reward), atol=1e-12, rtol=0)
    height, velocity = centre(model, state)
    time, parts = 5 * model.timestep, 5 * model.substeps
    assert velocity[:, 0].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert velocity[:, 1].tolist() == pytest.approx([-9.81 * time] * 2)
    fallen = centre(model, start)[0] - height
    assert fallen.tolist() == pytest.approx([9.81 * time**2 / 2 * (1 + 1 / parts)] * 2)


def test_a_body_at_rest_stays_and_a_sliding_one_is_braked() -> None:
    model = MassSpring(4, 2)
    state, still = lifted(model, 1, 0.0), torch.zeros(1, model.action_dim, dtype=torch.float64)
    for _ in range(100):
        state, reward = model.step(state, still)
    assert abs(float(reward)) < 0.01
    height = float(centre(model, state)[0])
    assert 0.5 * model.spacing - 0.01 < height < 0.5 * model.spacing + 0.01
    sliding = state.clone()
    sliding.unflatten(-1, (2, 2, model.masses))[:, 1, 0] += 2.0
    _, reward = model.step(sliding, still)
    # Coulomb: the speed falls by mu g t over the step, on average half of that. The start is soft.
    expected = 2.0 - 0.8 * 9.81 * model.timestep / 2
    assert float(reward) == pytest.approx(expected, abs=0.02)


def test_the_reward_does_not_depend_on_where_the_body_is() -> None:
    model = MassSpring(3, 2)
    state = lifted(model, 2, 0.0)
    moved = state.clone()
    moved.unflatten(-1, (2, 2, model.masses))[:, 0, 0] += 7.0
    action = torch.rand(2, model.action_dim, dtype=torch.float64)
    for a, b in zip(model.step(state, action), model.step(moved, action), strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_gradients_agree_with_central_differences() -> None:
    """Return of 8 steps on the ground, float64: relative error below 1e-6 in every direction."""
    model = MassSpring(4, 2)
    start = lifted(model, 1, 0.0)
    actions = torch.rand(8, 1, model.action_dim, dtype=torch.float64) * 2 - 1

    def total(start: Tensor, actions: Tensor) -> Tensor:
        state, result = start, torch.zeros((), dtype=torch.float64)
        for action in actions:
            state, reward = model.step(state, action)
            result = result + reward.sum()
        return result

    inputs = (start.requires_grad_(), actions.requires_grad_())
    exact = torch.autograd.grad(total(*inputs), inputs)
    with torch.no_grad():
        for which, gradient in enumerate(exact):
            for _ in range(5):
                way = torch.randn_like(gradient)
                step = [torch.zeros_like(x) for x in inputs]
                step[which] = 1e-6 * way
                ahead = total(*(x + s for x, s in zip(inputs, step, strict=True)))
                behind = total(*(x - s for x, s in zip(inputs, step, strict=True)))
                slope = float(gradient.mul(way).sum())
                assert float(ahead - behind) / 2e-6 == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_starts_come_from_the_generator() -> None:
    model = MassSpring(2, 2)
    first, second, other = (
        model.reset(4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert len({tuple(row.tolist()) for row in first}) == 4


def test_leading_dimensions_are_free() -> None:
    model = MassSpring(2, 2)
    state, action = model.reset(6), torch.rand(6, model.action_dim)
    following, reward = model.step(state, action)
    folded = model.step(state.view(2, 3, -1), action.view(2, 3, -1))
    torch.testing.assert_close(folded[0].flatten(0, 1), following)
    torch.testing.assert_close(folded[1].flatten(0, 1), reward)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="columns must be at least 2, got 1"):
        MassSpring(1)
    with pytest.raises(ValueError, match=r"stroke must lie in \(0, 1\), got 1.0"):
        MassSpring(stroke=1.0)
    with pytest.raises(ValueError, match="substeps must be at least 1, got 0"):
        MassSpring(substeps=0)
    model = MassSpring(2, 2)
    state = model.reset(2)
    state[0, -1] = float("nan")
    with pytest.raises(ValueError, match="latent must stay finite, got a state that turned NaN"):
        model.step(state, torch.zeros(2, model.action_dim))
