"""The soft body: laws of mechanics, the rest volume by hand, gradients, and the contract."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from pwm_sdk.algorithms.shac import SHAC, SHACConfig
from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.contract.models import SimulatorModel
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.normalizers import RunningMeanStd
from pwm_sdk.simulators.soft_body import SoftBody
from pwm_sdk.simulators.suite import make_simulator
from pwm_sdk.tasks import BUILT_IN, SINGLE_TASKS


@pytest.fixture
def small() -> SoftBody:
    """Four cells in a row: 20 particles, 20 tetrahedra."""
    pytest.importorskip("newton")
    return SoftBody((4, 1, 1))


def lifted(model: SoftBody, count: int, height: float) -> Tensor:
    """Return start states raised by `height`."""
    state = model.reset(count, torch.Generator().manual_seed(0))
    parts(model, state)[0][..., 2] += height
    return state


def parts(model: SoftBody, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return views of the positions and velocities `[.., P, 3]`."""
    place, speed = state.unflatten(-1, (2, model.particles, 3)).unbind(-3)
    return place, speed


def random_actions(model: SoftBody, *shape: int) -> Tensor:
    """Draw actions in [-0.8, 0.8], away from where they are clipped."""
    draw = torch.rand(*shape, model.action_dim, generator=torch.Generator().manual_seed(1))
    return 1.6 * draw - 0.8


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "newton", None)
    message = r'newton must be installed: pip install "pwm-sdk\[newton\]"'
    for build in (SoftBody, lambda: make_simulator("soft-body"), lambda: make_gym("soft-body")):
        with pytest.raises(ImportError, match=message):
            build()


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="cells must be three numbers of at least 1, got"):
        SoftBody((4, 0, 1))
    with pytest.raises(ValueError, match=r"stroke must lie in \(0, 1\), got 1.0"):
        SoftBody(stroke=1.0)
    with pytest.raises(ValueError, match="substeps must be at least 1, got 0"):
        SoftBody(substeps=0)


def test_the_task_needs_no_newton_to_be_known() -> None:
    task = BUILT_IN["soft-body"]
    assert (task.observation_dim, task.action_dim, task.episode_length) == (486, 160, 120)
    assert task not in SINGLE_TASKS


def test_the_standard_body_has_160_muscles_and_is_the_task() -> None:
    pytest.importorskip("newton")
    model, env = make_simulator("soft-body"), make_gym("soft-body", seed=3)
    assert (model.action_dim, model.latent_dim, model.particles) == (160, 486, 81)
    assert isinstance(model, SimulatorModel)
    check_latent_model(model, model.reset(3))
    state, action = model.reset(1, torch.Generator().manual_seed(3)), random_actions(model, 1)
    np.testing.assert_allclose(env.reset()[0], state[0], atol=1e-6)
    observation, reward, terminated, truncated, _ = env.step(action[0].numpy())
    state, expected = model.step(state, action)
    np.testing.assert_allclose(observation, state[0], atol=1e-6)
    assert reward == pytest.approx(float(expected), abs=1e-6)
    assert not (terminated or truncated)


def test_a_body_in_the_air_falls_as_a_stone_whatever_its_muscles_do(small: SoftBody) -> None:
    # Semi-implicit Euler falls g t^2 / 2 * (1 + 1 / n) in n parts, from the speed of the start.
    state = start = lifted(small, 2, height=5.0)
    for action in random_actions(small, 5, 2):
        state, reward = small.step(state, action)
        drift = parts(small, start)[1][..., :1].mean(-2)
        torch.testing.assert_close(reward, drift, atol=1e-4, rtol=0)
    time, substeps = 5 * small.timestep, 5 * small.substeps
    (before, first), (after, last) = parts(small, start), parts(small, state)
    gained = (last - first).mean(-2)
    expected = torch.tensor([0.0, 0.0, -9.81 * time]).expand(2, 3)
    torch.testing.assert_close(gained, expected, atol=1e-4, rtol=0)
    fallen = (before - after)[..., 2].mean(-1) + time * first[..., 2].mean(-1)
    assert fallen.tolist() == pytest.approx([9.81 * time**2 / 2 * (1 + 1 / substeps)] * 2, rel=1e-4)


