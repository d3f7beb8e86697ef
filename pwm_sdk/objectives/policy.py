"""The losses of actor and critic, on imagined trajectories.

The mathematics is in `pwm_sdk.functional`.

With a population, trajectories are `[P, B, H]` and losses are the *sum* over policies of their
means, so that every policy receives exactly the gradient that it would receive alone. Whether there
is one, the network says: its `population` is P, or None for one policy, as it is for a module that
says nothing. A plain function cannot say, and stands for as many policies as `[P, B, ..]` has.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.calls import (
    TRAJECTORY,
    checked,
    finite_alone,
    least,
    numbers_only,
    shaped,
)
from pwm_sdk.checks import in_unit, positive
from pwm_sdk.contract.policies import (
    EnsembleValue,
    Policy,
    ValueFunction,
    latent_size,
    population_of,
    unit_of,
)
from pwm_sdk.functional.losses import saturation_penalty
from pwm_sdk.functional.returns import (
    alive_steps,
    discounted_return,
    gamma_like,
    lambda_returns,
)

FUNCTIONS = (FunctionType, BuiltinFunctionType)


@checked(trajectory=TRAJECTORY, gamma=in_unit, lam=in_unit)
def imagined_returns(
    trajectory: TensorDictBase,
    critic: ValueFunction,
    gamma: float | Tensor,
    lam: float | None = None,
    *,
    extra_discount: bool = False,
) -> Tensor:
    """What the actor maximises, per start, with gradient.

    Args:
        trajectory: `[.., B, H]` from a `LatentRollout`.
        critic: value function; its parameters should not require gradients here.
        gamma: discount, one number or one per policy `[P]`.
        lam: None: the H-step return with bootstrapped end. A number: the mean over the steps of
            the trajectory of their lambda-returns, with the gradient through every value.
        extra_discount: give the last value of an H-step return gamma^(H+1), as published.

    Returns:
        `[.., B, 1]`, in units of the reward.

    Raises:
        ValueError: if lambda-returns should have an extra discount, or trajectory or discounts do
            not fit the critic's population.

    Source: PWM eq. 5 (H-step return); Dreamer (arXiv 1912.01603), eq. 6-7 (lambda-returns as actor
    objective).
    """
    after: Any = trajectory[keys.NEXT]
    _check_numbers("gamma", gamma, _population_of(critic, "reward", after[keys.REWARD]))
    if lam is None:
        last = critic(after[keys.LATENT][..., -1, :])
        if extra_discount:
            last = last * gamma_like(gamma, last)
        return discounted_return(after[keys.REWARD], last, gamma, after[keys.TERMINATED])
    if extra_discount:
        raise ValueError(f"lam must be None with an extra discount, got {lam}")
    value = critic(after[keys.LATENT])
    ends, cuts = after[keys.TERMINATED], after[keys.TRUNCATED]
    returns = lambda_returns(after[keys.REWARD], value, gamma, lam, ends, cuts)
    alive = alive_steps(ends, returns.dtype)
    return (returns * alive).sum(-2) / alive.sum(-2)


@checked(
    trajectory=TRAJECTORY,
    gamma=in_unit,
    lam=in_unit,
    saturation=least(0.0),
    returns=shaped(..., 1),
    scale=numbers_only(positive),
)
def actor_loss(
    trajectory: TensorDictBase,
    critic: ValueFunction,
    gamma: float | Tensor,
    *,
    lam: float | None = None,
    scale: float | Tensor = 1.0,
    saturation: float = 0.0,
    returns: Tensor | None = None,
    per_policy: bool = False,
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
        per_policy: return the loss of each policy, `[P]`, not their sum.

    Returns:
        Scalar loss, the sum over policies of their means.

    Raises:
        ValueError: if trajectory, discounts or scales do not fit the critic's population.

    Source: PWM eq. 5 and algorithm 1. Differs: gamma^H before the last value, where the published
    program has gamma^(H+1): hand over `imagined_returns(.., extra_discount=True)` for that. The
    penalty is ours, see docs/experiments.md.
    """
    if returns is None:
        returns = imagined_returns(trajectory, critic, gamma, lam)
    if returns.shape != (*trajectory.shape[:-1], 1):
        raise ValueError(
            f"returns must have shape {[*trajectory.shape[:-1], 1]}, got {list(returns.shape)}"
        )
    population = _population_of(critic, "returns", returns)
    for name, value in (("gamma", gamma), ("scale", scale)):
        _check_numbers(name, value, population)
    loss = -_means(returns, population) / scale
    if saturation:
        if keys.LOC not in trajectory.keys():  # noqa: SIM118 - it iterates over rows
            raise ValueError("trajectory must hold loc for a penalty on saturation, got none")
        loss = loss + saturation * _means(saturation_penalty(trajectory[keys.LOC]), population)
    return loss if per_policy else loss.sum()


