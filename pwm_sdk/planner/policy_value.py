"""The value of a policy, read from a Q function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pwm_sdk.calls import acts, checked, has
from pwm_sdk.contract.policies import (
    ActionValue,
    Policy,
    SampledPolicy,
    TaskActionValue,
    TaskPart,
    given,
    given_draws,
)
from pwm_sdk.functional.context import Context
from pwm_sdk.planner.draws import Draws, sample_action


@checked(q=acts, policy=acts, draws=has("normal", "exponential"))
class PolicyValue:
    """The value of a policy by a Q function: V(z) = Q(z, a), a drawn from the policy.

    Args:
        q: callable from latents `[.., D]` and actions `[.., A]` to values `[.., 1]`, or an object
            whose `given(context, generator)` is one, as a `QEnsemble`: the generator is for what it
            draws.
        policy: as for `MPPI`.
        generator: source of all draws; None: the planner's, or torch's global one outside of plans.

    Source: TD-MPC2 (arXiv 2310.16828), section 3.2: the end of a candidate.
    """

    def __init__(
        self,
        q: ActionValue | TaskActionValue,
        policy: Policy | SampledPolicy | TaskPart,
        generator: torch.Generator | None = None,
    ) -> None:
        self.q: Any = q
        self.policy: Any = policy
        self._draws = None if generator is None else Draws(generator)

    def given(self, context: Context, draws: Any = None) -> PolicyValue:
        """Return the same of looked-up tasks.

        Args:
            context: what the model looked up of the tasks, or their ids.
            draws: `Draws` of the planner, where this value has no generator of its own.
        """
        draws = draws if self._draws is None and draws is not None else self._drawn()
        q = given_draws(self.q, context, draws.generator)
        bound = PolicyValue(q, given(self.policy, context))
        bound._draws = draws
        return bound

    def __call__(self, latent: Tensor) -> Tensor:
        """Return values `[.., 1]` of latents `[.., D]`."""
        return self.q(latent, sample_action(self.policy, latent, self._drawn()))

    def _drawn(self) -> Draws:
        return Draws() if self._draws is None else self._draws
