"""What an update of imagined policies reads from its batch, its parts and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.calls import checked
from pwm_sdk.contract.memory import observed_latents
from pwm_sdk.contract.models import LatentModel, looked_up, sees_features
from pwm_sdk.contract.parts import Scale, policies_of
from pwm_sdk.contract.policies import (
    EnsembleValue,
    StochasticPolicy,
    action_mask_of,
    latent_size,
    population_of,
)


class Window(NamedTuple):
    """What a model with memory has to see before imagination starts.

    Attributes:
        observation: `[.., T, O]`.
        action: that followed on the rows, `[.., T-1, A]` or `[.., T, A]`.
        first: rows before which nothing was seen, `[.., T, 1]` bool; None: the first row.
        last: number of the row to start from, `[..]` int64; None: the last one.
    """

    observation: Tensor
    action: Tensor
    first: Tensor | None
    last: Tensor | None


def start_latents(model: LatentModel, seen: Tensor | Window, task: Tensor | None) -> Tensor:
    """Return the latents `[.., D]` of what `starts_of` returns, with all that came before them."""
    if not isinstance(seen, Window):
        return model.encode(seen, task)
    latents = observed_latents(model, seen.observation, seen.action, task, seen.first)
    if seen.last is None:
        return latents[..., -1, :]
    place = seen.last[..., None, None].expand(*seen.last.shape, 1, latents.shape[-1])
    return latents.gather(-2, place).squeeze(-2)


def starts_of(
    batch: TensorDictBase | Mapping[str, Tensor], population: int | None, memory: bool = False
) -> tuple[Any, Tensor | None, Tensor | None]:
    """Return observations, tasks and actions (None where the batch has none) of the starts.

    Args:
        batch: windows `[B]` (observation `[B, H+1, O]`), or starts `[B]` or `[P, B]`, with a
            history for a model with memory (observation `[.., C+1, O]`).
        population: P, or None for one policy.
        memory: the model has one: a `Window` comes back in place of observations, where there is
            one, and imagination starts where it ends, or an episode in it does.

    Raises:
        ValueError: if observations are missing, empty or do not fit the population, or tasks do not
            fit them.
    """
    names = (keys.OBSERVATION, keys.TASK, keys.ACTION)
    found: list[Any] = [batch.get(name, None) for name in names]
    observation, task, action = found
    for name, value in zip(names, found, strict=True):
        if not isinstance(value, Tensor | None):
            raise ValueError(f"{name} of batch must be a tensor, got {type(value).__name__}")
    if observation is None:
        raise ValueError(f"batch must hold observation, got {sorted(map(str, batch.keys()))}")
    given = list(observation.shape)
    window = memory and observation.dim() == (3 if population is None else 4)
    seen = _window(batch, observation, action) if window else None
    if window:
        observation = observation[..., 0, :]
        # windows do not hold the action that was taken where they end
        if action is not None:
            action = action[..., -1, :] if action.shape[-2] == given[-2] else None
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
    return observation if seen is None else seen, task, action


def _window(
    batch: TensorDictBase | Mapping[str, Tensor], observation: Tensor, action: Tensor | None
) -> Window:
    """Return what a model with memory has to see of a batch."""
    rows, lead = observation.shape[-2], observation.shape[:-2]
    if action is None or action.shape[:-2] != lead or action.shape[-2] not in (rows - 1, rows):
        raise ValueError(
            f"batch must hold {rows - 1} actions beside {rows} observations, for a model with "
            f"memory, got {None if action is None else list(action.shape)}"
        )
    real, ended = batch.get(keys.REAL, None), batch.get(keys.TERMINATED, None)
    steps, last = (*lead, rows - 1, 1), None
    for going in (real, None if ended is None else ~ended):
        if going is not None and going.shape == steps:
            last = going if last is None else last & going
    last = None if last is None else last.long().cumprod(-2).sum((-2, -1))
    return Window(observation, action, batch.get(keys.FIRST, None), last)


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


def check_parts(
    model: LatentModel, actor: StochasticPolicy, critic: EnsembleValue, return_scale: Scale | None
) -> None:
    """Check that critic and return scale are of the actor's population and see what it sees.

    Raises:
        ValueError: if they do not.
    """
    population = population_of(actor)
    of_critic = population_of(critic)
    if of_critic != population:
        raise ValueError(f"critic must have the actor's population {population}, got {of_critic}")
    policies = policies_of(return_scale)
    if policies not in (None, population or 1):
        raise ValueError(
            f"return_scale must be of the actor's population {population}, got one of {policies}"
        )
    seen = None if sees_features(model) else latent_size(model)
    for name, part in (("actor", actor), ("critic", critic)):
        size = latent_size(part)
        seen = size if seen is None else seen
        if size not in (None, seen):
            raise ValueError(f"{name} must take latents of size {seen}, got {size}")


def real_actions(model: LatentModel, actor: StochasticPolicy, task: Tensor | None) -> Tensor | None:
    """Mask of the actions that exist, broadcastable to `[.., B, H, A]`; None: all do."""
    mask = action_mask_of(actor)
    if mask is not None:
        return mask if population_of(actor) is None else mask.unsqueeze(1)
    mask = action_mask_of(looked_up(model, task))
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
        ValueError: if discounts lie outside [0, 1], or there are not as many as policies.
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
