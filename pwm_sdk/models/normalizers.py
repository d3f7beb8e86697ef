"""Running statistics that keep quantities comparable between tasks and over time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked, least, may_be_infinite, shaped
from pwm_sdk.checks import in_unit, positive
from pwm_sdk.functional.moments import merge_moments


@checked(
    population=least(1),
    decay=in_unit,
    low=in_unit,
    high=in_unit,
    floor=positive,
    returns=shaped(..., None),
)
class ReturnScale(nn.Module):
    """Moving range of returns: the distance between two quantiles, one per policy.

    Dividing returns by it makes the actor's gradient independent of the task's reward units,
    without shifting them.

    Args:
        population: P, or None for one policy.
        decay: share of the old value kept at each update; the first update sets the value.
        low: lower quantile.
        high: upper quantile.
        floor: smallest scale returned, in return units.

    Source: DreamerV3 (arXiv 2301.04104), section "actor learning": the 5-95% range with decay 0.99.
    Differs: the floor, which is 1 there, since returns here are in scaled units of reward; and the
    first update, which sets the value, where it moves from 0 there.
    """

    value: Tensor
    started: Tensor

    def __init__(
        self,
        population: int | None = None,
        decay: float = 0.99,
        low: float = 0.05,
        high: float = 0.95,
        floor: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(
                f"low and high must satisfy 0 <= low < high <= 1, got {low} and {high}"
            )
        self.decay, self.low, self.high, self.floor = decay, low, high, floor
        self.register_buffer("value", torch.ones(population or 1))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @property
    def policies(self) -> int:
        """Number of policies it is of, 1 for a single one."""
        return len(self.value)

    @torch.no_grad()
    def update(self, returns: Tensor) -> Tensor:
        """Take in returns `[P, ..]` (`[..]` for one policy) and return the scale `[P]` (`[1]`)."""
        _check_policies(returns, len(self.value))
        rows = returns.detach().reshape(len(self.value), -1).to(self.value.dtype)
        # linspace, since a copy of two numbers to the device would wait for it
        shares = torch.linspace(self.low, self.high, 2, dtype=rows.dtype, device=rows.device)
        quantiles = torch.quantile(rows, shares, dim=1)
        spread = quantiles[1] - quantiles[0]
        spread = spread.to(self.value.dtype)
        self.value.copy_(
            torch.where(self.started, torch.lerp(spread, self.value, self.decay), spread)
        )
        self.started.fill_(True)
        return self.value.clamp_min(self.floor)


@checked(
    shape=least(1), limit=(positive, may_be_infinite), eps=least(0.0), values=shaped(..., None)
)
class RunningMeanStd(nn.Module):
    """Mean and variance of everything seen so far, to normalise observations or rewards.

    Args:
        shape: shape of one row.
        limit: normalised values are clipped to [-limit, limit].
        eps: added to the variance.

    Attributes:
        mean: `[*shape]`, starts at 0.
        var: `[*shape]`, starts at 1.
        count: rows seen, starts at 1e-4.

    Source: SHAC (arXiv 2204.07137) and PWM, their programs.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, shape: Sequence[int] = (1,), limit: float = 5.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.limit, self.eps = limit, eps
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("var", torch.ones(tuple(shape)))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    @property
    def std(self) -> Tensor:
        """Standard deviation, `[*shape]`."""
        return (self.var + self.eps).sqrt()

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Take in values `[.., *shape]`."""
        self._check(values)
        rows = values.detach().reshape(-1, *self.mean.shape).to(self.mean.dtype)
        moments = merge_moments(self.mean, self.var, self.count, rows)
        for buffer, value in zip((self.mean, self.var, self.count), moments, strict=True):
            buffer.copy_(value)  # in place: it stays what it is, also under inference_mode

    def normalize(self, values: Tensor) -> Tensor:
        """Return `(x - mean) / std` of values `[.., *shape]`, clipped."""
        self._check(values)
        return ((values - self.mean) / self.std).clamp(-self.limit, self.limit)

    def unnormalize(self, values: Tensor) -> Tensor:
        """Return `x * std + mean` of values `[.., *shape]`."""
        self._check(values)
        return values * self.std + self.mean

    def _check(self, values: Tensor) -> None:
        """Raise ValueError for values that do not end in the shape of a row."""
        shape = self.mean.shape
        if shape.numel() != 1 and values.shape[values.dim() - len(shape) :] != shape:
            raise ValueError(f"values must end in shape {list(shape)}, got {list(values.shape)}")


def _check_policies(returns: Tensor, policies: int) -> None:
    if policies > 1 and returns.shape[0] != policies:
        raise ValueError(f"returns must have shape [{policies}, ..], got {list(returns.shape)}")
