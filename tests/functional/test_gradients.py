"""Cotangents are clipped row by row, and the share is reported."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.functional.gradients import OneBackward, clip_cotangent


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


def test_one_backward_for_all_calls_equals_one_for_each() -> None:
    """Steps z' = tanh(z W + cos a) with a = f(z) seen detached; one step's reward is left out."""
    torch.manual_seed(0)
    network, weight = nn.Linear(3, 3).double(), torch.randn(3, 3).double()
    unused = nn.Parameter(torch.ones(1))

    def slopes(function) -> list[Tensor]:
        network.zero_grad()
        latent, total = torch.ones(4, 3).double(), torch.zeros(()).double()
        for t in range(4):
            action = function(latent.detach())
            latent = torch.tanh(latent @ weight + action.cos())
            total = total + (latent.square().sum() if t != 2 else 0.0)
        function(latent.detach())  # a call without consequences
        total.backward()
        return [p.grad.clone() for p in network.parameters()]

    runs = []

    def counted(latent: Tensor) -> Tensor:
        runs.append(torch.is_grad_enabled())
        return network(latent)

    expected = slopes(network)
    found = slopes(OneBackward(counted, [*network.parameters(), unused]))
    torch.testing.assert_close(found, expected)
    assert runs == [False] * 5 + [True]
    assert unused.grad is None


def test_one_backward_has_second_derivatives() -> None:
    """A penalty on the gradient equals that of calls differentiated one by one."""
    weight, inputs = torch.randn(3, 2, requires_grad=True), torch.randn(4, 5, 3)
    found = []
    for once in (True, False):
        function = OneBackward(lambda x: torch.tanh(x @ weight), [weight]) if once else None
        values = [function(x) if function else torch.tanh(x @ weight) for x in inputs]
        (slope,) = torch.autograd.grad(
            torch.stack(values).square().sum(), weight, create_graph=True
        )
        found.append(torch.autograd.grad(slope.square().sum(), weight)[0])
    torch.testing.assert_close(*found)
