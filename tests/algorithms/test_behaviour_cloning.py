"""Behaviour cloning: finds a linear policy, uses every pair of a window, leaves the model alone."""

from __future__ import annotations

import copy

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.behaviour_cloning import BehaviourCloning, BehaviourCloningConfig
from pwm_sdk.data.replay import ReplayBuffer, make_episode
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.policy_prior import PolicyPrior
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.training.loop import fit


def linear_policy(observation: Tensor) -> Tensor:
    return observation @ torch.tensor([[0.5], [-0.25]])


def test_finds_the_policy_behind_the_data() -> None:
    replay = ReplayBuffer(1000, slice_len=4, batch_size=16, seed=0)
    for _ in range(5):
        observation = torch.rand(31, 2) * 2 - 1
        replay.add(make_episode(observation, linear_policy(observation[:-1]), torch.ones(30), 0))
    cloning = BehaviourCloning(nn.Linear(2, 1), BehaviourCloningConfig(lr=3e-2))
    metrics = fit(cloning, replay, 300)
    assert metrics["loss"] < 1e-4
    torch.testing.assert_close(
        cloning.actor.weight.detach(), torch.tensor([[0.5, -0.25]]), atol=0.02, rtol=0.0
    )
    seen = torch.rand(4, 2)
    torch.testing.assert_close(cloning(seen), linear_policy(seen), atol=0.03, rtol=0.0)


def test_loss_of_a_window_is_the_mean_over_its_pairs() -> None:
    actor = nn.Linear(2, 1)
    nn.init.zeros_(actor.weight)
    nn.init.zeros_(actor.bias)
    window = TensorDict(
        {"observation": torch.randn(1, 3, 2), "action": torch.tensor([[[1.0], [3.0]]])}, [1]
    )
    loss = BehaviourCloning(actor).update(window)["loss"]
    torch.testing.assert_close(loss, torch.tensor(5.0))  # (1 + 9) / 2


class Featured:
    """A model whose policies see the square of its latent."""

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation + 1.0

    def features(self, latent: Tensor) -> Tensor:
        return latent.square()


def test_the_actor_learns_from_what_it_sees_when_it_acts() -> None:
    cloning = BehaviourCloning(nn.Linear(2, 1), model=Featured())
    seen = torch.randn(4, 2)
    acted = cloning.policy().behaviour([None] * 4).actions(seen)
    loss = cloning.update(TensorDict({"observation": seen, "action": acted}, [4]))["loss"]
    torch.testing.assert_close(loss, torch.zeros(()))


class Summing:
    """A model whose latent is the sum of what was seen, and of the actions."""

    latent_dim = action_dim = 1

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        return latent + action, latent

    def observe(
        self, latent: Tensor, action: Tensor, observation: Tensor, first: Tensor, task=None
    ) -> Tensor:
        return observation + (latent + action).masked_fill(first, 0.0)


def test_an_actor_on_a_model_with_memory_learns_from_what_it_remembers() -> None:
    actor = nn.Linear(1, 1)
    nn.init.ones_(actor.weight)
    nn.init.zeros_(actor.bias)
    # latents 1, 2 + (1 + 1) = 4 and 1 + (4 + 4) = 9; each action is the latent that it is of
    window = {
        "observation": torch.tensor([[[1.0], [2.0], [1.0], [7.0]]]),
        "action": torch.tensor([[[1.0], [4.0], [9.0]]]),
    }
    cloning = BehaviourCloning(actor, model=Summing())
    loss = cloning.update(TensorDict(window, [1]))["loss"]
    torch.testing.assert_close(loss, torch.zeros(()))


def test_an_actor_that_depends_on_the_task_is_told_it() -> None:
    model = WorldModel(3, 2, num_tasks=2, task_dim=4, latent_dim=8, hidden=(8,), action_dims=(2, 1))
    cloning = BehaviourCloning(PolicyPrior.for_model(model), model=model)
    data = {"observation": torch.randn(4, 3), "task": torch.tensor([0, 0, 1, 1])}
    acted = cloning.policy().behaviour(data["task"].tolist()).actions(data["observation"])
    batch = TensorDict({**data, "action": acted}, [4])
    torch.testing.assert_close(cloning.update(batch)["loss"], torch.zeros(()))
    assert all(p.grad is None for p in model.parameters())


def test_clones_on_the_latents_of_a_frozen_model() -> None:
    model = WorldModel.published(
        3, 2, num_tasks=2, task_dim=4, latent_dim=8, hidden=(16,), simnorm_size=4
    )
    actor = FirstOrderActor.published(8, 2, (8,))
    before = [p.detach().clone() for p in model.parameters()]
    data = {"observation": torch.randn(4, 3, 3), "action": torch.rand(4, 2, 2)}
    batch = TensorDict({**data, "task": torch.tensor([0, 0, 1, 1])}, [4])
    cloning = BehaviourCloning(actor, model=model)
    first = cloning.update(batch)["loss"]
    for _ in range(50):
        last = cloning.update(batch)["loss"]
    assert float(last) < 0.7 * float(first)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_a_saved_state_continues_to_the_bit() -> None:
    batch = TensorDict({"observation": torch.randn(4, 3), "action": torch.rand(4, 2)}, [4])
    cloning, other = (BehaviourCloning(FirstOrderActor.published(3, 2, (8,))) for _ in range(2))
    cloning.update(batch)
    other.load_state_dict(copy.deepcopy(cloning.state_dict()))
    for agent in (cloning, other):
        agent.update(batch)
    pairs = zip(cloning.actor.parameters(), other.actor.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
