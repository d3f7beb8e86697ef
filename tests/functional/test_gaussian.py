"""Squashed Gaussians: by hand, and densities that integrate to one."""

from __future__ import annotations

import math

import torch

from pwm_sdk.functional.gaussian import bounded_log_std, gaussian_log_prob, tanh_log_slope


def test_bounded_log_std_by_hand() -> None:
    raw = torch.tensor([-100.0, 0.0, 100.0, math.atanh(0.5)])
    expected = torch.tensor([-10.0, -4.0, 2.0, -1.0])
    torch.testing.assert_close(bounded_log_std(raw, -10.0, 2.0), expected)


def test_gaussian_log_prob_by_hand() -> None:
    # -1/2 - ln 2 - ln(2 pi)/2 and -2 - 0 - ln(2 pi)/2.
    noise, log_std = torch.tensor([[1.0, -2.0]]), torch.tensor([[math.log(2.0), 0.0]])
    expected = -0.5 - math.log(2.0) - 2.0 - math.log(2.0 * math.pi)
    torch.testing.assert_close(gaussian_log_prob(noise, log_std), torch.tensor([[expected]]))


def test_gaussian_log_prob_is_that_of_torch() -> None:
    mean, log_std, noise = torch.randn(3, 5, 2).unbind()
    density = torch.distributions.Normal(mean, log_std.exp())
    theirs = density.log_prob(mean + noise * log_std.exp()).sum(-1, keepdim=True)
    torch.testing.assert_close(gaussian_log_prob(noise, log_std), theirs)


def test_tanh_log_slope_by_hand() -> None:
    slope = tanh_log_slope(torch.tensor([[0.0, 0.6], [1.0, 0.0]]))
    expected = torch.tensor([[math.log(0.64)], [math.log(1e-6)]])
    torch.testing.assert_close(slope, expected, atol=1e-5, rtol=0)


def test_the_density_of_the_action_integrates_to_one() -> None:
    noise = torch.linspace(-8.0, 8.0, 20_001, dtype=torch.float64).unsqueeze(-1)
    action = torch.tanh(0.3 + 0.5 * noise)
    log_std = torch.full_like(noise, math.log(0.5))
    density = (gaussian_log_prob(noise, log_std) - tanh_log_slope(action)).exp()
    total = torch.trapezoid(density.flatten(), action.flatten())
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), atol=1e-4, rtol=0)
