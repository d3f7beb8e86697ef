"""The tolerance is the suite's, with gradients that stay finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pwm_sdk.functional.rewards import tolerance


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bounds": (-0.5, 1.0)},
        {"bounds": (-0.5, 1.0), "margin": 2.0},
        {"bounds": (1.0, math.inf), "margin": 0.5, "value_at_margin": 0.5, "sigmoid": "linear"},
        {"margin": 1.0, "value_at_margin": 0.0, "sigmoid": "quadratic"},
        {"bounds": (-math.inf, 0.0), "margin": 3.0, "value_at_margin": 0.3},
    ],
)
def test_equals_the_suites(settings: dict) -> None:
    from dm_control.utils import rewards

    x = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
    value = tolerance(x, **settings)
    expected = rewards.tolerance(x.detach().numpy(), **settings)
    np.testing.assert_allclose(value.detach(), expected, atol=1e-12)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert bool(torch.isfinite(slope).all())


def test_values_and_slopes_by_hand() -> None:
    # Two margins below 1: linear with v = 0.5 gives 1 - 0.5 * 2 = 0; one gives 0.5 with slope 0.25.
    x = torch.tensor([-3.0, -1.0, 2.0], requires_grad=True)
    value = tolerance(x, (1.0, math.inf), 2.0, "linear", 0.5)
    assert value.tolist() == [0.0, 0.5, 1.0]
    assert torch.autograd.grad(value.sum(), x)[0].tolist() == [0.0, 0.25, 0.0]


def test_bad_shapes_are_named() -> None:
    x = torch.zeros(1)
    with pytest.raises(ValueError, match=r"bounds must be ordered and margin not negative"):
        tolerance(x, (1.0, 0.0))
    with pytest.raises(ValueError, match=r"value_at_margin must lie in \(0, 1\), got 0.0"):
        tolerance(x, margin=1.0, value_at_margin=0.0)
    with pytest.raises(ValueError, match=r"sigmoid must be 'gaussian', 'linear' or"):
        tolerance(x, margin=1.0, sigmoid="cosine")
