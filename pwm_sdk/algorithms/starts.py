"""What an update of imagined policies reads from its batch, its parts and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.calls import checked
from pwm_sdk.contract.policies import population_of


def starts_of(
    batch: TensorDictBase | Mapping[str, Tensor], population: int | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return observations, tasks and actions (None where the batch has none) of the starts.

    Args:
        batch: windows `[B]` (observation `[B, H+1, O]`), or starts `[B]` or `[P, B]`.
        population: P, or None for one policy.

    Raises:
        ValueError: for observations that are missing, empty or do not fit the population, or tasks
            that do not fit them.
    """
    names = (keys.OBSERVATION, keys.TASK, keys.ACTION)
    observation, task, action = found = [batch.get(name, None) for name in names]
    for name, value in zip(names, found, strict=True):
        if not isinstance(value, Tensor | None):
            raise ValueError(f"{name} of batch must be a tensor, got {type(value).__name__}")
    if observation is None:
        raise ValueError(f"batch must hold observation, got {sorted(map(str, batch.keys()))}")
    given = list(observation.shape)
    if population is None and observation.dim() == 3:
        observation, action = observation[:, 0], None if action is None else action[:, 0]
    if population is None and observation.dim() != 2:
        raise ValueError(f"observation must have shape [B, O] or [B, H+1, O], got {given}")
    if population is not None and (observation.dim() != 3 or observation.shape[0] != population):
        raise ValueError(f"observation must have shape [{population}, B, O], got {given}")
    lead = observation.shape[:-1]
    if 0 in lead:
        raise ValueError(f"batch must hold at least one start, got observations {given}")
    if task is not None and task.shape != lead:
        raise ValueError(
            f"task must have shape {list(lead)} beside observations {given}, got {list(task.shape)}"
        )
    return observation, task, action


def taken_at(batch: TensorDictBase | Mapping[str, Tensor], population: int | None) -> Tensor | None:
    """Weights of the actions that `starts_of` returns, `[.., 1]`: 0 where none was taken.

    None where the batch does not say: all were.
    """
    real = batch.get(keys.REAL, None)
    if real is None:
        return None
    if population is None and real.dim() == 3:
        real = real[:, 0]
    return real.to(batch[keys.OBSERVATION].dtype)


def check_parts(model: Any, actor: Any, critic: Any, return_scale: Any) -> None:
    """Check that critic and return scale are of the actor's population and see what it sees.

    Raises:
        ValueError: if they do not.
    """
    population = population_of(actor)
    of_critic = population_of(critic)
    if of_critic != population:
        raise ValueError(f"critic must have the actor's population {population}, got {of_critic}")
    policies = getattr(return_scale, "policies", population or 1)
    if policies != (population or 1):
        raise ValueError(
            f"return_scale must be of the actor's population {population}, got one of {policies}"
        )
    seen = None if hasattr(model, "features") else getattr(model, "latent_dim", None)
    for name, part in (("actor", actor), ("critic", critic)):
        size = getattr(part, "latent_dim", None)
        seen = size if seen is None else seen
        if size not in (None, seen):
            raise ValueError(f"{name} must take latents of size {seen}, got {size}")


def real_actions(model: Any, actor: Any, task: Tensor | None) -> Tensor | None:
    """Mask of the actions that exist, broadcastable to `[.., B, H, A]`; None: all do."""
    mask = getattr(actor, "action_mask", None)
    if mask is not None:
        return mask if population_of(actor) is None else mask.unsqueeze(1)
    if hasattr(model, "context"):
        mask = getattr(model.context(task), "action_mask", None)
    if mask is None:
        return None
    mask = mask[..., : actor.action_dim]
    return mask.unsqueeze(-2) if mask.dim() > 1 else mask


@checked()
def discount_of(
    gamma: float | Sequence[float], population: int | None, device: torch.device
) -> float | Tensor:
    """Return one discount, or those of P policies as a tensor `[P]`.

    Raises:
        ValueError: for discounts outside [0, 1], or another number of them than policies.
    """
    values = [gamma] if isinstance(gamma, (int, float)) else list(gamma)
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"gamma must lie in [0, 1], got {gamma}")
    if isinstance(gamma, (int, float)):
        return float(gamma)
    if len(values) != population:
        raise ValueError(
            f"gamma must be one number or one per policy ({population}), got {len(values)}"
        )
    return torch.tensor(values, device=device)
