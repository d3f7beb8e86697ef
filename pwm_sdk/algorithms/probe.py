"""A look at a simulator's slopes before a policy learns from them."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pwm_sdk.contract.models import features
from pwm_sdk.contract.parts import StartingModel
from pwm_sdk.functional.gradients import slopes

ROWS, STEPS = 4, 4


@torch.enable_grad()
def probe_slopes(model: StartingModel, states: Tensor) -> None:
    """Check that a simulator's step keeps the graph and that its reward has a slope.

    One step of one row tells, where its reward has a gradient; otherwise up to `ROWS` rows take
    `STEPS` random steps each. Draws neither start states nor from torch's generators.

    Args:
        model: a `SimulatorModel`.
        states: start states `[B, D]`.

    Raises:
        ValueError: if a next state or a reward has no gradient, or a reward changes from step to
            step though its gradient is zero at every one, as that of a threshold.

    Warns:
        UserWarning: where all rewards are equal and without a gradient: flat here, at least.
    """
    if states.is_meta:  # there are no numbers to look at
        return
    generator = torch.Generator("cpu").manual_seed(0)
    rewards = []
    for state in states.detach()[:ROWS].split(1):
        for _ in range(STEPS):
            drawn = torch.rand(1, model.action_dim, generator=generator, device="cpu") * 2.0 - 1.0
            action = drawn.to(features(model, state)).requires_grad_()
            state = state.requires_grad_()
            next_latent, reward, *_ = model.step(state, action)
            given = {"action": action, "latent": state}
            slopes("next latent", next_latent, given)
            if any(bool((s != 0).any()) for s in slopes("reward", reward, given, any_of=True)):
                return
            rewards.append(float(reward.detach()))
            state = next_latent.detach()
    seen = f"the gradient 0 by state and action in all of {len(rewards)} steps"
    advice = "let it rise towards its goal, for example over a margin"
    if len(set(rewards)) > 1:
        raise ValueError(f"reward must have a slope, got steps and {seen}; {advice}")
    message = f"reward should have a slope, got {rewards[0]:g} and {seen}; {advice}"
    warnings.warn(message, stacklevel=4)
