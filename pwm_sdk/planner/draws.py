"""Random numbers of a planner, in one place, so that they can be replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pwm_sdk.contract.policies import is_stochastic


class Draws:
    """The random numbers of a planner, in the order in which it asks for them.

    Args:
        generator: their source; None: torch's global generator.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw standard-normal numbers on the device of `like`."""
        return torch.randn(
            tuple(shape), dtype=like.dtype, device=like.device, generator=self.generator
        )

    def exponential(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw from the exponential distribution of rate 1 on the device of `like`."""
        return torch.empty(tuple(shape), dtype=like.dtype, device=like.device).exponential_(
            generator=self.generator
        )


def sample_action(policy: Any, seen: Tensor, draws: Draws) -> Tensor:
    """Draw actions of a policy.

    Args:
        policy: an object with `action_dim` and `sample(latent, noise)`, a `StochasticPolicy`, or
            any callable from latents to actions, whose own action is taken.
        seen: latents `[.., D]`.
        draws: source of the noise.

    Returns:
        Actions `[.., A]`.
    """
    if hasattr(policy, "sample"):
        return policy.sample(seen, draws.normal((*seen.shape[:-1], policy.action_dim), seen))
    if is_stochastic(policy):
        noise = draws.normal((*seen.shape[:-1], policy.action_dim), seen)
        return policy.squash(policy.loc(seen), noise)
    return policy(seen)