@checked(trajectory=TRAJECTORY, gamma=in_unit, lam=in_unit)
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

    Raises:
        ValueError: if trajectory or discounts do not fit the critic's population.

    Source: PWM eq. 6. Differs: the published multi-task path uses one-step targets.
    """
    after: Any = trajectory[keys.NEXT]
    _check_numbers("gamma", gamma, _population_of(critic, "reward", after[keys.REWARD]))
    value = critic(after[keys.LATENT].detach())  # a compiled one warns of others
    return lambda_returns(
        after[keys.REWARD], value, gamma, lam, after[keys.TERMINATED], after[keys.TRUNCATED]
    ).detach()


@checked(
    latents=shaped(..., None),
    targets=(shaped(..., None), finite_alone),
    weight=(shaped(..., None), finite_alone),
)
def critic_loss(
    critic: EnsembleValue,
    latents: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    *,
    per_policy: bool = False,
) -> Tensor:
    """Mean squared error of every head of the ensemble, in units of `critic.value_scale`.

    Args:
        critic: a `Critic`, or any module with `values(latent) -> [E, .., 1]`.
        latents: `[.., D]`, or `[P, .., D]` for a population; gradients do not flow into them.
        targets: `[.., 1]` or `[P, .., 1]`.
        weight: of each state in the mean, as `targets`; 0 leaves out states after the end of an
            episode. None: all alike.
        per_policy: return the loss of each policy, `[P]`, not their sum.

    Returns:
        Scalar loss, the sum over policies of their means.

    Raises:
        ValueError: if targets or weights do not fit.

    Source: PWM eq. 6.
    """
    _fits("latents", latents, critic)
    values = critic.values(latents.detach())
    if values.shape[1:] != targets.shape:
        raise ValueError(
            f"targets must have shape {list(values.shape[1:])}, got {list(targets.shape)}"
        )
    error = values - targets
    error = error / unit_of(critic, targets)
    population = _population_of(critic, "targets", targets)
    loss = _weighted(error.square().mean(0), weight, population)
    return loss if per_policy else loss.sum()


@checked(
    latents=shaped(..., None),
    actions=(shaped(..., None), finite_alone),
    weight=(shaped(..., None), finite_alone),
)
def behaviour_loss(
    policy: Policy,
    latents: Tensor,
    actions: Tensor,
    weight: Tensor | None = None,
    *,
    per_policy: bool = False,
) -> Tensor:
    """Squared distance of mean actions to the actions in the data.

    Behaviour cloning, or a guard beside `actor_loss`.

    Args:
        policy: maps latents to deterministic actions.
        latents: `[.., D]`, or `[P, .., D]` for a population.
        actions: `[.., A]` or `[P, .., A]` in [-1, 1].
        weight: of each pair in the mean, `[.., 1]` or `[P, .., 1]`; 0 leaves out rows in which no
            action was taken. None: all alike.
        per_policy: return the loss of each policy, `[P]`, not their sum.

    Returns:
        Scalar, the sum over policies of their means.

    Raises:
        ValueError: if actions have another shape than the policy's, or weights do not fit.

    Source: TD3+BC (arXiv 2106.06860), eq. 5.
    """
    _fits("latents", latents, policy)
    mean = policy(latents.detach())
    if actions.shape != mean.shape:
        raise ValueError(f"actions must have shape {list(mean.shape)}, got {list(actions.shape)}")
    error = (mean - actions).square().sum(-1, keepdim=True)
    loss = _weighted(error, weight, _population_of(policy, "actions", actions))
    return loss if per_policy else loss.sum()


def _population_of(network: object, name: str, value: Tensor) -> int | None:
    """Ask a network for its population, and check that `value` `[.., X]` is of it."""
    population = population_of(network)
    if population is None and isinstance(network, FUNCTIONS) and value.dim() > 2:
        return len(value)
    if population is not None and (value.dim() < 2 or len(value) != population):
        raise ValueError(f"{name} must have shape [{population}, ..], got {list(value.shape)}")
    return population


def _check_numbers(name: str, value: float | Tensor, population: int | None) -> None:
    """Raise ValueError for numbers that are neither one nor one per policy."""
    if not isinstance(value, Tensor) or not value.dim():
        return
    if tuple(value.shape) not in {(1,), (population,)}:
        raise ValueError(
            f"{name} must be one number or one per policy ({population or 1}), "
            f"got shape {list(value.shape)}"
        )


def _means(values: Tensor, population: int | None) -> Tensor:
    """Mean over everything but the policies: `[P]` of a population, else `[]`."""
    return values.mean() if population is None else values.flatten(1).mean(1)


def _weighted(values: Tensor, weight: Tensor | None, population: int | None) -> Tensor:
    """Mean over everything but the policies, with weights of the shape of `values`."""
    if weight is None:
        return _means(values, population)
    if weight.shape != values.shape:
        raise ValueError(f"weight must have shape {list(values.shape)}, got {list(weight.shape)}")
    share = _means(weight, population).clamp_min(torch.finfo(weight.dtype).tiny)
    return _means(values * weight, population) / share


def _fits(name: str, latents: Tensor, module: object) -> None:
    """Raise ValueError for latents of another size than the module's."""
    size = latent_size(module)
    if size is not None and latents.shape[-1] != size:
        raise ValueError(f"{name} must have size {size}, got {list(latents.shape)}")
