"""The reward shape that all dm_control tasks are made of."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["gaussian", "linear"]

_GAUSSIAN_SCALE = math.sqrt(-2.0 * math.log(0.1))


def gaussian(value: float, low: float, high: float = math.inf, *, margin: float) -> float:
    """1 within the bounds, `exp(-(s d)^2 / 2)` beyond, with `d` the distance in margins.

    `s = sqrt(-2 ln 0.1)`, so that one margin outside gives 0.1.

    Args:
        value: what is rewarded, in units of its own.
        low: lower bound, inclusive.
        high: upper bound, inclusive.
        margin: distance that counts as 1, above 0.

    Source: dm_control suite (Tassa et al., 2018), section 2.2, tolerance with a Gaussian sigmoid.
    """
    scaled = _distance(value, low, high) / margin * _GAUSSIAN_SCALE
    # As the suite writes it: another exponential or square may differ in the last bit.
    return float(np.exp(-0.5 * scaled**2))


def linear(
    value: float, low: float, high: float = math.inf, *, margin: float, at_margin: float
) -> float:
    """1 within the bounds, `max(0, 1 - d (1 - at_margin))` beyond, with `d` as in `gaussian`.

    Args:
        value: what is rewarded, in units of its own.
        low: lower bound, inclusive.
        high: upper bound, inclusive.
        margin: distance that counts as 1, above 0.
        at_margin: reward one margin outside, in [0, 1).

    Source: dm_control suite (Tassa et al., 2018), section 2.2, tolerance with a linear sigmoid.
    """
    scaled = _distance(value, low, high) / margin * (1.0 - at_margin)
    # Not a maximum: that would turn the NaN of an unstable simulation into a reward.
    return 0.0 if scaled >= 1.0 else 1.0 - scaled


def _distance(value: float, low: float, high: float) -> float:
    """Distance to the interval, 0 inside it."""
    value = float(value)
    if low <= value <= high:
        return 0.0
    return low - value if value < low else value - high
