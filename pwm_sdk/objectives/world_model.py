"""The losses of world models, on windows of recorded data."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.calls import WINDOWS, anywhere, checked, has, least, shaped
from pwm_sdk.checks import in_unit
from pwm_sdk.contract.memory import has_memory
from pwm_sdk.contract.models import TrainableModel, is_episodic, looked_up, num_tasks
from pwm_sdk.functional.context import Context, with_time
from pwm_sdk.functional.losses import step_powers, step_weights


class StepErrors(NamedTuple):
    """Open-loop predictions on windows and their errors at each step.

    Attributes:
        context: what the model looked up of the windows' tasks.
        latent: predictions from the first observation on, `[B, H+1, D]`.
        target: encodings of the later observations, without gradient, `[B, H, D]`.
        consistency: squared latent error, `[B, H, 1]`.
        reward: error of the reward head, `[B, H, 1]`.
        termination: cross entropy of predicted ends `[B, H, 1]`; None if the model predicts none.
    """

    context: Context
    latent: Tensor
    target: Tensor
    consistency: Tensor
    reward: Tensor
    termination: Tensor | None


@checked(model=has(TrainableModel), batch=WINDOWS)
def step_errors(model: TrainableModel, batch: TensorDictBase) -> StepErrors:
    r"""Unroll a world model from the first observation of windows and compare with the rest.

    .. math:: z_0 = enc(o_0), \quad z_{t+1} = dyn(z_t, a_t), \quad
        C_t = \|z_{t+1} - sg(enc(o_{t+1}))\|^2 / D, \quad R_t = \ell(rew(z_t, a_t), r_t)

    Args:
        model: a `WorldModel`, or a module with `encode`, `next`, `reward_logits` and
            `reward_error`.
        batch: `[B]` with observation `[B, H+1, O]`, action `[B, H, A]`, reward `[B, H, 1]`, task
            `[B]` and, for an episodic model, terminated `[B, H, 1]`.

    Returns:
        Predictions and errors.

    Raises:
        ValueError: if shapes of the windows do not fit, terminated is missing, or the model has a
            memory, whose latents these predictions do not use.
    """
    if has_memory(model):
        raise ValueError("model must be trained by a loss of its own, got one with memory")
    observation, action, reward = batch[keys.OBSERVATION], batch[keys.ACTION], batch[keys.REWARD]
    task = task_ids(model, batch)
    _check_windows(observation, action, reward, task)
    horizon = action.shape[1]
    context = looked_up(model, task)
    with torch.no_grad():
        later = None if task is None else task.unsqueeze(-1).expand(-1, horizon)
        target = model.encode(observation[:, 1:], later)
    latents = [model.encode(observation[:, 0], task)]
    for t in range(horizon):
        latents.append(model.next(latents[-1], action[:, t], context))
    latent, wide = torch.stack(latents, 1), with_time(context)
    consistency = (latent[:, 1:] - target).square().mean(-1, keepdim=True)
    logits = model.reward_logits(latent[:, :-1], action, wide)
    ends = None
    if is_episodic(model):
        truth = batch.get(keys.TERMINATED, None)
        if truth is None:
            raise ValueError("batch must hold terminated for an episodic model, got none")
        if truth.shape != reward.shape:
            raise ValueError(
                f"terminated must have shape {list(reward.shape)}, got {list(truth.shape)}"
            )
        own: Any = model
        odds = own.termination_logits(latent[:, 1:], wide)
        ends = F.binary_cross_entropy_with_logits(odds, truth.to(odds), reduction="none")
    reward_error = model.reward_error(logits, reward)
    return StepErrors(context, latent, target, consistency, reward_error, ends)


def _check_windows(
    observation: Tensor, action: Tensor, reward: Tensor, task: Tensor | None
) -> None:
    """Raise ValueError unless windows are `[B, H+1, O]`, `[B, H, A]`, `[B, H, 1]` and `[B]`."""
    if observation.dim() != 3 or action.dim() != 3 or not action.shape[1]:
        raise ValueError(
            "observation and action must have shapes [B, H+1, O] and [B, H, A] with H >= 1, got "
            f"{list(observation.shape)} and {list(action.shape)}"
        )
    count, horizon = action.shape[:2]
    if observation.shape[:2] != (count, horizon + 1) or reward.shape[:2] != (count, horizon):
        raise ValueError(
            "batch must hold H+1 observations, H actions and H rewards, got "
            f"{observation.shape[1]}, {horizon} and {reward.shape[1:2].numel()} in shapes "
            f"{[list(x.shape) for x in (observation, action, reward)]}"
        )
    if reward.shape != (count, horizon, 1):
        raise ValueError(f"reward must have shape {[count, horizon, 1]}, got {list(reward.shape)}")
    if task is not None and task.shape != (count,):
        raise ValueError(f"task must have shape [{count}], got {list(task.shape)}")


def task_ids(model: TrainableModel, batch: TensorDictBase) -> Tensor | None:
    """Return the task ids `[B]` of a batch, or None for a model without tasks."""
    return batch.get(keys.TASK, None) if num_tasks(model) else None


@checked(model=has(TrainableModel), batch=WINDOWS, rho=in_unit)
def world_model_errors(
    model: TrainableModel, batch: TensorDictBase, rho: float = 0.5
) -> tuple[Tensor, Tensor]:
    r"""Open-loop errors of a world model on windows of data, per window.

    .. math:: C = \sum_t w_t C_t, \quad R = \sum_t w_t R_t, \quad w_t = \rho^t / \sum_s \rho^s

    Args:
        model: see `step_errors`, which has `C_t` and `R_t`.
        batch: see `step_errors`.
        rho: weight of each step relative to the one before, in (0, 1].

    Returns:
        Consistency `[B, 1]` and reward error `[B, 1]`.

    Raises:
        ValueError: if lengths of the windows do not fit.

    Source: TD-MPC2 eq. 3-4 without the value terms; PWM section 4.1.
    """
    errors = step_errors(model, batch)
    weights = step_weights(errors.target.shape[1], rho, errors.reward)
    return (errors.consistency * weights).sum(1), (errors.reward * weights).sum(1)


@checked(
    model=has(TrainableModel),
    batch=WINDOWS,
    rho=in_unit,
    consistency=least(0.0),
    reward=least(0.0),
    termination=least(0.0),
    reward_weight=(shaped(None), anywhere),
)
def world_model_loss(
    model: TrainableModel,
    batch: TensorDictBase,
    *,
    rho: float = 0.5,
    consistency: float = 20.0,
    reward: float = 0.1,
    termination: float = 1.0,
    reward_weight: Tensor | None = None,
) -> Tensor:
    """Weighted sum of consistency, reward and termination errors, averaged over the windows.

    Args:
        model: see `step_errors`.
        batch: see `step_errors`.
        rho: weight of each step relative to the one before.
        consistency: coefficient of the latent error.
        reward: coefficient of the reward error.
        termination: coefficient of an episodic model's error about ends.
        reward_weight: further weights of the reward error per task, `[K]`, indexed by the batch's
            task ids. One over the variance of a task's rewards keeps small rewards from vanishing
            beside large ones.

    Returns:
        Scalar loss.

    Source: TD-MPC2 eq. 3: coefficients 20 and 0.1, rho 0.5 (PWM's pre-training: 0.99).
    """
    errors = step_errors(model, batch)
    reward_error = errors.reward
    if reward_weight is not None:
        if keys.TASK not in batch.keys():  # noqa: SIM118 - it iterates over rows
            raise ValueError("batch must hold task for reward_weight, got none")
        reward_error = reward_error * reward_weight[batch[keys.TASK]].view(-1, 1, 1)
    total = consistency * errors.consistency + reward * reward_error
    if errors.termination is not None:
        total = total + termination * errors.termination
    return (total * step_weights(total.shape[1], rho, total)).sum(1).mean()


@checked(model=has(TrainableModel), batch=WINDOWS, gamma=in_unit)
def pwm_model_loss(
    model: TrainableModel, batch: TensorDictBase, *, gamma: float = 0.99
) -> tuple[Tensor, Tensor]:
    r"""PWM's own two terms, for the world model of a single task or for fine-tuning.

    .. math:: \frac{1}{H} \sum_t \gamma^t C_t, \quad \frac{1}{H^2} \sum_t \gamma^t R_t

    averaged over the windows; their sum is the loss. The reward term is divided by H twice, as
    published. `R_t` is the model's own reward error: squared for a scalar head, two-hot cross
    entropy for bins.

    Args:
        model: see `step_errors`, which has `C_t` and `R_t`.
        batch: see `step_errors`.
        gamma: weight of each step relative to the one before.

    Returns:
        Dynamics loss and reward loss, scalars.

    Source: PWM (arXiv 2407.02466), its program, single-task training. Differs: the program takes
    squared errors of the bins' logits while fine-tuning several tasks, which trains no
    distribution.
    """
    errors = step_errors(model, batch)
    horizon = errors.target.shape[1]
    weights = step_powers(horizon, gamma, errors.reward)
    dynamics = (errors.consistency * weights).sum(1).mean() / horizon
    return dynamics, (errors.reward * weights).mean() / horizon
