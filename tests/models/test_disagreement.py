"""The guard: a penalty where heads differ, and heads that leave the model alone."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from pwm_sdk.models.disagreement import Disagreement
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.objectives.world_model import world_model_loss
from pwm_sdk.rollout import LatentRollout

TASK = torch.tensor([0, 1, 1, 0])


def small_model() -> WorldModel:
    model = WorldModel(
        3, 2, num_tasks=2, task_dim=4, latent_dim=8, hidden=(16,), encoder_hidden=(16,),
        simnorm_size=4, action_dims=[1, 2],
    )  # fmt: skip
    nn.init.normal_(model.reward_head[-1].weight)
    return model


def step_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.rand(4, 8), torch.rand(4, 2), TASK


def agree(guard: Disagreement) -> None:
    """Give every head the weights of the model."""
    for head in guard.heads:
        head.dynamics.load_state_dict(guard.model.dynamics.state_dict())
        head.reward_head.load_state_dict(guard.model.reward_head.state_dict())


def test_without_a_coefficient_it_is_the_model() -> None:
    model = small_model()
    guard, inputs = Disagreement(model, heads=2, coef=0.0), step_inputs()
    torch.testing.assert_close(guard.step(*inputs), model.step(*inputs))
    observation = torch.randn(4, 3)
    assert torch.equal(guard.encode(observation, TASK), model.encode(observation, TASK))


def test_the_penalty_by_hand() -> None:
    # With one further head, std over the pair is |difference| / sqrt(2).
    model, inputs = small_model(), step_inputs()
    guard = Disagreement(model, heads=1, coef=3.0)
    latent, reward = model.step(*inputs)
    head = guard.heads[0]
    apart = (latent - head.next(*inputs)).norm(dim=-1, keepdim=True)
    apart = (apart + (reward - head.reward(*inputs)).abs()) / math.sqrt(2)
    following, guarded = guard.step(*inputs)
    assert torch.equal(following, latent)
    torch.testing.assert_close(guarded, reward - 3.0 * apart)
    assert (guarded < reward).all()


def test_heads_that_agree_cost_nothing_and_differentiate_finitely() -> None:
    model, (latent, action, task) = small_model(), step_inputs()
    guard = Disagreement(model, heads=2, coef=3.0)
    agree(guard)
    action.requires_grad_()
    _, reward = guard.step(latent, action, task)
    torch.testing.assert_close(reward, model.reward(latent, action, task))
    (slope,) = torch.autograd.grad(reward.sum(), action)
    assert torch.isfinite(slope).all()


def test_only_disagreeing_actions_are_penalised() -> None:
    model = small_model()
    guard = Disagreement(model, heads=1, coef=1.0)
    agree(guard)
    with torch.no_grad():  # the head sees more in the second action, the last input
        guard.heads[0].dynamics[0].weight[:8, -1] += 1.0
    latent, task = torch.rand(1, 8), torch.tensor([1])
    for second, penalised in ((0.0, False), (0.9, True)):
        action = torch.tensor([[0.5, second]])
        lower = guard.step(latent, action, task)[1] < model.reward(latent, action, task) - 1e-4
        assert bool(lower) is penalised


def test_training_heads_does_not_touch_the_model() -> None:
    model = small_model()
    guard = Disagreement(model, heads=2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    batch = TensorDict(
        {
            "observation": torch.randn(4, 4, 3),
            "action": torch.rand(4, 3, 2),
            "reward": torch.randn(4, 3, 1),
            "task": TASK,
        },
        [4],
    )
    heads = list(guard.heads.parameters())
    assert {id(p) for p in heads}.isdisjoint(id(p) for p in model.parameters())
    optimizer = torch.optim.Adam(heads, lr=3e-3)
    losses = []
    for _ in range(30):
        loss = sum(world_model_loss(head, batch) for head in guard.heads)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_takes_part_in_a_rollout() -> None:
    guard = Disagreement(small_model(), heads=1, coef=1.0)
    trajectory = LatentRollout(guard, lambda z: z[:, :2], 3)(torch.rand(4, 8), TASK)
    latent, action = trajectory["latent"][:, 1], trajectory["action"][:, 1]
    torch.testing.assert_close(
        trajectory["next", "reward"][:, 1], guard.step(latent, action, TASK)[1]
    )


def test_state_dict_round_trip() -> None:
    guard, other = Disagreement(small_model()), Disagreement(small_model())
    other.load_state_dict(guard.state_dict())
    inputs = step_inputs()
    assert torch.equal(other.step(*inputs)[1], guard.step(*inputs)[1])


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="heads must be at least 1, got 0"):
        Disagreement(small_model(), heads=0)
    with pytest.raises(ValueError, match="coef must not be negative, got -1"):
        Disagreement(small_model(), coef=-1.0)


def test_heads_that_agree_cost_nothing_in_half_precision() -> None:
    guard, inputs = Disagreement(small_model(), heads=2, coef=3.0), step_inputs()
    agree(guard)
    with torch.autocast("cpu", torch.bfloat16):
        expected, (_, reward) = guard.model.step(*inputs)[1], guard.step(*inputs)
    assert reward.dtype == torch.float32
    assert torch.equal(reward, expected)


def test_what_the_model_shows_and_its_width_are_the_guards() -> None:
    model = small_model()
    model.features = lambda latent: 2 * latent  # pyright: ignore
    guard = Disagreement(model)
    assert guard.observation_dim == model.observation_dim
    assert torch.equal(guard.features(torch.ones(1, 8)), 2 * torch.ones(1, 8))
