"""The losses of first-order policy learning, on TensorDicts.

The mathematics is in `pwm_sdk.functional`.

With a population, trajectories are `[P, B, H]` and losses are the *sum* over policies of their
means, so that every policy receives exactly the gradient that it would receive alone.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.functional.context import with_time
from pwm_sdk.functional.losses import saturation_penalty, step_weights
from pwm_sdk.functional.returns import discounted_return, lambda_returns
from pwm_sdk.protocols import ValueFunction


def imagined_returns(
    trajectory: TensorDictBase,
    critic: ValueFunction,
    gamma: float | Tensor,
    lam: float | None = None,
) -> Tensor:
    """What the actor maximises, per start, with gradient.

    Args:
        trajectory: `[.., B, H]` from a `LatentRollout`.
        critic: value function; its parameters should not require gradients here.
        gamma: discount, one number or one per policy `[P]`.
        lam: None: the H-step return with bootstrapped end. A number: the mean over the steps of
            the trajectory of their lambda-returns, with the gradient through every value.

    Returns:
        `[.., B, 1]`, in units of the reward.

    Source: PWM eq. 5 (H-step return); Dreamer (arXiv 1912.01603), eq. 6-7 (lambda-returns as actor
    objective).
    """
    after: Any = trajectory[keys.NEXT]
    if lam is None:
        last = critic(after[keys.LATENT][..., -1, :])
        return discounted_return(after[keys.REWARD], last, gamma, after[keys.TERMINATED])
    value = critic(after[keys.LATENT])
    ends, cuts = after[keys.TERMINATED], after[keys.TRUNCATED]
    returns = lambda_returns(after[keys.REWARD], value, gamma, lam, ends, cuts)
    alive = (~ends).cumprod(-2).roll(1, -2).to(returns.dtype)
    alive[..., 0, :] = 1.0
    return (returns * alive).sum(-2) / alive.sum(-2)


def actor_loss(
    trajectory: TensorDictBase,
    critic: ValueFunction,
    gamma: float | Tensor,
    *,
    lam: float | None = None,
    scale: float | Tensor = 1.0,
    saturation: float = 0.0,
    returns: Tensor | None = None,
) -> Tensor:
    """Negative imagined return, to be differentiated through model, rewards and value.

    Args:
        trajectory: `[.., B, H]` from a `LatentRollout`.
        critic: value function.
        gamma: discount, one number or one per policy `[P]`.
        lam: see `imagined_returns`.
        scale: divides the returns, one number or one per policy `[P]`; see `ReturnScale`.
        saturation: coefficient of the penalty on pre-tanh means beyond 1 (0: none; 0.1 keeps tanh
            from saturating).
        returns: `imagined_returns(trajectory, critic, gamma, lam)`, where it is already at hand.

    Returns:
        Scalar loss, the sum over policies of their means.

    Source: PWM eq. 5 and algorithm 1. Differs: gamma^H before the last value, where the published
    program has gamma^(H+1); the penalty is ours, see docs/experiments.md.
    """
    if returns is None:
        returns = imagined_returns(trajectory, critic, gamma, lam)
    population = returns.dim() > 2
    loss = -_per_policy(returns, population) / torch.as_tensor(
        scale, dtype=returns.dtype, device=returns.device
    )
    if saturation:
        loss = loss + saturation * _per_policy(saturation_penalty(trajectory[keys.LOC]), population)
    return loss.sum()


@torch.no_grad()
def lambda_targets(
    trajectory: TensorDictBase, critic: ValueFunction, gamma: float | Tensor, lam: float = 0.95
) -> Tensor:
    """TD(lambda) regression targets of the critic, `[.., B, H, 1]`, without gradient.

    Args:
        trajectory: `[.., B, H]` from a `LatentRollout`.
        critic: value function that bootstraps, often a slowly moving copy of the trained one.
        gamma: discount, one number or one per policy `[P]`.
        lam: lambda in [0, 1].

    Source: PWM eq. 6. Differs: the published multi-task path uses one-step targets.
    """
    after: Any = trajectory[keys.NEXT]
    value = critic(after[keys.LATENT])
    return lambda_returns(
        after[keys.REWARD], value, gamma, lam, after[keys.TERMINATED], after[keys.TRUNCATED]
    ).detach()


def critic_loss(critic: Any, latents: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of every head of the ensemble, in units of `critic.value_scale`.

    Args:
        critic: a `Critic`, or any module with `values(latent) -> [E, .., 1]`.
        latents: `[N, D]`, or `[P, N, D]` for a population; gradients do not flow into them.
        targets: `[N, 1]` or `[P, N, 1]`.

    Returns:
        Scalar loss, the sum over policies of their means.

    Source: PWM eq. 6.
    """
    values = critic.values(latents.detach())
    if values.shape[1:] != targets.shape:
        raise ValueError(
            f"targets must have shape {list(values.shape[1:])}, got {list(targets.shape)}"
        )
    error = values - targets
    if hasattr(critic, "unit"):
        error = error / critic.unit(targets)
    return _per_policy(error.square().mean(0), targets.dim() > 2).sum()


def behaviour_loss(policy: Any, latents: Tensor, actions: Tensor) -> Tensor:
    """Squared distance of mean actions to the actions in the data.

    Behaviour cloning, or a guard beside `actor_loss`.

    Args:
        policy: maps latents to deterministic actions.
        latents: `[N, D]` or `[P, N, D]`.
        actions: `[N, A]` or `[P, N, A]` in [-1, 1].

    Returns:
        Scalar, the sum over policies of their means.

    Source: TD3+BC (arXiv 2106.06860), eq. 5.
    """
    error = (policy(latents.detach()) - actions).square().sum(-1, keepdim=True)
    return _per_policy(error, actions.dim() > 2).sum()


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


def _per_policy(values: Tensor, population: bool) -> Tensor:
    """Mean over everything but the policies: `[P]` for `[P, .., 1]`, `[1]` for `[.., 1]`."""
    return values.flatten(1).mean(1) if population else values.mean().unsqueeze(0)
