"""The value of a policy, read from a Q function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pwm_sdk.functional.context import given
from pwm_sdk.planner.draws import Draws, sample_action


class PolicyValue:
    """The value of a policy by a Q function: V(z) = Q(z, a), a drawn from the policy.

    Args:
        q: callable from latents `[.., D]` and actions `[.., A]` to values `[.., 1]`, or an object
            whose `given(context)` is one.
        policy: as for `MPPI`.
        generator: source of the actions' noise.

    Source: TD-MPC2 (arXiv 2310.16828), section 3.2: the end of a candidate.
    """

    def __init__(self, q: Any, policy: Any, generator: torch.Generator | None = None) -> None:
        self.q, self.policy, self._draws = q, policy, Draws(generator)

    def given(self, context: Any) -> PolicyValue:
        """Return the same of looked-up tasks."""
        bound = PolicyValue(given(self.q, context), given(self.policy, context))
        bound._draws = self._draws
        return bound

    def __call__(self, latent: Tensor) -> Tensor:
        """Return values `[.., 1]` of latents `[.., D]`."""
        return self.q(latent, sample_action(self.policy, latent, self._draws))
