"""The arithmetic of sampling-based planning: candidates weighted by their values."""

from __future__ import annotations

import torch
from torch import Tensor

from pwm_sdk.calls import checked, least, shaped
from pwm_sdk.checks import positive


@checked(temperature=positive, value=shaped(..., None))
def elite_weights(value: Tensor, elites: int, temperature: float) -> tuple[Tensor, Tensor]:
    r"""Choose the best candidates and weigh them by their values.

    .. math:: w_i = \exp(\tau (v_i - \max_j v_j)) / \sum_k \exp(\tau (v_k - \max_j v_j))

    The maximum is subtracted first, so that returns of any size are safe. A candidate whose value
    is NaN or infinite weighs nothing.

    Args:
        value: `[.., S]`, values of S candidates.
        elites: E, number of candidates kept, at most S.
        temperature: tau > 0, in 1 / units of value; the larger, the more the best one counts.

    Returns:
        Indices `[.., E]`, best first, and weights `[.., E]`, which sum to 1 (NaN where no
        candidate has a finite value).

    Raises:
        ValueError: if the number of elites lies outside 1..S or the temperature is not positive.

    Source: MPPI (Williams et al. 2015) as in TD-MPC2 (arXiv 2310.16828), eq. 6. Differs: TD-MPC2
    takes NaN for a value of 0.
    """
    if not 1 <= elites <= value.shape[-1]:
        raise ValueError(f"elites must lie in 1..{value.shape[-1]}, got {elites}")
    if temperature <= 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    finite = torch.where(torch.isfinite(value), value, -torch.inf)
    best, index = finite.topk(elites, dim=-1)
    weight = (temperature * (best - best[..., :1])).exp()
    return index, weight / weight.sum(-1, keepdim=True)


@checked(eps=least(0.0), actions=shaped(..., "E", "H", "A"), weight=shaped(..., "E"))
def weighted_moments(actions: Tensor, weight: Tensor, eps: float = 1e-9) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of candidates.

    Args:
        actions: `[.., E, H, A]`.
        weight: `[.., E]`, sums to 1.
        eps: added to the sum of weights.

    Returns:
        Mean and standard deviation, `[.., H, A]`.
    """
    share = (weight / (weight.sum(-1, keepdim=True) + eps))[..., None, None]
    mean = (share * actions).sum(-3)
    return mean, (share * (actions - mean.unsqueeze(-3)).square()).sum(-3).sqrt()


@checked(weight=shaped(..., "E"), exponential=shaped(..., "E"))
def draw_by_weight(weight: Tensor, exponential: Tensor) -> Tensor:
    """Draw one index `[..]` with probabilities `weight` `[.., E]`.

    The draw is `argmax(ln w - ln e)` with `e` from the exponential distribution of rate 1,
    `[.., E]`.

    Source: the Gumbel-max trick; -ln e is Gumbel distributed.
    """
    return (weight.log() - exponential.log()).argmax(-1)
