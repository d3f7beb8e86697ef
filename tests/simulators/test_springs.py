"""The adjoint of an agent step of springs on the ground, written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pwm_sdk.simulators.mass_spring import MassSpring
from pwm_sdk.simulators.springs import Springs


def on_the_ground(model: MassSpring) -> tuple[Springs, Tensor, Tensor]:
    """Return the law and, in float64, two moving bodies that touch the ground and rest lengths."""
    generator = torch.Generator().manual_seed(0)
    latent = model.reset(2, generator).double()
    springs, rest = model._constants(latent)
    state = latent.unflatten(-1, (2, 2, model.masses)).clone()
    state[:, 1] += 0.3 * torch.randn(state[:, 1].shape, generator=generator, dtype=torch.float64)
    return springs, state, rest.expand(2, -1).clone()


def test_both_results_have_the_gradient_of_finite_differences_in_both_arguments() -> None:
    springs, state, length = on_the_ground(MassSpring(3, 2, substeps=4))
    inputs = state.requires_grad_(), length.requires_grad_()
    assert torch.autograd.gradcheck(springs.advance, inputs, eps=1e-7, atol=1e-5, rtol=1e-5)


def test_a_stretched_pair_pulls_its_ends_together_by_hand() -> None:
    # Two by two masses, 0.1 m apart, on a ground that is far below. The first spring, along a row,
    # is 20 mm too long: k 300 N/m gives 6 N on each end, and weight 0.1 kg * 9.81.
    model = MassSpring(2, 2)
    springs, state, length = on_the_ground(model)
    state[:, 0] = model._grid
    state[:, 0, 1] += 10.0
    state[:, 1] = 0.0
    length[:, 0] -= 0.02
    force, _ = springs.force(state, length)
    first, second = model.springs[0].tolist()
    assert force[0, 0, first] == pytest.approx(6.0)
    assert force[0, 0, second] == pytest.approx(-6.0)
    assert force[0, 1].tolist() == pytest.approx([-0.981] * 4)


def test_the_arguments_are_left_as_they_were_and_a_second_derivative_is_refused() -> None:
    springs, state, length = on_the_ground(MassSpring(2, 2))
    before = state.clone()
    following, _ = springs.advance(state, length.requires_grad_())
    assert torch.equal(state, before)
    (slope,) = torch.autograd.grad(following.square().sum(), length, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
