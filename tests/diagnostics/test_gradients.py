"""Gradients of systems where they are known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.diagnostics.gradients import gradient_statistics, policy_gradients
from pwm_sdk.functional.gaussian import gaussian_log_prob

A, B, Q, R, GAMMA = 1.1, 0.5, 1.0, 0.1, 0.9


class Scalar:
    """z' = A z + B u with reward -(Q z^2 + R u^2); ends where |z'| falls below `end`."""

    latent_dim = action_dim = 1

    def __init__(self, end: float | None = None) -> None:
        self.end = end

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        following = A * latent + B * action
        reward = -(Q * latent.square() + R * action.square())
        return (following, reward, *([following.abs() < self.end] if self.end else []))


class Gain(nn.Module):
    """u = -k z + std eps: a stochastic policy with one parameter."""

    action_dim = 1

    def __init__(self, gain: float, std: float) -> None:
        super().__init__()
        self.gain, self.std = nn.Parameter(torch.tensor(gain, dtype=torch.float64)), std

    def loc(self, latent: Tensor) -> Tensor:
        return -self.gain * latent

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        return loc if noise is None else loc + self.std * noise

    def log_prob(self, loc: Tensor, noise: Tensor) -> Tensor:
        drawn = (loc + self.std * noise).detach()
        return gaussian_log_prob((drawn - loc) / self.std, torch.zeros_like(loc))

    def forward(self, latent: Tensor) -> Tensor:
        return self.loc(latent)


class Constant(nn.Module):
    """The same two actions everywhere, a deterministic policy."""

    def __init__(self, *actions: float) -> None:
        super().__init__()
        self.action = nn.Parameter(torch.tensor(actions))

    def forward(self, latent: Tensor) -> Tensor:
        return self.action.expand(*latent.shape[:-1], -1)


def expected_return(gain: Tensor, start: Tensor, horizon: int, std: float) -> Tensor:
    """E J by the second moment of z: m' = (A - B k)^2 m + (B std)^2, E u^2 = k^2 m + std^2."""
    moment, total = start.square(), torch.zeros_like(start)
    for t in range(horizon):
        total = total - GAMMA**t * (Q * moment + R * (gain.square() * moment + std**2))
        moment = (A - B * gain).square() * moment + (B * std) ** 2
    return total


