"""Where the optimum is known, policies and plans find it: the gain of the Riccati equation."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.objectives.policy import actor_loss
from pwm_sdk.optim import linear_decay, optimize, scale_learning_rates
from pwm_sdk.planner import MPPI
from pwm_sdk.rollout import LatentRollout


class LinearQuadratic:
    """z' = A z + B a and reward -(z' Q z + a' R a), discounted by gamma."""

    def __init__(self, a: Tensor, b: Tensor, q: Tensor, r: Tensor, gamma: float) -> None:
        self.a, self.b, self.q, self.r, self.gamma = a, b, q, r, gamma
        self.latent_dim, self.action_dim = b.shape

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        cost = (latent @ self.q * latent).sum(-1) + (action @ self.r * action).sum(-1)
        return latent @ self.a.T + action @ self.b.T, -cost.unsqueeze(-1)

    def optimum(self) -> tuple[Tensor, Tensor]:
        """Gain K of a = -K z and cost-to-go P: the fixed point of the Riccati recursion."""
        p = self.q
        for _ in range(2000):
            k = torch.linalg.solve(
                self.r + self.gamma * self.b.T @ p @ self.b, self.gamma * self.b.T @ p @ self.a
            )
            p = self.q + self.gamma * self.a.T @ p @ (self.a - self.b @ k)
        return k, p


class LinearPolicy(nn.Module):
    """a = -K z + std eps: a `StochasticPolicy` without a tanh."""

    def __init__(self, model: LinearQuadratic, std: float = 0.0) -> None:
        super().__init__()
        self.action_dim, self.std = model.action_dim, std
        self.gain = nn.Parameter(torch.zeros(model.action_dim, model.latent_dim))

    def loc(self, latent: Tensor) -> Tensor:
        return -latent @ self.gain.T

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        return loc if noise is None else loc + self.std * noise

    def forward(self, latent: Tensor) -> Tensor:
        return self.loc(latent)


def scalar_system(gamma: float = 0.9) -> LinearQuadratic:
    """An unstable scalar: z' = 1.2 z + 0.5 a."""
    one = torch.ones(1, 1)
    return LinearQuadratic(1.2 * one, 0.5 * one, one, 0.1 * one, gamma)


def point_mass(gamma: float = 0.95) -> LinearQuadratic:
    """Position and velocity, pushed by a force."""
    a, b = torch.tensor([[1.0, 0.2], [0.0, 1.0]]), torch.tensor([[0.0], [0.2]])
    return LinearQuadratic(a, b, torch.diag(torch.tensor([1.0, 0.1])), torch.eye(1) * 0.1, gamma)


def learn(model, critic, horizon: int, steps: int, lr: float, std: float = 0.0) -> Tensor:
    """Climb the imagined return from K = 0 and return the gain found."""
    policy = LinearPolicy(model, std)
    rollout = LatentRollout(model, policy, horizon, generator=torch.Generator().manual_seed(0))
    starts = torch.randn(64, model.latent_dim, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr, betas=(0.7, 0.95))
    for step in range(steps):
        factor = linear_decay(step / steps, 0.0, share=0.5, least=0.01)
        scale_learning_rates(optimizer, factor)
        # Unstable at first, gradients grow with the horizon: clipped, as in PWM.
        optimize(actor_loss(rollout(starts), critic, model.gamma), optimizer, max_norm=1.0)
    return policy.gain.detach()


def test_the_riccati_solution_by_hand() -> None:
    # For z' = z + a, Q = R = 1, gamma = 1: P = 1 + P - P^2 / (1 + P), so P^2 = P + 1: the golden
    # ratio, and K = P / (1 + P) = 1 / P.
    one = torch.ones(1, 1)
    gain, cost = LinearQuadratic(one, one, one, one, 1.0).optimum()
    golden_ratio = (1 + 5**0.5) / 2
    assert float(cost) == pytest.approx(golden_ratio, rel=1e-5)
    assert float(gain) == pytest.approx(1 / golden_ratio, rel=1e-5)
    check_latent_model(point_mass(), torch.randn(4, 2))


def test_a_long_horizon_finds_the_optimal_gain() -> None:
    model = scalar_system()
    found = learn(model, lambda z: torch.zeros_like(z), horizon=40, steps=200, lr=0.05)
    torch.testing.assert_close(found, model.optimum()[0], atol=1e-2, rtol=0)


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_optimal_value_makes_any_horizon_enough(horizon: int) -> None:
    model = point_mass()
    gain, cost = model.optimum()

    def critic(latent: Tensor) -> Tensor:
        return -(latent @ cost * latent).sum(-1, keepdim=True)

    found = learn(model, critic, horizon, steps=400, lr=0.1)
    torch.testing.assert_close(found, gain, atol=1e-2, rtol=0)