@pytest.mark.parametrize("action", [-1.0, 0.0, 1.0])
def test_all_muscles_together_reach_the_rest_volume(action: float) -> None:
    """A free body scaled by s has no stress where mu (1 - 1 / (3 s^2 + 1)) = -lambda s (s^3 - v).

    v = 1 + 3 / 4 mu / lambda + stroke * action: without action s = 1.
    """
    pytest.importorskip("newton")
    mu, lam = 1e4, 2e4
    model = SoftBody((2, 1, 1), stiffness=mu, volume_stiffness=lam, damping=5.0)
    state = lifted(model, 1, height=100.0)
    for _ in range(60):
        state, _ = model.step(state, torch.full((1, model.action_dim), action))
    low, high = 0.5, 1.5
    for _ in range(40):
        s = (low + high) / 2
        volume = 1.0 + 0.75 * mu / lam + model.stroke * action
        stress = mu * (1 - 1 / (3 * s**2 + 1)) + lam * s * (s**3 - volume)
        low, high = (low, s) if stress > 0 else (s, high)
    rest = torch.cartesian_prod(*(0.1 * torch.arange(n + 1) for n in (2, 1, 1)))
    distances = torch.pdist(parts(model, state)[0][0]).sort().values
    torch.testing.assert_close(distances, low * torch.pdist(rest).sort().values, rtol=1e-2, atol=0)
    assert (low > 1.01) == (action > 0)


def test_a_body_at_rest_stays_and_a_sliding_one_is_braked(small: SoftBody) -> None:
    state, still = lifted(small, 1, 0.0), torch.zeros(1, small.action_dim)
    for _ in range(100):
        state, reward = small.step(state, still)
    assert abs(float(reward)) < 0.01
    height = float(parts(small, state)[0][..., 2].mean())
    assert 0.04 < height < 0.05
    sliding = state.clone()
    parts(small, sliding)[1][..., 0] += 2.0
    _, reward = small.step(sliding, still)
    # Coulomb: the speed falls by mu g t over the step, on average half of that.
    expected = 2.0 - 0.8 * 9.81 * small.timestep / 2
    assert float(reward) == pytest.approx(expected, abs=0.02)


def test_the_reward_does_not_depend_on_where_the_body_is(small: SoftBody) -> None:
    state, action = lifted(small, 2, 0.0), random_actions(small, 2)
    moved = state.clone()
    parts(small, moved)[0][..., :2] += 7.0
    for a, b in zip(small.step(state, action), small.step(moved, action), strict=True):
        torch.testing.assert_close(a, b, atol=5e-4, rtol=1e-4)


def test_rows_are_independent_and_runs_repeat_to_the_bit(small: SoftBody) -> None:
    state, action = lifted(small, 3, 0.0), random_actions(small, 3)
    together = small.step(state, action)
    for row in range(3):
        alone = small.step(state[row], action[row])
        assert torch.equal(alone[0], together[0][row])
        assert torch.equal(alone[1], together[1][row])
    changed = action.clone()
    changed[0] = -1.0
    again = small.step(state, changed)
    assert torch.equal(again[0][1:], together[0][1:])
    assert not torch.equal(again[0][0], together[0][0])
    leaf = action.clone().requires_grad_()
    following, _ = small.step(state, leaf)
    (slope,) = torch.autograd.grad(following[1].square().sum(), leaf)
    assert bool((slope[1] != 0).all())
    assert not bool(slope[[0, 2]].any())