def known_gradient(start: Tensor, horizon: int, std: float, gain: float = 0.7) -> Tensor:
    """The gradient of `expected_return` by the gain, for one start."""
    point = torch.tensor(gain, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(expected_return(point, start, horizon, std), point)[0]


def test_the_pathwise_gradient_of_a_linear_system_by_hand() -> None:
    # H = 1: J = -(Q + R k^2) z^2, so dJ/dk = -2 R k z^2 = -0.14 z^2. H = 2 adds with
    # c = A - B k = 0.75: -gamma (2 R k c^2 - 2 B c (Q + R k^2)) z^2 = 0.9 (0.78675 - 0.07875) z^2.
    starts = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    found = policy_gradients(Scalar(), Gain(0.7, 0.0), starts, [1, 2], gamma=GAMMA)
    assert found.shape == (2, 2, 1)
    assert found[0, :, 0].tolist() == pytest.approx([-0.14, -0.56])
    assert found[1, :, 0].tolist() == pytest.approx([0.4972, 4 * 0.4972])
    for horizon in (1, 7, 32):
        (mine,) = policy_gradients(Scalar(), Gain(0.7, 0.0), starts, [horizon], gamma=GAMMA)
        known = [known_gradient(start[0], horizon, 0.0) for start in starts]
        torch.testing.assert_close(mine[:, 0], torch.stack(known))


@pytest.mark.parametrize("estimator", ["pathwise", "score"])
def test_both_estimators_converge_to_the_gradient_of_the_expected_return(estimator: str) -> None:
    starts, horizons = torch.full((20_000, 1), 1.5, dtype=torch.float64), [1, 4, 12]
    torch.manual_seed(0)
    found = policy_gradients(
        Scalar(), Gain(0.7, 0.4), starts, horizons, gamma=GAMMA, estimator=estimator
    )
    for gradients, horizon in zip(found, horizons, strict=True):
        known = float(known_gradient(torch.tensor(1.5).double(), horizon, 0.4))
        error = float(gradients.std()) / len(gradients) ** 0.5
        assert abs(float(gradients.mean()) - known) < 3 * error
        assert error < 0.1 * abs(known)  # close enough for the check to have teeth


def test_the_score_estimate_is_the_noisier_one() -> None:
    starts = torch.full((2000, 1), 1.5, dtype=torch.float64)
    noise = torch.randn(8, 2000, 1, generator=torch.Generator().manual_seed(0)).double()
    path, score = (
        gradient_statistics(
            policy_gradients(Scalar(), Gain(0.7, 0.4), starts, [8], estimator=kind, noise=noise)
        )
        for kind in ("pathwise", "score")
    )
    assert float(score["variance"]) > 3 * float(path["variance"])
    assert float(score["esnr"]) < float(path["esnr"])


@pytest.mark.parametrize("estimator", ["pathwise", "score"])
def test_nothing_counts_behind_an_end(estimator: str) -> None:
    # c = 0.75: from 1 the first step ends the episode, from 4 none does within 3 steps.
    starts = torch.tensor([[1.0], [4.0]], dtype=torch.float64)
    noise = torch.randn(3, 2, 1, generator=torch.Generator().manual_seed(1)).double()
    policy, settings = Gain(0.7, 1e-3), {"estimator": estimator, "noise": noise}
    ended = policy_gradients(Scalar(end=0.9), policy, starts, [1, 3], **settings)
    whole = policy_gradients(Scalar(), policy, starts, [1, 3], **settings)
    if estimator == "pathwise":
        torch.testing.assert_close(ended[1, 0], whole[0, 0])
        torch.testing.assert_close(ended[1, 1], whole[1, 1])
    log_prob = policy.log_prob(policy.loc(starts), noise[0])
    slope = -float(noise[0, 0, 0]) * 1.0 / 1e-3  # d log prob / dk at the first step, by hand
    assert torch.autograd.grad(log_prob[0, 0], policy.gain)[0] == pytest.approx(slope)
    if estimator == "score":
        # The only step that counts is the first, with the other row's sum as its baseline.
        advantage = _first_sum(Scalar(end=0.9), policy, starts, noise)
        assert float(ended[1, 0, 0]) == pytest.approx(slope * float(advantage))


def _first_sum(model: Scalar, policy: Gain, starts: Tensor, noise: Tensor) -> Tensor:
    """Row 0's reward of one step minus row 1's of three."""
    with torch.no_grad():
        latent, rewards = starts, []
        for eps in noise:
            latent, reward, _ = model.step(latent, policy.squash(policy.loc(latent), eps))
            rewards.append(reward)
    return rewards[0][0, 0] - torch.stack(rewards)[:, 1, 0].sum()


def test_statistics_by_hand() -> None:
    # Means (2, 0); variances 2 and 8, so v = 10, norm 2 and ESNR = (4 - 10 / 2) / 10 = -0.1.
    gradients = torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    reference = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    found = gradient_statistics(gradients, reference)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"norm": 2.0, "variance": 10.0, "esnr": -0.1, "cosine": 0.6}
    )
    assert "cosine" not in gradient_statistics(gradients)
    stacked = gradient_statistics(gradients.expand(3, 2, 2), reference)
    assert all(value.shape == (3,) for value in stacked.values())


class Product(Scalar):
    """Reward z u: the gradient by a constant action is the start itself."""

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        return latent, latent * action


@pytest.mark.parametrize("batch", [4, 400])
def test_the_esnr_of_a_noisy_system_is_the_known_one_for_any_batch(batch: int) -> None:
    # Starts of N(1, 2^2) make gradients of mean 1 and variance 4: ESNR 1/4, whatever the batch.
    starts = 1 + 2 * torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    (gradients,) = policy_gradients(Product(), Constant(0.3), starts, [1])
    torch.testing.assert_close(gradients, starts)
    groups = gradient_statistics(gradients.view(-1, batch, 1))
    esnr = float((groups["esnr"] * groups["variance"]).mean() / groups["variance"].mean())
    assert esnr == pytest.approx(0.25, abs=0.03)


def test_bad_input_is_named() -> None:
    starts, policy = torch.zeros(2, 1), Constant(0.1)
    with pytest.raises(ValueError, match="estimator must be"):
        policy_gradients(Scalar(), policy, starts, [1], estimator="finite")
    for horizons in ([], [0]):
        with pytest.raises(ValueError, match="horizons must be at least 1"):
            policy_gradients(Scalar(), policy, starts, horizons)
    with pytest.raises(ValueError, match="score needs a stochastic policy"):
        policy_gradients(Scalar(), policy, starts, [1], estimator="score")
    with pytest.raises(ValueError, match="two rows"):
        policy_gradients(Scalar(), Gain(0.1, 0.1), starts[:1].double(), [1], estimator="score")
    with pytest.raises(ValueError, match="policy must have parameters"):
        policy_gradients(Scalar(), nn.Identity(), starts, [1])
    with pytest.raises(ValueError, match="B >= 2"):
        gradient_statistics(torch.zeros(1, 3))
