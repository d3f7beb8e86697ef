"""Symlog and two-hot encoding of scalars: regression as classification over fixed bins.

Source: TD-MPC2 (arXiv 2310.16828), appendix; DreamerV3 (arXiv 2301.04104), eq. 9.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pwm_sdk.calls import checked, least, shaped


@checked()
def symlog(x: Tensor) -> Tensor:
    """`sign(x) ln(1 + |x|)`, elementwise."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


@checked()
def symexp(x: Tensor) -> Tensor:
    """`sign(x) (exp|x| - 1)`, the inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


@checked(num_bins=least(2))
def bin_centers(
    num_bins: int, low: float = -10.0, high: float = 10.0, like: Tensor | None = None
) -> Tensor:
    """Evenly spaced centers `[num_bins]` in symlog space, on the device and dtype of `like`."""
    dtype, device = (None, None) if like is None else (like.dtype, like.device)
    return torch.linspace(low, high, num_bins, dtype=dtype, device=device)


@checked(num_bins=least(2), x=shaped(..., 1))
def two_hot(x: Tensor, num_bins: int, low: float = -10.0, high: float = 10.0) -> Tensor:
    """Spread each scalar over the two bins beside its symlog.

    Args:
        x: `[.., 1]`, raw units; symlog(x) is clamped to [low, high].
        num_bins: number of bins, at least 2.
        low: center of the first bin, symlog units.
        high: center of the last bin, symlog units.

    Returns:
        `[.., num_bins]`, non-negative, sums to 1, with mean equal to symlog(x); NaN for NaN.
    """
    if num_bins < 2:
        raise ValueError(f"num_bins must be at least 2, got {num_bins}")
    if x.shape[-1] != 1:
        raise ValueError(f"x must have shape [.., 1], got {list(x.shape)}")
    position = (symlog(x).clamp(low, high) - low) * ((num_bins - 1) / (high - low))
    lower = position.floor().clamp(max=num_bins - 2)
    upper_weight = position - lower
    index = lower.nan_to_num(0.0).long()  # NaN stays in the weights, not in an address
    target = torch.zeros(*x.shape[:-1], num_bins, dtype=x.dtype, device=x.device)
    target.scatter_(-1, index, 1 - upper_weight)
    return target.scatter_(-1, index + 1, upper_weight)


@checked()
def two_hot_mean(logits: Tensor, low: float = -10.0, high: float = 10.0) -> Tensor:
    """Expected symlog value `[.., 1]` of logits `[.., num_bins]`: "almost inverse", no symexp."""
    centers = bin_centers(logits.shape[-1], low, high, like=logits)
    return (logits.softmax(-1) * centers).sum(-1, keepdim=True)


@checked()
def two_hot_decode(logits: Tensor, low: float = -10.0, high: float = 10.0) -> Tensor:
    """Scalar `[.., 1]` in raw units of logits `[.., num_bins]`: symexp of `two_hot_mean`."""
    return symexp(two_hot_mean(logits, low, high))
