"""What imagined returns are divided by, so that tasks and times are comparable."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked, least, shaped
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

    Every running scale (this one, `RunningMeanStd`, TD-MPC2's `running_scale`) has, or returns, a
    `scale` that values are divided by; `update` takes values in and returns it.

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

    @property
    def scale(self) -> Tensor:
        """What returns are divided by, `[P]` (`[1]` for one policy)."""
        return self.value.clamp_min(self.floor)

    @torch.no_grad()
    def update(self, returns: Tensor) -> Tensor:
        """Take in returns `[P, ..]` (`[..]` for one policy) and return `scale`."""
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
        return self.scale


@checked(population=least(1), eps=least(0.0), returns=shaped(..., None))
class ReturnDeviation(nn.Module):
    """Running standard deviation of all returns so far, one per policy; a scale as `ReturnScale`.

    Args:
        population: P, or None for one policy.
        eps: added to the variance.

    Attributes:
        mean: `[P]` or `[1]`.
        var: `[P]` or `[1]`, starts at 1.
        count: returns seen per policy, starts at 1e-4.

    Source: PWM's program. Differs: it keeps the mean of negative returns.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, population: int | None = None, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(population or 1))
        self.register_buffer("var", torch.ones(population or 1))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    @property
    def policies(self) -> int:
        """Number of policies it is of, 1 for a single one."""
        return len(self.mean)

    @property
    def scale(self) -> Tensor:
        """What returns are divided by, `[P]` (`[1]` for one policy)."""
        return (self.var + self.eps).sqrt()

    @torch.no_grad()
    def update(self, returns: Tensor) -> Tensor:
        """Take in returns `[P, ..]` (`[..]` for one policy) and return `scale`."""
        _check_policies(returns, self.policies)
        rows = returns.detach().reshape(len(self.mean), -1).T
        moments = merge_moments(self.mean, self.var, self.count, rows)
        for buffer, value in zip((self.mean, self.var, self.count), moments, strict=True):
            buffer.copy_(value)
        return self.scale


def named_scale(name: str, population: int | None) -> ReturnScale | ReturnDeviation | None:
    """Return the scale of P policies (None: one) that `PWMConfig.return_scale` names."""
    if name == "none":
        return None
    return (ReturnScale if name == "range" else ReturnDeviation)(population)


def _check_policies(returns: Tensor, policies: int) -> None:
    if policies > 1 and returns.shape[0] != policies:
        raise ValueError(f"returns must have shape [{policies}, ..], got {list(returns.shape)}")
