"""Pieces of losses, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from vectors import load

from pwm_sdk.functional.losses import (
    saturated_share,
    saturation_penalty,
    step_weights,
    two_hot_loss,
)
from pwm_sdk.functional.twohot import symexp, two_hot


def test_two_hot_loss_by_hand() -> None:
    # symlog = 1/4 between centers 0 and 1 is coded (3/4, 1/4); predicted are (4/5, 1/5).
    logits = torch.log(torch.tensor([[0.8, 0.2]]))
    value = symexp(torch.tensor([[0.25]]))
    expected = -(0.75 * math.log(0.8) + 0.25 * math.log(0.2))
    torch.testing.assert_close(two_hot_loss(logits, value, 0, 1), torch.tensor([[expected]]))


def test_two_hot_loss_is_least_at_the_code_itself() -> None:
    value = torch.tensor([[3.0]])
    logits = (two_hot(value, 11) + 1e-12).log().requires_grad_()
    (gradient,) = torch.autograd.grad(two_hot_loss(logits, value).sum(), logits)
    assert float(gradient.abs().max()) < 1e-6


def test_published_cross_entropy(close) -> None:
    data = load("g4_tables.npz")
    close(two_hot_loss(data["in/logits"], data["in/ce_target"]), data["out/soft_ce"])


def test_saturation_penalty_by_hand() -> None:
    loc = torch.tensor([[2.0, -3.0, 0.5], [1.0, -1.0, 0.0]], requires_grad=True)
    penalty = saturation_penalty(loc)
    torch.testing.assert_close(penalty, torch.tensor([[1.0 + 4.0], [0.0]]))
    (gradient,) = torch.autograd.grad(penalty.sum(), loc)
    torch.testing.assert_close(gradient, torch.tensor([[2.0, -4.0, 0.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(saturation_penalty(loc[:1], limit=2.5), torch.tensor([[0.25]]))


def test_saturated_share_by_hand() -> None:
    loc = torch.tensor([2.1, -3.0, 2.0, 0.0], requires_grad=True)
    share = saturated_share(loc)
    assert float(share) == 0.5
    assert not share.requires_grad


def test_saturated_share_of_real_actions_by_hand() -> None:
    # Three of four real entries are beyond 2; the second action of the second row does not exist.
    loc = torch.tensor([[3.0, -3.0], [5.0, 9.0], [0.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(saturated_share(loc, mask=mask), torch.tensor(3 / 4))
    torch.testing.assert_close(saturated_share(loc, mask=mask[1]), torch.tensor(2 / 3))


def test_step_weights_by_hand() -> None:
    weights = step_weights(3, 0.5, torch.zeros(1, dtype=torch.float64))
    expected = torch.tensor([[4 / 7], [2 / 7], [1 / 7]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(step_weights(4, 1.0, torch.zeros(1)), torch.full((4, 1), 0.25))
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        step_weights(0, 0.5, torch.zeros(1))
