"""Squashed Gaussian policies: spread, log-probability, the tanh's correction."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pwm_sdk.calls import checked


@checked()
def bounded_log_std(raw: Tensor, low: float, high: float) -> Tensor:
    r"""Map outputs of a network to log-stds between two bounds.

    .. math:: low + (high - low) (\tanh(x) + 1) / 2

    Args:
        raw: `[.., A]`.
        low: smallest log-std.
        high: largest log-std.

    Returns:
        `[.., A]`.
    """
    return low + 0.5 * (high - low) * (torch.tanh(raw) + 1.0)


@checked()
def gaussian_log_prob(noise: Tensor, log_std: Tensor) -> Tensor:
    r"""Log-density of `m + noise std` under N(m, std^2), summed over action dimensions.

    .. math:: \sum_a (-\epsilon_a^2 / 2 - \ln \sigma_a - \ln(2 \pi) / 2)

    Args:
        noise: standard normal, `[.., A]`.
        log_std: `[.., A]`.

    Returns:
        `[.., 1]`.
    """
    terms = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    return terms.sum(-1, keepdim=True)


@checked()
def tanh_log_slope(action: Tensor) -> Tensor:
    r"""Log-volume by which the tanh shrinks the space around squashed actions.

    .. math:: \sum_a \ln(\max(1 - a^2, 0) + 10^{-6})

    Subtracted from the Gaussian's log-density it gives the log-density of the action.

    Args:
        action: `[.., A]` in [-1, 1].

    Returns:
        `[.., 1]`.

    Source: SAC (arXiv 1801.01290), appendix C.
    """
    return (F.relu(1.0 - action.square()) + 1e-6).log().sum(-1, keepdim=True)
