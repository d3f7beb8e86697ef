"""The checker of latent models accepts a good one and names what a bad one breaks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.models.disagreement import Disagreement
from pwm_sdk.models.world_model import WorldModel

OBSERVATION = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))


class Good:
    """z' = z + (a, 0), reward -|z'|^2; each case below breaks one thing."""

    latent_dim, action_dim = 2, 1

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        following = latent + torch.cat([action, 0 * action], -1)
        return following, -following.square().sum(-1, keepdim=True)


def broken(**changes: object) -> Good:
    """Return an instance of a `Good` with some members replaced."""
    return type("Broken", (Good,), changes)()


def after_step(change) -> Good:
    """Return a `Good` whose step's result passes through `change`."""
    return broken(step=lambda self, z, a, task=None: change(*Good.step(self, z, a, task)))


def test_accepts_models_that_keep_the_contract() -> None:
    check_latent_model(Good(), OBSERVATION)
    ends = after_step(lambda z, r: (z, r, z[:, :1] > 0))
    check_latent_model(ends, OBSERVATION)
    check_latent_model(
        broken(features=lambda self, z: z.square().sum(-1, keepdim=True)), OBSERVATION
    )


@pytest.mark.parametrize("num_tasks", [0, 3])
def test_accepts_the_world_model_and_its_guard(num_tasks: int) -> None:
    model = WorldModel.published(
        2, 2, num_tasks=num_tasks, latent_dim=8, hidden=(16,), encoder_hidden=(16,), task_dim=4
    )
    torch.nn.init.normal_(model.reward_head[-1].weight)
    task = torch.tensor([0, 1, 2, 0]) if num_tasks else None
    check_latent_model(model, OBSERVATION, task)
    check_latent_model(Disagreement(model, heads=1), OBSERVATION, task)


CASES = {
    r"model.latent_dim must be an int, got None": broken(latent_dim=None),
    r"model.action_dim must be an int, got '1'": broken(action_dim="1"),
    r"model.step must be a method, got 3": broken(step=3),
    r"encode\(observation\) must have shape \[4, 2\], got \[4, 1\]": broken(
        encode=lambda self, o, task=None: o[:, :1]
    ),
    r"encode\(observation\) must be finite": broken(encode=lambda self, o, task=None: o / 0),
    r"step must return \(latent, reward\) or": after_step(lambda z, r: [z, r]),
    r"next latent must have shape \[4, 2\], got \[4, 1\]": after_step(lambda z, r: (z[:, :1], r)),
    r"reward must have shape \[4, 1\], got \[4\]": after_step(lambda z, r: (z, r[:, 0])),
    r"reward must be finite": after_step(lambda z, r: (z, r * float("nan"))),
    r"terminated must have shape \[4, 1\], got \[4\]": after_step(lambda z, r: (z, r, r[:, 0] > 0)),
    r"terminated must be bool, got torch.float32": after_step(lambda z, r: (z, r, r)),
    r"next latent must be differentiable": after_step(lambda z, r: (z.detach(), r)),
    r"reward must be differentiable": after_step(lambda z, r: (z, r.detach())),
    r"next latent must depend differentiably on action": broken(
        step=lambda self, z, a, task=None: Good.step(self, z, a.detach(), task)
    ),
    r"next latent must depend differentiably on latent": broken(
        step=lambda self, z, a, task=None: Good.step(self, z.detach(), a, task)
    ),
    r"features\(latent\) must have shape \[4, 1\], got \[1\]": broken(
        features=lambda self, z: z.sum().reshape(1)
    ),
    r"features\(latent\) must be differentiable": broken(features=lambda self, z: z.detach()),
    r"step must take latent, action, task by position": broken(step=lambda self, z, a, *, task: z),
    r"encode must take observation, task by position": broken(encode=lambda self, o: o),
    r"step must treat rows independently": after_step(lambda z, r: (z - z.mean(0), r)),
}


@pytest.mark.parametrize("message", CASES)
def test_names_what_is_broken(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_latent_model(CASES[message], OBSERVATION)


def test_one_observation_is_not_enough() -> None:
    with pytest.raises(ValueError, match=r"observation must have shape \[B, O\] with B >= 2"):
        check_latent_model(Good(), OBSERVATION[:1])
