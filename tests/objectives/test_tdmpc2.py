"""The losses of TD-MPC2, on toy networks whose numbers can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.objectives.tdmpc2 import joint_loss, prior_loss, scaled_entropy, td_targets
from pwm_sdk.objectives.world_model import StepErrors

HEADS = torch.tensor([0, 1])


class SumQ(nn.Module):
    """Two heads, Q = k (sum z + sum a) with k = 1 and 3, and squared error."""

    def logits(self, latent: Tensor, action: Tensor, context=None, heads=None) -> Tensor:
        total = latent.sum(-1, keepdim=True) + action.sum(-1, keepdim=True)
        return torch.stack((total, 3 * total))

    def error(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits - target).square()

    def value(self, latent, action, context=None, *, reduce: str, heads: Tensor) -> Tensor:
        values = self.logits(latent, action)[heads]
        return values.amin(0) if reduce == "min" else values.mean(0)


class NoisePrior(nn.Module):
    """Mean `loc` and log-std 0 everywhere; called, it returns the noise."""

    def __init__(self, loc: float = 0.0) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(loc))

    def distribution(self, latent: Tensor, context=None) -> tuple[Tensor, Tensor]:
        mean = self.loc.expand(*latent.shape[:-1], 1)
        return mean, torch.zeros_like(mean)

    def forward(self, latent: Tensor, context, noise: Tensor) -> Tensor:
        return noise


def targets(gamma, **further: Tensor) -> Tensor:
    """Targets of two windows of one step, with z' = 1 and 2, a' = 0.5 and rewards 10 and 20."""
    reward = torch.tensor([[[10.0]], [[20.0]]])
    batch = TensorDict({"reward": reward, **further}, [2])
    following, noise = torch.tensor([[[1.0]], [[2.0]]]), torch.full((2, 1, 1), 0.5)
    result = td_targets(
        SumQ(), NoisePrior(), batch, following, None, gamma, noise=noise, heads=HEADS
    )
    assert not result.requires_grad
    return result.flatten()


def test_targets_by_hand() -> None:
    # The smaller heads say 1.5 and 2.5.
    torch.testing.assert_close(targets(0.5), torch.tensor([10.75, 21.25]))
    torch.testing.assert_close(targets(torch.tensor([0.5, 0.0])), torch.tensor([10.75, 20.0]))
    ended = torch.tensor([[[True]], [[False]]])
    torch.testing.assert_close(targets(0.5, terminated=ended), torch.tensor([10.0, 21.25]))


def errors(termination: Tensor | None = None) -> StepErrors:
    """One window of two steps with latents 0, 1, 2."""
    latent, target = torch.tensor([[[0.0], [1.0], [2.0]]]), torch.zeros(1, 2, 1)
    return StepErrors(
        None, latent, target, torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0]]]),
        termination,
    )  # fmt: skip


def test_joint_loss_by_hand() -> None:
    # Actions 1 and 0: heads say (1, 3) and (1, 3); targets 1 and 2: errors (0 + 4)/2, (1 + 1)/2.
    # Weights with rho 1/2 and H = 2 are 1/2 and 1/4.
    batch = TensorDict({"action": torch.tensor([[[1.0], [0.0]]])}, [1])
    target = torch.tensor([[[1.0], [2.0]]])
    joint = joint_loss(SumQ(), batch, errors(), target, rho=0.5)
    expected = {"consistency": 1.0, "reward": 2.5, "value": 1.25, "termination": 0.0}
    for name, number in expected.items():
        torch.testing.assert_close(getattr(joint, name), torch.tensor(number))
    torch.testing.assert_close(joint.total, torch.tensor(20.0 + 0.25 + 0.125))
    ends = torch.tensor([[[2.0], [0.0]]])
    more = joint_loss(SumQ(), batch, errors(ends), target, rho=0.5, termination=3.0)
    torch.testing.assert_close(more.termination, torch.tensor(1.0))
    torch.testing.assert_close(more.total, joint.total + 3.0)


def test_scaled_entropy_by_hand() -> None:
    # Two actions with noise 1 and 0, stds 1 and e, squashed to 0.6 and 0; counted twice.
    noise, log_std = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    action, half = torch.tensor([[0.6, 0.0]]), 0.5 * math.log(2 * math.pi)
    gaussian, slope = -0.5 - 1.0 - 2 * half, math.log(0.64)
    expected = {
        "action": 2 * (slope - gaussian),
        "gaussian": -2 * gaussian,
        "first_release": slope - 2 * (-1.5 - half),
    }
    for kind, number in expected.items():
        result = scaled_entropy(noise, log_std, action, 2.0, kind)
        torch.testing.assert_close(result, torch.tensor([[number]]), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"kind must be one of .* got 'none'"):
        scaled_entropy(noise, log_std, action, 2.0, "none")


def test_prior_loss_by_hand() -> None:
    # a = tanh(0) = 0, latents 1 and 3: mean Q = 2 and 6. S moves from 2 by 1% towards the floor 1.
    latent, noise = torch.tensor([[[1.0], [3.0]]]), torch.zeros(1, 2, 1)
    prior = NoisePrior()
    result = prior_loss(
        prior, SumQ(), latent, None, torch.tensor(2.0), noise=noise, heads=HEADS, rho=0.5,
        entropy=0.1,
    )  # fmt: skip
    torch.testing.assert_close(result.scale, torch.tensor(1.99))
    torch.testing.assert_close(result.value, torch.tensor(4.0))
    bonus = 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(result.entropy, torch.tensor(bonus), atol=1e-5, rtol=0)
    expected = -((0.1 * bonus + 2 / 1.99) + 0.5 * (0.1 * bonus + 6 / 1.99)) / 2
    torch.testing.assert_close(result.loss, torch.tensor(expected), atol=1e-5, rtol=0)
    # d Q / d mean = 2 at a = 0, and the entropy is flat there.
    (slope,) = torch.autograd.grad(result.loss, prior.loc)
    torch.testing.assert_close(slope, torch.tensor(-(1 + 0.5) * 2 / 1.99 / 2), atol=1e-4, rtol=0)


def test_the_entropy_of_the_action_holds_back_a_saturated_mean() -> None:
    """The tanh's term is what pulls a large mean back; in "gaussian" it cancels."""
    slopes = []
    for kind in ("action", "gaussian"):
        prior = NoisePrior(2.0)
        result = prior_loss(
            prior, SumQ(), torch.zeros(1, 2, 1), None, torch.tensor(1.0), kind=kind,
            noise=torch.zeros(1, 2, 1), heads=HEADS, entropy=10.0,
        )  # fmt: skip
        slopes.append(float(torch.autograd.grad(result.loss, prior.loc)[0]))
    assert slopes[0] > 0 > slopes[1]
