"""The losses of world models, on windows of recorded data."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.functional.context import with_time
from pwm_sdk.functional.losses import step_weights


def world_model_errors(
    model: Any, batch: TensorDictBase, rho: float = 0.5
) -> tuple[Tensor, Tensor]:
    r"""Open-loop errors of a world model on windows of data, per window.

    .. math:: z_0 = enc(o_0), \quad z_{t+1} = dyn(z_t, a_t), \quad
        C = \sum_t w_t \|z_{t+1} - sg(enc(o_{t+1}))\|^2 / D, \quad R = \sum_t w_t \ell(rew(z_t,
        a_t), r_t)

    with `w_t = rho^t / sum(rho^t)`.

    Args:
        model: a `WorldModel`, or a module with `encode`, `next`, `reward_logits` and
            `reward_error`.
        batch: `[B]` with observation `[B, H+1, O]`, action `[B, H, A]`, reward `[B, H, 1]` and
            task `[B]`.
        rho: weight of each step relative to the one before, in (0, 1].

    Returns:
        Consistency `[B, 1]` and reward error `[B, 1]`.

    Raises:
        ValueError: for windows whose lengths do not fit.

    Source: TD-MPC2 eq. 3-4 without the value terms; PWM section 4.1.
    """
    observation, action, reward = batch[keys.OBSERVATION], batch[keys.ACTION], batch[keys.REWARD]
    horizon = action.shape[1]
    if horizon < 1 or observation.shape[1] != horizon + 1 or reward.shape[:2] != action.shape[:2]:
        raise ValueError(
            "batch must hold H+1 observations, H actions and H rewards, got "
            f"{observation.shape[1]}, {horizon} and {reward.shape[1]}"
        )
    task = batch.get(keys.TASK, None) if getattr(model, "num_tasks", 0) else None
    context = model.context(task) if hasattr(model, "context") else task
    with torch.no_grad():
        later = None if task is None else task.unsqueeze(-1).expand(-1, horizon)
        target = model.encode(observation[:, 1:], later)
    latents = [model.encode(observation[:, 0], task)]
    for t in range(horizon):
        latents.append(model.next(latents[-1], action[:, t], context))
    weights = step_weights(horizon, rho, reward)
    predicted = torch.stack(latents[1:], 1)
    consistency = (predicted - target).square().mean(-1, keepdim=True)
    logits = model.reward_logits(torch.stack(latents[:-1], 1), action, with_time(context))
    return (consistency * weights).sum(1), (model.reward_error(logits, reward) * weights).sum(1)


def world_model_loss(
    model: Any,
    batch: TensorDictBase,
    *,
    rho: float = 0.5,
    consistency: float = 20.0,
    reward: float = 0.1,
    reward_weight: Tensor | None = None,
) -> Tensor:
    """Weighted sum of consistency and reward errors, averaged over the windows.

    Args:
        model: see `world_model_errors`.
        batch: see `world_model_errors`.
        rho: weight of each step relative to the one before.
        consistency: coefficient of the latent error.
        reward: coefficient of the reward error.
        reward_weight: further weights of the reward error per task, `[K]`, indexed by the batch's
            task ids. One over the variance of a task's rewards keeps small rewards from vanishing
            beside large ones.

    Returns:
        Scalar loss.

    Source: TD-MPC2 eq. 3: coefficients 20 and 0.1, rho 0.5 (PWM's pre-training: 0.99).
    """
    latent_error, reward_error = world_model_errors(model, batch, rho)
    if reward_weight is not None:
        reward_error = reward_error * reward_weight[batch[keys.TASK]].unsqueeze(-1)
    return (consistency * latent_error + reward * reward_error).mean()
