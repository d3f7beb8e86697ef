"""Cotangents are clipped row by row, and the share is reported."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk.functional.gradients import clip_cotangent


def test_rows_are_clipped_by_hand() -> None:
    # Gradients (3, 4) of norm 5, (0.3, 0.4) of norm 0.5 and 0; the limit is 1.
    x = torch.zeros(3, 2, requires_grad=True)
    masks = []
    y = clip_cotangent(x, 1.0, masks.append)
    assert torch.equal(x, y)
    (y * torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    assert [mask.tolist() for mask in masks] == [[True, False, False]]


def test_a_high_limit_changes_nothing() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    weight = torch.randn(4, 3)
    (clip_cotangent(x, 1e6) * weight).sum().backward()
    assert torch.equal(x.grad, weight)


def test_a_gradient_that_is_not_finite_stays_visible() -> None:
    x = torch.ones(2, 1, requires_grad=True)
    (clip_cotangent(x, 1.0) * torch.tensor([[float("nan")], [1.0]])).sum().backward()
    assert torch.isnan(x.grad).flatten().tolist() == [True, False]


def test_limits_are_positive() -> None:
    with pytest.raises(ValueError, match=r"limit must be positive, got 0.0"):
        clip_cotangent(torch.zeros(1, 1), 0.0)
