"""Shapes of rewards as differentiable functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pwm_sdk.calls import checked, least, may_be_infinite


@checked(bounds=may_be_infinite, margin=least(0.0))
def tolerance(
    x: Tensor,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: float = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> Tensor:
    r"""Return 1 inside an interval, falling to `value_at_margin` at a distance of `margin`.

    .. math:: s(d) = e^{\ln(v) d^2}, \quad 1 - (1 - v) d, \quad 1 - (1 - v) d^2

    for "gaussian", "linear" and "quadratic", with d the distance in margins, and never below 0.
    Inside the interval, and with no margin everywhere, the gradient is 0.

    Args:
        x: any shape.
        bounds: lower and upper end, may be infinite.
        margin: 0: the result is 0 outside.
        sigmoid: "gaussian", "linear" or "quadratic".
        value_at_margin: v, in (0, 1), or 0 for the last two.

    Returns:
        The shape of x, in [0, 1].

    Raises:
        ValueError: if bounds, margin or shape are not valid.

    Source: Tassa et al., DeepMind Control Suite (arXiv 1801.00690), section 4.
    """
    lower, upper = bounds
    if lower > upper or margin < 0.0:
        raise ValueError(
            f"bounds must be ordered and margin not negative, got {bounds} and {margin}"
        )
    if not (0.0 < value_at_margin < 1.0 or (value_at_margin == 0.0 and sigmoid != "gaussian")):
        raise ValueError(f"value_at_margin must lie in (0, 1), got {value_at_margin}")
    distance = torch.relu(lower - x) + torch.relu(x - upper)
    if margin == 0.0:
        return (distance <= 0.0).to(x.dtype) + 0.0 * distance
    distance = distance / margin
    if sigmoid == "gaussian":
        return torch.exp(math.log(value_at_margin) * distance.square())
    if sigmoid == "linear":
        return torch.relu(1.0 - (1.0 - value_at_margin) * distance)
    if sigmoid == "quadratic":
        return torch.relu(1.0 - (1.0 - value_at_margin) * distance.square())
    raise ValueError(f"sigmoid must be 'gaussian', 'linear' or 'quadratic', got {sigmoid!r}")
