"""Mish at the price of one exponential is Mish."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from pwm_sdk.functional.activations import CHUNK, SMALL, mish

FEW_AND_MANY = pytest.mark.parametrize("copies", [1, SMALL])  # two ways of computing


@FEW_AND_MANY
def test_mish_by_hand(copies: int) -> None:
    # softplus(0) = ln 2 and tanh(ln 2) = (4 - 1) / (4 + 1); softplus(ln 3) = ln 4, tanh = 15 / 17.
    x = torch.tensor([0.0, math.log(3.0), -math.log(3.0)])
    ninth = ((4 / 3) ** 2 - 1) / ((4 / 3) ** 2 + 1)  # softplus(-ln 3) = ln (4 / 3)
    expected = torch.tensor([0.0, math.log(3.0) * 15 / 17, -math.log(3.0) * ninth])
    torch.testing.assert_close(mish(x.repeat(copies)), expected.repeat(copies))
    zero = torch.zeros(copies + 1, requires_grad=True)
    mish(zero).sum().backward()
    torch.testing.assert_close(zero.grad, torch.full_like(zero, 0.6))  # at 0: tanh(ln 2)


@pytest.mark.parametrize("shape", [(7, 3), (CHUNK + 5,)])
def test_values_and_slopes_are_those_of_torch_in_double_precision(shape: tuple[int, ...]) -> None:
    x = (10.0 * torch.randn(shape)).requires_grad_()
    exact = x.detach().double().requires_grad_()
    gradient = torch.rand(shape)
    mish(x).backward(gradient)
    F.mish(exact).backward(gradient.double())
    for found in (mish(x), mish(x.detach())):
        torch.testing.assert_close(found.double(), F.mish(exact), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-5, atol=2e-6)


@FEW_AND_MANY
def test_far_out(copies: int) -> None:
    x = torch.tensor([-1e4, -90.0, 90.0, 1e30]).repeat(copies).requires_grad_()
    mish(x).sum().backward()
    assert mish(x)[:4].tolist() == pytest.approx([0.0, 0.0, 90.0, 1e30])
    assert x.grad[:4].tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0])


def test_in_double_precision() -> None:
    double = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mish, double)
    torch.testing.assert_close(mish(double), F.mish(double))


@FEW_AND_MANY
def test_layouts_that_are_not_contiguous(copies: int) -> None:
    x = torch.randn(6, 4 * copies, requires_grad=True)
    mish(x.T).sum().backward()
    torch.testing.assert_close(mish(x.T), F.mish(x.T))
    exact = x.detach().clone().requires_grad_()
    F.mish(exact).sum().backward()
    torch.testing.assert_close(x.grad, exact.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [8, SMALL + 1, CHUNK + 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_of_every_order_whatever_the_number(count: int, dtype: torch.dtype) -> None:
    """A penalty on a gradient has the slope that torch's Mish in double precision has."""
    x = (3.0 * torch.randn(count)).to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    derivatives = []
    for function, value in ((mish, x), (F.mish, exact)):
        (first,) = torch.autograd.grad(function(value).sum(), value, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), value)
        derivatives.append((first.detach().double(), second.double()))
    torch.testing.assert_close(*derivatives, rtol=1e-4, atol=1e-5)


def test_under_vmap_and_grad_of_torch_func() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.vmap(mish)(x), F.mish(x))
    slopes = torch.vmap(torch.func.grad(lambda row: mish(row).sum()))(x)
    expected = x.clone().requires_grad_()
    torch.testing.assert_close(slopes, torch.autograd.grad(F.mish(expected).sum(), expected)[0])
