"""Estimates of the gradient of a policy's return, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.calls import checked, least, shaped
from pwm_sdk.checks import in_unit
from pwm_sdk.contract.models import LatentModel, features
from pwm_sdk.contract.policies import is_scored, is_stochastic
from pwm_sdk.diagnostics.copies import StochasticCopies, copies_of
from pwm_sdk.diagnostics.sums import check_horizons, partial_sums
from pwm_sdk.functional.returns import alive_steps
from pwm_sdk.rollout import LatentRollout


@checked(
    gamma=in_unit, horizons=least(1), latent=shaped(None, None), noise=shaped(None, None, None)
)
def policy_gradients(
    model: LatentModel,
    policy: nn.Module,
    latent: Tensor,
    horizons: Sequence[int],
    *,
    gamma: float = 1.0,
    estimator: str = "pathwise",
    noise: Tensor | None = None,
    task: Tensor | None = None,
) -> Tensor:
    r"""Estimate the gradient of the H-step return by a policy's parameters, from each start alone.

    .. math:: J_H = \sum_{t<H} \gamma^t c_t r_t, \quad c_t = \prod_{s<t} (1 - d_s)

    "pathwise" differentiates model and rewards, as first-order policy learning does. "score" needs
    the returns only:

    .. math:: g = \sum_{t<H} c_t \nabla \ln \pi(a_t | z_t)
        \left(\sum_{t \le k<H} \gamma^k c_k r_k - b_t\right)

    with b the mean over the other rows, which leaves the expectation as it is. Each row acts with a
    copy of the parameters, so a horizon takes one backward pass whatever the batch.

    Args:
        model: where to act: a world model, a simulator, or an `EncodedSimulator`.
        policy: a `StochasticPolicy` or a deterministic policy, with parameters; for "score" with
            `log_prob(loc, noise)`, as `FirstOrderActor` has.
        latent: starts `[B, D]`. Rows that repeat one start show the spread over noise.
        horizons: every H wanted, at least 1.
        gamma: discount per step.
        estimator: "pathwise" or "score".
        noise: standard normal `[max H, B, A]`, the same in two models for a fair comparison; None:
            drawn here.
        task: ids `[B]`, for a model of several tasks.

    Returns:
        `[len(horizons), B, N]`, N parameters in the order of `policy.parameters()`.

    Raises:
        ValueError: if estimator, horizons or policy do not fit.

    Source: Williams (1992), REINFORCE, for "score"; Mohamed et al. (arXiv 1906.10652) for both.
    """
    if estimator not in ("pathwise", "score"):
        raise ValueError(f"estimator must be 'pathwise' or 'score', got {estimator!r}")
    check_horizons(horizons)
    copies = copies_of(policy, len(latent))
    if noise is None and is_stochastic(policy):
        own: Any = policy
        noise = _draw((max(horizons), len(latent), own.action_dim), features(model, latent))
    rollout = LatentRollout(model, copies, max(horizons))
    if estimator == "pathwise":
        totals = partial_sums(rollout(latent, task, noise), gamma)
        return torch.stack([copies.gradient(totals[:, horizon - 1]) for horizon in horizons])
    noise = _check_score(policy, latent, noise)
    with torch.no_grad():
        trajectory = rollout(latent, task, noise)
    terms = _score_terms(trajectory, copies, noise, gamma, horizons)
    return torch.stack([copies.gradient(term) for term in terms])


@checked(gradients=shaped(..., None, None), reference=shaped(..., None, None))
def gradient_statistics(gradients: Tensor, reference: Tensor | None = None) -> dict[str, Tensor]:
    r"""Describe how far a gradient can be relied on, from estimates of it.

    .. math:: \bar g = \frac{1}{B} \sum_i g_i, \quad v = \frac{1}{B-1} \sum_i \|g_i - \bar g\|^2,
        \quad ESNR = (\|\bar g\|^2 - v / B) / v

    Args:
        gradients: `[.., B, N]`, B at least 2 estimates, such as those of `policy_gradients`.
        reference: `[.., B', N]` estimates of what it should point along; None: no cosine.

    Returns:
        "norm" of the mean, "variance" v of one estimate, summed over parameters, "esnr" of one
        estimate, and with a reference "cosine" of the two means, each `[..]` float64. The ESNR is
        about 0, and can fall below, where the mean is no larger than chance.

    Raises:
        ValueError: if there are fewer than two estimates.

    Source: Parmas et al. (2023), expected signal-to-noise ratio; PWM (arXiv 2407.02466). Differs:
    without - v / B, the mean of B estimates of pure noise would have a ratio of 1 / B.
    """
    if gradients.dim() < 2 or gradients.shape[-2] < 2:
        raise ValueError(
            f"gradients must have shape [.., B, N] with B >= 2, got {list(gradients.shape)}"
        )
    if reference is not None and reference.shape[-1] != gradients.shape[-1]:
        raise ValueError(
            f"reference must have the size of gradients {list(gradients.shape)}, "
            f"got {list(reference.shape)}"
        )
    gradients = gradients.double()
    mean = gradients.mean(-2)
    variance = gradients.var(-2).sum(-1)
    signal = mean.square().sum(-1) - variance / gradients.shape[-2]
    result = {"norm": mean.norm(dim=-1), "variance": variance, "esnr": signal / variance}
    if reference is not None:
        result["cosine"] = torch.cosine_similarity(mean, reference.double().mean(-2), -1)
    return result


def _draw(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard-normal numbers of the dtype and on the device of `like`."""
    return torch.randn(shape, dtype=like.dtype, device=like.device)


def _check_score(policy: nn.Module, latent: Tensor, noise: Tensor | None) -> Tensor:
    """Return the noise of a policy with a density."""
    if not is_scored(policy) or noise is None or len(latent) < 2:
        raise ValueError(
            "score needs a stochastic policy with log_prob and at least two rows, "
            f"got {type(policy).__name__} and {len(latent)}"
        )
    return noise


def _score_terms(
    trajectory: TensorDictBase,
    copies: StochasticCopies,
    noise: Tensor,
    gamma: float,
    horizons: Sequence[int],
) -> list[Tensor]:
    """What to differentiate for the score estimate of each horizon, `[B]` each."""
    loc = copies.loc(trajectory[keys.LATENT])
    log_prob = copies.log_prob(loc, noise.movedim(0, 1)).squeeze(-1)
    after: Any = trajectory[keys.NEXT]
    log_prob = log_prob * alive_steps(after[keys.TERMINATED], log_prob.dtype).squeeze(-1)
    totals = partial_sums(trajectory, gamma)
    before, terms = totals.roll(1, 1), []
    before[:, 0] = 0.0
    for horizon in horizons:
        later = totals[:, horizon - 1 : horizon] - before[:, :horizon]
        baseline = (later.sum(0) - later) / (len(later) - 1)
        terms.append((log_prob[:, :horizon] * (later - baseline)).sum(1))
    return terms
