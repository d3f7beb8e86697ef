"""TD-MPC2's running scale of values."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningScale(nn.Module):
    r"""Moving range of values, never far below `floor`.

    .. math:: S \leftarrow S + \tau (\max(p_{95} - p_5, floor) - S), \quad S_0 = 1

    Args:
        tau: rate.
        low: lower quantile.
        high: upper quantile.
        floor: smallest range taken in.

    Raises:
        ValueError: for settings out of range.

    Source: TD-MPC2 (arXiv 2310.16828), appendix. Differs from `ReturnScale`: starts at 1, and the
    floor holds for what is taken in.
    """

    value: Tensor

    def __init__(
        self, tau: float = 0.01, low: float = 0.05, high: float = 0.95, floor: float = 1.0
    ) -> None:
        super().__init__()
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(
                f"low and high must satisfy 0 <= low < high <= 1, got {low} and {high}"
            )
        if not 0.0 <= tau <= 1.0:
            raise ValueError(f"tau must lie in [0, 1], got {tau}")
        self.tau, self.low, self.high, self.floor = tau, low, high, floor
        self.register_buffer("value", torch.ones(()))

    @torch.no_grad()
    def spread(self, values: Tensor) -> Tensor:
        """Return the two quantiles `[2]` of values `[..]`, linearly interpolated."""
        points = torch.tensor([self.low, self.high], dtype=values.dtype, device=values.device)
        return torch.quantile(values.detach().flatten(), points)

    @torch.no_grad()
    def update(self, values: Tensor) -> Tensor:
        """Take in values `[..]` and return the scale `[]`."""
        low, high = self.spread(values)
        self.value.lerp_((high - low).clamp_min(self.floor).to(self.value), self.tau)
        return self.value
