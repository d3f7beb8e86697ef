"""Random numbers of a planner, in one place, so that they can be replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pwm_sdk.contract.policies import Policy, SampledPolicy, is_sampled, is_stochastic


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


def sample_action(policy: Policy | SampledPolicy, seen: Tensor, draws: Draws) -> Tensor:
    """Draw actions of a policy.

    Args:
        policy: an object with `action_dim` and `sample(latent, noise)`, a `StochasticPolicy`, or
            any callable from latents to actions, whose own action is taken.
        seen: latents `[.., D]`.
        draws: source of the noise.

    Returns:
        Actions `[.., A]`.
    """
    own: Any = policy
    if is_sampled(policy):
        return own.sample(seen, draws.normal((*seen.shape[:-1], own.action_dim), seen))
    if is_stochastic(policy):
        noise = draws.normal((*seen.shape[:-1], own.action_dim), seen)
        return own.squash(own.loc(seen), noise)
    return own(seen)
