"""The losses of TD-MPC2: joint loss of model and values, loss of the policy prior."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.calls import checked, holds, least, one_of, shaped
from pwm_sdk.checks import in_unit
from pwm_sdk.contract.policies import (
    LearnedPrior,
    LearnedQ,
    Prior,
    QFunction,
    action_mask_of,
    action_size,
    latent_size,
)
from pwm_sdk.functional.context import Context, with_time
from pwm_sdk.functional.gaussian import gaussian_log_prob, tanh_log_slope
from pwm_sdk.functional.losses import step_powers
from pwm_sdk.functional.scale import running_scale
from pwm_sdk.objectives.world_model import StepErrors

ENTROPIES = ("action", "gaussian", "first_release")


class JointLoss(NamedTuple):
    """TD-MPC2's joint loss and its parts, scalars.

    Attributes:
        total: weighted sum of the others.
        consistency: latent error.
        reward: reward error.
        value: error of the Q functions.
        termination: error about ends of episodes; 0 if the model predicts none.
    """

    total: Tensor
    consistency: Tensor
    reward: Tensor
    value: Tensor
    termination: Tensor


class PriorLoss(NamedTuple):
    """Loss of the policy prior and what it is made of.

    Attributes:
        loss: scalar.
        entropy: mean entropy of the actions, nats; scalar without gradient.
        scaled_entropy: mean of the entropy as it enters the loss; scalar without gradient.
        value: mean value of the actions; scalar without gradient.
        scale: S, moved; scalar without gradient.
    """

    loss: Tensor
    entropy: Tensor
    scaled_entropy: Tensor
    value: Tensor
    scale: Tensor


@checked(
    batch=holds(keys.REWARD),
    gamma=in_unit,
    next_latent=shaped("B", "H", "D"),
    noise=shaped("B", "H", "A"),
    heads=(shaped(None), least(0)),
)
@torch.no_grad()
def td_targets(
    q: QFunction,
    prior: Prior,
    batch: TensorDictBase,
    next_latent: Tensor,
    context: Context,
    gamma: float | Tensor,
    *,
    noise: Tensor,
    heads: Tensor,
) -> Tensor:
    r"""One-step targets of the Q functions.

    .. math:: y_t = r_t + \gamma (1 - d_t) \min_{i \in heads} \bar Q_i(enc(o_{t+1}), a'), \quad
        a' \sim \pi(enc(o_{t+1}))

    Args:
        q: target `QEnsemble`.
        prior: `PolicyPrior`.
        batch: windows `[B]` with reward `[B, H, 1]` and, if known, terminated `[B, H, 1]`.
        next_latent: encodings of the later observations, `[B, H, D]`.
        context: what the model looked up of the tasks `[B]`.
        gamma: discount per step in [0, 1], one number or one per window `[B]`.
        noise: standard normal `[B, H, A]` of the actions.
        heads: which Q functions, `[N]`.

    Returns:
        `[B, H, 1]` without gradient, units of the reward.

    Source: TD-MPC2 eq. 4.
    """
    sizes = {"next_latent": (next_latent, latent_size(q)), "noise": (noise, action_size(prior))}
    for name, (value, size) in sizes.items():
        if size is not None and value.shape[-1] != size:
            raise ValueError(f"{name} must have size {size}, got {list(value.shape)}")
    wide = with_time(context)
    action = prior(next_latent, wide, noise)
    value = q.value(next_latent, action, wide, heads=heads, reduce="min")
    if isinstance(gamma, Tensor):
        gamma = gamma.view(-1, 1, 1)
    terminated = batch.get(keys.TERMINATED, None)
    if terminated is not None:
        value = value * ~terminated
    return batch[keys.REWARD] + gamma * value


@checked(
    batch=holds(keys.ACTION),
    rho=in_unit,
    consistency=least(0.0),
    reward=least(0.0),
    value=least(0.0),
    termination=least(0.0),
    target=shaped(None, None, 1),
)
def joint_loss(
    q: LearnedQ,
    batch: TensorDictBase,
    errors: StepErrors,
    target: Tensor,
    *,
    rho: float = 0.5,
    consistency: float = 20.0,
    reward: float = 0.1,
    value: float = 0.1,
    termination: float = 1.0,
) -> JointLoss:
    r"""Errors of the world model and of the Q functions on its open-loop latents.

    .. math:: \frac{1}{H} \sum_t \rho^t (20\, C_t + 0.1\, R_t + 0.1\, V_t), \quad
        V_t = \frac{1}{E} \sum_i CE(Q_i(z_t, a_t), y_t)

    Args:
        q: `QEnsemble` that learns.
        batch: windows `[B]` with action `[B, H, A]`.
        errors: `step_errors` of the model on the batch.
        target: `td_targets`, `[B, H, 1]`.
        rho: weight of each step relative to the one before.
        consistency: coefficient of `C_t`.
        reward: coefficient of `R_t`.
        value: coefficient of `V_t`.
        termination: coefficient of an episodic model's error about ends.

    Returns:
        The loss and its parts.

    Source: TD-MPC2 eq. 3.
    """
    logits = q.logits(errors.latent[:, :-1], batch[keys.ACTION], with_time(errors.context))
    value_error = q.error(logits, target).mean(0)
    horizon = target.shape[1]
    weights = step_powers(horizon, rho, target) / horizon

    def average(error: Tensor) -> Tensor:
        return (error * weights).sum(1).mean()

    ends = errors.termination
    parts = [average(e) for e in (errors.consistency, errors.reward, value_error)]
    parts.append(target.new_zeros(()) if ends is None else average(ends))
    coefficients = (consistency, reward, value, termination)
    total = sum((c * p for c, p in zip(coefficients, parts, strict=True)), target.new_zeros(()))
    return JointLoss(total, *parts)


@checked()
def scaled_entropy(
    noise: Tensor, log_std: Tensor, action: Tensor, count: float | Tensor, kind: str = "action"
) -> Tensor:
    r"""Entropy of a squashed Gaussian at one sample, times the number n of real actions.

    Args:
        noise: standard normal `[.., A]`, zero for actions that the task does not have.
        log_std: `[.., A]`.
        action: squashed, `[.., A]`.
        count: n, one number or `[.., 1]`.
        kind: "action": `-n ln p(a)`, the entropy of the action. "gaussian": `-n ln p(u)` of the
            action before the tanh, as in the current program, where the tanh's term cancels.
            "first_release": only the Gaussian's part is scaled.

    Returns:
        `[.., 1]`.

    Raises:
        ValueError: if the kind is another.
    """
    gaussian = gaussian_log_prob(noise, log_std)
    if kind == "action":
        return count * (tanh_log_slope(action) - gaussian)
    if kind == "gaussian":
        return -count * gaussian
    if kind == "first_release":  # ln(2 pi) / 2 once, not once per action
        surplus = 0.5 * math.log(2.0 * math.pi) * (noise.shape[-1] - 1)
        return tanh_log_slope(action) - count * (gaussian + surplus)
    raise ValueError(f"kind must be one of {ENTROPIES}, got {kind!r}")


@checked(
    rho=in_unit,
    entropy=least(0.0),
    kind=one_of(*ENTROPIES),
    latent=shaped("B", "T", "D"),
    noise=shaped("B", "T", "A"),
    heads=(shaped(None), least(0)),
    scale=shaped(),
)
def prior_loss(
    prior: LearnedPrior,
    q: QFunction,
    latent: Tensor,
    context: Context,
    scale: Tensor,
    *,
    noise: Tensor,
    heads: Tensor,
    rho: float = 0.5,
    entropy: float = 1e-4,
    kind: str = "action",
) -> PriorLoss:
    r"""Loss of the policy prior: act for high values, keep some entropy.

    .. math:: \frac{1}{H+1} \sum_t \rho^t (-\bar Q(z_t, a_t) / S - \beta \mathcal{H}_t), \quad
        a_t \sim \pi(z_t)

    Args:
        prior: `PolicyPrior` that learns.
        q: `QEnsemble`; read as the mean of the chosen heads.
        latent: `[B, H+1, D]`, without gradient.
        context: what the model looked up of the tasks `[B]`.
        scale: S before, `[]`; it is moved by `running_scale` to the values at t = 0 before use.
        noise: standard normal `[B, H+1, A]`.
        heads: which Q functions, `[N]`.
        rho: weight of each step relative to the one before.
        entropy: beta.
        kind: see `scaled_entropy`.

    Returns:
        The loss and what it is made of.

    Source: TD-MPC2 eq. 5.
    """
    wide = with_time(context)
    mask = action_mask_of(wide)
    if mask is not None:
        noise = noise * mask
    count = noise.shape[-1] if mask is None else mask.sum(-1, keepdim=True)
    mean, log_std = prior.distribution(latent, wide)
    if noise.shape != mean.shape:
        raise ValueError(f"noise must have shape {list(mean.shape)}, got {list(noise.shape)}")
    action = torch.tanh(mean + noise * log_std.exp())
    value = q.value(latent, action, wide, heads=heads, reduce="mean")
    scale = running_scale(scale.to(value.device, non_blocking=True), value[:, 0])
    bonus = scaled_entropy(noise, log_std, action, count, kind)
    weights = step_powers(latent.shape[1], rho, value)
    loss = (-(entropy * bonus + value / scale) * weights).mean()
    plain = scaled_entropy(noise, log_std, action, 1.0)
    return PriorLoss(
        loss, plain.detach().mean(), bonus.detach().mean(), value.detach().mean(), scale
    )
