"""A simulator in which policies on the latents of a world model act."""

from __future__ import annotations

from torch import Tensor

from pwm_sdk.calls import checked
from pwm_sdk.contract.memory import has_memory
from pwm_sdk.contract.models import LatentModel, SimulatorModel, features


class EncodedSimulator:
    """A simulator seen through a world model's encoder, as a `LatentModel`.

    A policy on the world model's latents can then act, and be differentiated, in both: steps and
    rewards are the simulator's, and `features` are the encodings of its observations.

    Args:
        simulator: the dynamics; its latent stays the latent.
        encoder: a `LatentModel` of one task, whose `encode` maps the simulator's observations.

    Raises:
        ValueError: if the encoder has a memory.
    """

    @checked()
    def __init__(self, simulator: SimulatorModel, encoder: LatentModel) -> None:
        if has_memory(encoder):  # a state of the simulator does not tell what was seen before it
            raise ValueError("encoder must have no memory, got a model with observe")
        self.simulator, self.encoder = simulator, encoder
        self.latent_dim, self.action_dim = simulator.latent_dim, simulator.action_dim

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the simulator's states `[.., D]` of what its own `encode` takes."""
        return self.simulator.encode(observation, task)

    def features(self, latent: Tensor) -> Tensor:
        """Return the world model's latents of states `[.., D]`."""
        return self.encoder.encode(features(self.simulator, latent))

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Advance the simulator one step."""
        return self.simulator.step(latent, action, task)
