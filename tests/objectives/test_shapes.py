"""Losses refuse what would broadcast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict

from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.objectives.policy import behaviour_loss, critic_loss
from pwm_sdk.objectives.world_model import step_errors


def windows(**changes: Any) -> TensorDict:
    shapes = {"observation": (8, 5, 3), "action": (8, 4, 1), "reward": (8, 4, 1)} | changes
    return TensorDict({name: torch.rand(shape) for name, shape in shapes.items()}, [8])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": (8, 4)}, r"reward must have shape \[8, 4, 1\], got \[8, 4\]"),
        ({"reward": (8, 4, 4)}, r"reward must have shape \[8, 4, 1\], got \[8, 4, 4\]"),
        ({"reward": (8, 3, 1)}, "H actions and H rewards, got 5, 4 and 3"),
        ({"action": (8, 4)}, r"observation and action must have shapes .* and \[8, 4\]"),
    ],
)
def test_windows_have_full_shapes(changes: Any, message: str) -> None:
    model = WorldModel.published(3, 1, num_bins=0, latent_dim=8, hidden=(8,), encoder_hidden=(8,))
    assert step_errors(model, windows()).reward.shape == (8, 4, 1)
    with pytest.raises(ValueError, match=message):
        step_errors(model, windows(**changes))


def test_ends_and_tasks_of_windows_have_full_shapes() -> None:
    model = WorldModel.published(
        3, 1, num_tasks=2, task_dim=2, latent_dim=8, hidden=(8,), encoder_hidden=(8,), episodic=True
    )
    batch = windows(terminated=(8, 4)).set("task", torch.zeros(8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"terminated must have shape \[8, 4, 1\], got \[8, 4\]"):
        step_errors(model, batch)
    batch["task"] = torch.zeros(8, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"task must have shape \[8\], got \[8, 1\]"):
        step_errors(model, batch)


def test_weights_of_the_critic_s_states_have_the_targets_shape() -> None:
    critic, latents, targets = Critic.published(16, (8,)), torch.rand(8, 16), torch.rand(8, 1)
    assert critic_loss(critic, latents, targets, torch.ones(8, 1)).shape == ()
    with pytest.raises(ValueError, match=r"weight must have shape \[8, 1\], got \[8\]"):
        critic_loss(critic, latents, targets, torch.ones(8))


@pytest.mark.parametrize("shape", [(8, 2), (8,)])
def test_actions_to_clone_have_the_policy_s_shape(shape: tuple[int, ...]) -> None:
    actor, latents = FirstOrderActor.published(16, 1, (8,)), torch.rand(8, 16)
    with pytest.raises(ValueError, match=r"actions must have shape \[8, 1\], got \[8"):
        behaviour_loss(actor, latents, torch.rand(shape))
