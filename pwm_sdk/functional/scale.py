"""A moving range of values, by which losses are made comparable between tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from pwm_sdk.calls import anywhere, checked, least
from pwm_sdk.checks import in_unit


@checked(low=in_unit, high=in_unit)
def quantile_range(values: Tensor, low: float = 0.05, high: float = 0.95) -> tuple[Tensor, Tensor]:
    """Return two quantiles `[]` of values `[..]`, linearly interpolated, without gradient."""
    # linspace, since a copy of two numbers to the device would wait for it
    points = torch.linspace(low, high, 2, dtype=values.dtype, device=values.device)
    below, above = torch.quantile(values.detach().flatten(), points).unbind()
    return below, above


@checked(scale=anywhere, tau=in_unit, low=in_unit, high=in_unit, floor=least(0.0))
def running_scale(
    scale: Tensor,
    values: Tensor,
    tau: float = 0.01,
    low: float = 0.05,
    high: float = 0.95,
    floor: float = 1.0,
) -> Tensor:
    r"""Move a scale towards the range of values.

    .. math:: S' = S + \tau (\max(p_{high} - p_{low}, floor) - S)

    Args:
        scale: S, `[]`; TD-MPC2 starts at 1.
        values: `[..]`.
        tau: rate in [0, 1].
        low: lower quantile.
        high: upper quantile.
        floor: smallest range taken in.

    Returns:
        The scale after it, `[]` without gradient; the one before stays as it is.

    Raises:
        ValueError: if the rate or the quantiles are out of range.

    Source: TD-MPC2 (arXiv 2310.16828), its program.
    """
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau must lie in [0, 1], got {tau}")
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"low and high must satisfy 0 <= low < high <= 1, got {low} and {high}")
    below, above = quantile_range(values, low, high)
    return torch.lerp(scale, (above - below).clamp_min(floor).to(scale), tau)