@pytest.mark.parametrize(("steps", "eps", "tolerance"), [(1, 0.03, 0.01), (8, 0.01, 0.02)])
def test_gradients_agree_with_central_differences(
    small: SoftBody, steps: int, eps: float, tolerance: float
) -> None:
    """Return of some steps on the ground in float32: relative error over eight directions."""
    with torch.no_grad():
        start = lifted(small, 1, 0.0)
        for action in random_actions(small, 20, 1):
            start, _ = small.step(start, action)
    # sizes of the directions: positions 1 mm, velocities 1 cm/s, actions 0.1
    scale = torch.full_like(start, 1e-3)
    parts(small, scale)[1].fill_(1e-2)
    inputs = (start.requires_grad_(), random_actions(small, steps, 1).requires_grad_())
    sizes = (scale, torch.full_like(inputs[1], 0.1))

    def total(state: Tensor, actions: Tensor) -> Tensor:
        result = torch.zeros(())
        for action in actions:
            state, reward = small.step(state, action)
            result = result + reward.sum()
        return result

    exact = torch.autograd.grad(total(*inputs), inputs)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for which, (gradient, size) in enumerate(zip(exact, sizes, strict=True)):
            found, expected = [], []
            for _ in range(8):
                way = size * torch.randn(size.shape, generator=generator)
                step = [torch.zeros_like(x) for x in inputs]
                step[which] = eps * way
                ahead = total(*(x + s for x, s in zip(inputs, step, strict=True)))
                behind = total(*(x - s for x, s in zip(inputs, step, strict=True)))
                expected.append((ahead - behind) / (2 * eps))
                found.append((gradient * way).sum())
            slopes = torch.stack(expected)
            error = float((torch.stack(found) - slopes).norm() / slopes.norm())
            assert error < tolerance, which


@pytest.mark.slow
def test_a_policy_learns_to_crawl(small: SoftBody) -> None:
    """SHAC from random weights: 30 updates of 16 bodies and 8 steps."""
    torch.manual_seed(0)
    size = small.observation_dim
    actor = FirstOrderActor.published(
        size, small.action_dim, (64,), activation="elu", output_gain=0.1
    )
    critic = Critic.published(size, (64,), ensemble=1, activation="elu")
    config = SHACConfig(
        environments=16, horizon=8, critic_epochs=2, actor_lr=5e-3, critic_lr=5e-3,
        cotangent_clip=10.0,
    )  # fmt: skip
    shac = SHAC(
        small, actor, critic, config,
        normalizer=RunningMeanStd((size,)), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip

    @torch.no_grad()
    def distance() -> float:
        state, total = small.reset(4, torch.Generator().manual_seed(1)), 0.0
        for _ in range(60):
            state, reward = small.step(state, actor(shac.encode(state)))
            total += small.timestep * float(reward.mean())
        return total

    before = distance()
    for _ in range(30):
        shac.update()
    assert abs(before) < 0.05
    assert distance() > before + 0.2


def test_starts_come_from_the_generator(small: SoftBody) -> None:
    first, second, other = (
        small.reset(4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert len({tuple(row.tolist()) for row in first}) == 4


def test_leading_dimensions_are_free_and_dtypes_kept(small: SoftBody) -> None:
    state, action = small.reset(6), random_actions(small, 6)
    following, reward = small.step(state, action)
    folded = small.step(state.view(2, 3, -1).double(), action.view(2, 3, -1))
    assert (folded[0].dtype, folded[1].shape) == (torch.float64, (2, 3, 1))
    torch.testing.assert_close(folded[0].flatten(0, 1).float(), following)
    torch.testing.assert_close(folded[1].flatten(0, 1).float(), reward)


def test_a_state_that_turns_nan_is_named(small: SoftBody) -> None:
    state = small.reset(2)
    state[0, -1] = float("nan")
    with pytest.raises(ValueError, match="latent must stay finite, got a state that turned NaN"):
        small.step(state, torch.zeros(2, small.action_dim))
