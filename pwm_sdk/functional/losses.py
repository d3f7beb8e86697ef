"""Pieces of losses that need no module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pwm_sdk.calls import checked, least, shaped
from pwm_sdk.checks import in_unit
from pwm_sdk.functional.twohot import two_hot


@checked(logits=shaped(..., None), value=shaped(..., 1))
def two_hot_loss(logits: Tensor, value: Tensor, low: float = -10.0, high: float = 10.0) -> Tensor:
    """Cross entropy `[.., 1]` of logits `[.., N]` against the two-hot code of value `[.., 1]`."""
    target = two_hot(value, logits.shape[-1], low, high)
    return -(target * F.log_softmax(logits, dim=-1)).sum(-1, keepdim=True)


@checked(limit=least(0.0))
def saturation_penalty(loc: Tensor, limit: float = 1.0) -> Tensor:
    r"""Squared excess of pre-tanh means, summed over action dimensions.

    .. math:: \sum_a \max(|m_a| - limit, 0)^2

    Beyond `|m| = 2` the slope of tanh is below 0.07 and a first-order actor stops learning; this
    keeps it inside.

    Args:
        loc: pre-tanh means, `[.., A]`.
        limit: free range of `|m|`.

    Returns:
        `[.., 1]`.
    """
    return (loc.abs() - limit).clamp_min(0.0).square().sum(-1, keepdim=True)


@checked(threshold=least(0.0), mask=shaped(..., None))
def saturated_share(loc: Tensor, threshold: float = 2.0, mask: Tensor | None = None) -> Tensor:
    """Share of entries of `loc` `[.., A]` with `|m| > threshold`; a scalar without gradient.

    Args:
        loc: pre-tanh means, `[.., A]`.
        threshold: largest `|m|` that does not count.
        mask: 1 for real actions and 0 for others, broadcastable to `loc`; None: all are real.
    """
    beyond = (loc.detach().abs() > threshold).to(loc.dtype)
    if mask is None:
        return beyond.mean()
    ends = zip(reversed(mask.shape), reversed(loc.shape), strict=False)
    if mask.dim() > loc.dim() or any(own not in (1, size) for own, size in ends):
        raise ValueError(
            f"mask must broadcast to the shape of loc {list(loc.shape)}, got {list(mask.shape)}"
        )
    real = mask.to(loc.dtype).expand_as(loc)
    return (beyond * real).sum() / real.sum()


@checked(horizon=least(1), rho=in_unit)
def step_weights(horizon: int, rho: float, like: Tensor) -> Tensor:
    """Weights `rho^t / sum(rho^t)`, `[H, 1]`, for averaging per-step losses `[.., H, 1]`."""
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, got {horizon}")
    powers = step_powers(horizon, rho, like)
    return powers / powers.sum()


@checked(horizon=least(1), rho=in_unit)
def step_powers(horizon: int, rho: float, like: Tensor) -> Tensor:
    """`rho^t` for t = 0..H-1, `[H, 1]`, on the device and dtype of `like`."""
    # filled one by one, since a copy of numbers to the device would wait for it
    return torch.cat([like.new_full((1, 1), rho**t) for t in range(horizon)])