def test_a_short_horizon_without_a_value_is_myopic() -> None:
    """The check above has teeth: one step without a value never pays for acting."""
    found = learn(point_mass(), lambda z: torch.zeros_like(z[..., :1]), 1, steps=100, lr=0.1)
    torch.testing.assert_close(found, torch.zeros(1, 2))


def test_exploration_noise_does_not_move_the_optimum() -> None:
    model = scalar_system()
    gain, cost = model.optimum()
    found = learn(model, lambda z: -cost * z.square(), horizon=8, steps=300, lr=0.03, std=0.1)
    torch.testing.assert_close(found, gain, atol=1e-2, rtol=0)


PUSHED = torch.tensor([[0.3, 0.0], [0.0, -0.3], [-0.2, 0.4], [0.25, -0.25]])


def nothing(latent: Tensor) -> Tensor:
    """A value of 0, or an action of 0."""
    return torch.zeros_like(latent[..., :1])


@pytest.mark.parametrize("choice", ["mean", "elite"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_with_the_optimal_value_a_plan_is_the_optimal_action(choice: str, horizon: int) -> None:
    model = point_mass()
    gain, cost = model.optimum()

    def value(latent: Tensor) -> Tensor:
        return -(latent @ cost * latent).sum(-1, keepdim=True)

    settings = {"horizon": horizon, "gamma": model.gamma, "iterations": 15, "std": (0.01, 2.0)}
    settings |= {"temperature": 20.0, "generator": torch.Generator().manual_seed(0)}
    best = -(PUSHED @ gain.T)
    assert 0.3 < float(best.abs().max()) < 1.0
    found = MPPI(model, nothing, value, **settings).plan(PUSHED, choice=choice)
    torch.testing.assert_close(found, best, atol=0.05, rtol=0)


def test_a_short_plan_without_a_value_is_myopic() -> None:
    """The check above has teeth: one step without a value never pays for acting."""
    planner = MPPI(point_mass(), nothing, nothing, horizon=1, temperature=20.0, iterations=15)
    torch.testing.assert_close(planner.plan(PUSHED), torch.zeros(4, 1), atol=0.05, rtol=0)


def test_a_long_plan_needs_no_value() -> None:
    model = point_mass(gamma=0.9)
    gain, _ = model.optimum()
    settings = {"horizon": 25, "gamma": 0.9, "temperature": 200.0, "std": (0.02, 0.5)}
    settings |= {"iterations": 8, "generator": torch.Generator().manual_seed(0)}
    found = MPPI(model, lambda z: -(z @ gain.T), nothing, **settings).plan(PUSHED)
    torch.testing.assert_close(found, -(PUSHED @ gain.T), atol=0.1, rtol=0)


def unstable_system(seed: int) -> LinearQuadratic:
    """Five states and two actions, of spectral radius 1.1."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(5, 5, generator=generator)
    a = 1.1 * a / torch.linalg.eigvals(a).abs().max()
    b = 0.5 * torch.randn(5, 2, generator=generator)
    return LinearQuadratic(a, b, torch.eye(5), 0.1 * torch.eye(2), gamma=0.99)


def learned_cost(model: LinearQuadratic, actor: FirstOrderActor, critic: Critic) -> float:
    """Cost of what PWM's default settings make of an actor, over the optimal cost."""
    generator, unit = torch.Generator().manual_seed(0), 0.17  # optimal actions stay below 1
    pwm = PWM(model, actor, critic, generator=generator)
    for step in range(UPDATES):
        pwm.set_learning_rates(max(0.02, 1.0 - step / UPDATES))
        starts = unit * torch.randn(32, 5, generator=generator)
        pwm.update(TensorDict({"observation": starts}, [32]))
    state, total = unit * torch.randn(1024, 5, generator=generator), 0.0
    cost = model.optimum()[1]
    best = float((state @ cost * state).sum(-1).mean())
    with torch.no_grad():
        for step in range(300):
            state, reward = model.step(state, pwm.average(state))
            total -= model.gamma**step * float(reward.mean())
    return total / best


UPDATES = 500


def test_default_networks_reach_the_optimal_cost_where_published_ones_do_not() -> None:
    """On raw states of an unstable system; docs/experiments.md has more systems and seeds."""
    model = unstable_system(0)
    torch.manual_seed(0)
    usual = learned_cost(model, FirstOrderActor(5, 2, (64, 64)), Critic(5, (64, 64)))
    published = FirstOrderActor.published(5, 2, (64, 64)), Critic.published(5, (64, 64))
    assert 0.999 < usual < 1.1
    assert learned_cost(model, *published) > 1.1
