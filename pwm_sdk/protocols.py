"""What may be swapped: the latent model, the policy and the value function.

Nothing has to be subclassed. Any object with these attributes and methods takes part;
`pwm_sdk.check_latent_model` checks the first one for you.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor


@runtime_checkable
class LatentModel(Protocol):
    """A differentiable model of the environment in a latent space of the model's choice.

    Attributes:
        latent_dim: D, size of a latent.
        action_dim: A, size of an action; actions lie in [-1, 1].
    """

    latent_dim: int
    action_dim: int

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Map observations `[.., O]` (and task ids `[..]`) to latents `[.., D]`."""
        ...

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Advance one step.

        Args:
            latent: `[.., D]`.
            action: `[.., A]` in [-1, 1].
            task: `[..]` int64, or None for a model without tasks.

        Returns:
            Next latent `[.., D]`, reward `[.., 1]` and, for models that can end an episode,
            terminated `[.., 1]` bool.
        """
        ...

    # Optional: features(latent) -> what policies and values see, [.., F]; without it, the latent.


@runtime_checkable
class SimulatorModel(LatentModel, Protocol):
    """A latent model that is itself the environment: true dynamics that can start episodes.

    Its latent is the simulator's state. Policies and values see `features(latent)`.

    Attributes:
        observation_dim: O, size of the features.
        episode_length: agent steps until an episode is truncated.
    """

    observation_dim: int
    episode_length: int

    def features(self, latent: Tensor) -> Tensor:
        """Return the observation `[.., O]` of states `[.., D]`."""
        ...

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` start states `[count, D]`."""
        ...


def features(model: Any, latent: Tensor) -> Tensor:
    """Return what policies and values see of a model's latents.

    Args:
        model: a `LatentModel`, with `features(latent)` where its latent is not what they should
            see, as the raw state of a simulator.
        latent: `[.., D]`.

    Returns:
        `[.., F]`; the latent itself where the model has no features.
    """
    return model.features(latent) if hasattr(model, "features") else latent


def padded(name: str, value: Tensor, size: int, model: Any) -> Tensor:
    """Append the zeros by which a model of several tasks is wider than one of them.

    Args:
        name: what the value is, for messages.
        value: `[.., X]`.
        size: the model's size of it.
        model: one of tasks (`num_tasks > 0`) takes narrower values, no other does.

    Returns:
        `[.., size]`.

    Raises:
        ValueError: for a value that is wider, or narrower without tasks.
    """
    missing = size - value.shape[-1]
    if missing < 0 or (missing and not getattr(model, "num_tasks", 0)):
        raise ValueError(f"{name} must have the model's size {size}, got {list(value.shape)}")
    return F.pad(value, (0, missing)) if missing else value


@runtime_checkable
class Policy(Protocol):
    """Anything that maps what it sees `[.., D]` to an action `[.., A]` in [-1, 1]."""

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the deterministic action."""
        ...


@runtime_checkable
class StochasticPolicy(Policy, Protocol):
    """A policy that can be reparametrised: action = squash(loc(latent), noise)."""

    action_dim: int

    def loc(self, latent: Tensor) -> Tensor:
        """Return the mean before squashing, `[.., A]`."""
        ...

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the action of mean `loc` and standard-normal `noise`, both `[.., A]`."""
        ...


@runtime_checkable
class ValueFunction(Protocol):
    """Anything that maps latents `[.., D]` to expected discounted returns `[.., 1]`."""

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the value."""
        ...
