"""What simulators share whose state is all that a policy sees."""

from __future__ import annotations

import torch
from torch import Tensor

from pwm_sdk.calls import checked


@checked()
class OwnState:
    """A simulator whose state `[.., D]` is its own observation, D = O."""

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the observation `[.., O]`, which is the state."""
        return observation

    def features(self, latent: Tensor) -> Tensor:
        """Return the state `[.., D]`, which is the observation."""
        return latent


def check_finite(state: Tensor) -> None:
    """Check a state that a step led to.

    Raises:
        ValueError: if an entry is NaN or infinite.
    """
    if not state.is_meta and not bool(torch.isfinite(state.detach()).all()):
        raise ValueError("latent must stay finite, got a state that turned NaN or infinite")
