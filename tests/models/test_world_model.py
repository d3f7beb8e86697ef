"""The world model: shapes, tasks, masks, statistics, ends of episodes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from pwm_sdk.models.layers import init_fan_in
from pwm_sdk.models.world_model import WorldModel


def small_model(**settings) -> WorldModel:
    """A model whose reward head, zero at first, has weights as well."""
    sizes = {"latent_dim": 8, "hidden": (16,), "encoder_hidden": (16,), "simnorm_size": 4}
    model = WorldModel(3, 2, **{**sizes, "task_dim": 4, **settings})
    nn.init.normal_(model.reward_head[-1].weight)
    return model


@pytest.mark.parametrize("lead", [(5,), (5, 6), (2, 5, 6)])
@pytest.mark.parametrize("num_tasks", [0, 3])
def test_shapes(num_tasks: int, lead: tuple[int, ...]) -> None:
    model = small_model(num_tasks=num_tasks, num_bins=101)
    task = torch.randint(3, lead) if num_tasks else None
    latent = model.encode(torch.randn(*lead, 3), task)
    action = torch.rand(*lead, 2)
    assert latent.shape == (*lead, 8)
    assert model.next(latent, action, task).shape == (*lead, 8)
    assert model.reward_logits(latent, action, task).shape == (*lead, 101)
    assert model.reward(latent, action, task).shape == (*lead, 1)


def test_step_is_next_and_reward() -> None:
    model = small_model(num_tasks=3)
    task = torch.tensor([0, 2, 1])
    latent, action = model.encode(torch.randn(3, 3), task), torch.rand(3, 2)
    following, reward = model.step(latent, action, task)
    torch.testing.assert_close(following, model.next(latent, action, task))
    torch.testing.assert_close(reward, model.reward(latent, action, task))
    looked_up = model.step(latent, action, model.context(task))
    torch.testing.assert_close(looked_up, (following, reward))


def test_latents_are_simplices() -> None:
    latent = small_model().encode(torch.randn(5, 3))
    assert (latent >= 0).all()
    torch.testing.assert_close(latent.view(5, 2, 4).sum(-1), torch.ones(5, 2))
    free = small_model(simnorm_size=0, latent_dim=7).encode(torch.randn(5, 3))
    torch.testing.assert_close(free.mean(-1), torch.zeros(5), atol=1e-5, rtol=0)


def test_with_spectral_norm_latents_cannot_grow(tmp_path: Path) -> None:
    model = small_model(simnorm_size=0, spectral_norm=True, standardize=True)
    init_fan_in(model)
    for network in (model.encoder, model.dynamics):
        nn.init.normal_(network[-1].parametrizations.weight.original, std=9.0)
        for _ in range(100):  # a power iteration each, while training
            weight = network[-1].weight
        largest = torch.linalg.matrix_norm(weight.detach(), 2)
        torch.testing.assert_close(largest, torch.tensor(1.0), atol=1e-3, rtol=0)
    model.eval().save(tmp_path / "model.safetensors")
    other = WorldModel.from_checkpoint(tmp_path / "model.safetensors").eval()
    latent, action = model.encode(torch.randn(5, 3)), torch.rand(5, 2)
    torch.testing.assert_close(other.next(latent, action), model.next(latent, action))
    with pytest.raises(ValueError, match="simnorm_size must be 0 with spectral_norm, got 4"):
        small_model(spectral_norm=True)


def test_reward_starts_at_zero() -> None:
    model = WorldModel(3, 2, latent_dim=8, hidden=(16,))
    reward = model.reward(torch.rand(4, 8), torch.rand(4, 2))
    torch.testing.assert_close(reward, torch.zeros(4, 1), atol=1e-5, rtol=0)


def test_scalar_reward_head() -> None:
    model = small_model(num_bins=0)
    logits = model.reward_logits(torch.rand(4, 8), torch.rand(4, 2))
    assert logits.shape == (4, 1)
    assert model.decode_reward(logits) is logits
    error = model.reward_error(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    torch.testing.assert_close(error, torch.tensor([[4.0]]))


def test_a_task_ignores_actions_that_it_does_not_have() -> None:
    model = small_model(num_tasks=2, action_dims=[1, 2])
    latent, task = torch.rand(2, 8), torch.tensor([0, 1])
    action = torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    other = torch.tensor([[0.5, 0.9], [0.5, 0.9]])
    before, after = model.step(latent, action, task), model.step(latent, other, task)
    for ours, theirs in zip(before, after, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert not torch.equal(ours[1], theirs[1])
    action.requires_grad_()
    (slope,) = torch.autograd.grad(model.next(latent, action, task)[:, 0].sum(), action)
    assert (slope != 0).tolist() == [[True, False], [True, True]]


def test_a_model_of_one_task_masks_as_well() -> None:
    model = small_model(action_dims=[1])
    latent = torch.rand(1, 8)
    first, second = (model.next(latent, torch.tensor([[0.5, a]])) for a in (0.0, 0.9))
    assert torch.equal(first, second)


def test_task_embeddings_are_used_and_kept_inside_the_unit_ball() -> None:
    model = small_model(num_tasks=3)
    with torch.no_grad():
        model.task_embedding.copy_(torch.tensor([[3.0, 0, 0, 4.0], [0.3, 0, 0, 0], [9.0, 0, 0, 0]]))
    context = model.context(torch.tensor([0, 1]))
    expected = torch.tensor([[0.6, 0, 0, 0.8], [0.3, 0, 0, 0]])
    torch.testing.assert_close(context.embedding, expected, atol=1e-6, rtol=0)
    assert model.task_embedding[2, 0] == 9.0  # never looked up, never touched
    observation = torch.ones(2, 3)
    latent = model.encode(observation, torch.tensor([0, 1]))
    assert not torch.allclose(latent[0], latent[1])


def test_observations_are_standardised_by_task() -> None:
    model = small_model(num_tasks=2, standardize=True)
    plain = copy.deepcopy(model)
    model.set_observation_statistics(torch.tensor([1.0, 2.0, 3.0]), torch.full((3,), 2.0), task=1)
    # Task 0 keeps mean 0 and std 1; for task 1, (3, 2, -99) becomes (1, 0, -51), clipped to -10.
    observation, task = torch.tensor([[3.0, 2.0, -99.0]]), torch.tensor([1])
    expected = plain.encode(torch.tensor([[1.0, 0.0, -10.0]]), task)
    torch.testing.assert_close(model.encode(observation, task), expected)
    first = torch.tensor([0])
    small = torch.tensor([[3.0, 2.0, -9.0]])
    torch.testing.assert_close(model.encode(small, first), plain.encode(small, first))


def test_standardisation_without_tasks() -> None:
    model = small_model(standardize=True)
    expected = model.encode(torch.tensor([[1.0, 0.0, -1.0]]))
    model.set_observation_statistics(torch.tensor([1.0, 2.0, 3.0]), torch.full((3,), 2.0))
    torch.testing.assert_close(model.encode(torch.tensor([[3.0, 2.0, 1.0]])), expected)


def test_task_embeddings_start_as_wide_as_asked() -> None:
    usual = small_model(num_tasks=40, task_dim=50, init="published").task_embedding.detach()
    assert float(usual.abs().max()) <= 0.02
    wide = small_model(num_tasks=40, task_dim=50, task_init=0.5).task_embedding.detach()
    assert float(wide.std()) == pytest.approx(0.5, rel=0.1)  # 2000 draws
    assert float(wide.abs().max()) > 1.0
    assert small_model(task_init=0.5).task_embedding is None


def test_an_episodic_model_says_what_ends() -> None:
    model = small_model(num_tasks=2, episodic=True)
    latent, action, task = torch.rand(64, 8), torch.rand(64, 2), torch.tensor(1)
    with torch.no_grad():  # half of the latents end
        odds = model.termination_logits(model.next(latent, action, task), task)
        model.termination_head[-1].bias -= odds.quantile(0.5)
    following, reward, ended = model.step(latent, action, task)
    assert ended.dtype == torch.bool
    assert ended.shape == reward.shape == (64, 1)
    assert int(ended.sum()) == 32
    assert torch.equal(ended, model.termination_logits(following, task) > 0)
    assert torch.equal(ended, model.terminated(following, model.context(task)))
    assert len(small_model().step(latent, action)) == 2


def test_state_dict_round_trip() -> None:
    settings = {"num_tasks": 2, "action_dims": [1, 2], "standardize": True, "episodic": True}
    model, other = small_model(**settings), small_model(**settings)
    model.set_observation_statistics(torch.ones(3), torch.full((3,), 3.0), task=1)
    other.load_state_dict(model.state_dict())
    task, observation, action = torch.tensor([0, 1]), torch.randn(2, 3), torch.rand(2, 2)
    latent = model.encode(observation, task)
    assert torch.equal(other.encode(observation, task), latent)
    for ours, theirs in zip(
        model.step(latent, action, task), other.step(latent, action, task), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_file_round_trip(tmp_path) -> None:
    model = small_model(num_tasks=2, action_dims=[1, 2], standardize=True, activation="silu")
    model.set_observation_statistics(torch.ones(3), torch.full((3,), 3.0), task=1)
    model.save(tmp_path / "model.safetensors")
    other = WorldModel.from_checkpoint(tmp_path / "model.safetensors")
    task, observation, action = torch.tensor([0, 1]), torch.randn(2, 3), torch.rand(2, 2)
    latent = model.encode(observation, task)
    assert torch.equal(other.encode(observation, task), latent)
    assert torch.equal(other.next(latent, action, task), model.next(latent, action, task))


def test_captured_by_the_compiler_without_a_break() -> None:
    torch.compiler.reset()  # as if nothing had been compiled in this process
    model = small_model(num_tasks=2, action_dims=[1, 2])
    compiled = torch.compile(model.step, backend="eager", fullgraph=True)
    latent, action, task = torch.rand(3, 8), torch.rand(3, 2), torch.tensor([0, 1, 1])
    torch.testing.assert_close(compiled(latent, action, task), model.step(latent, action, task))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="latent_dim must be divisible by simnorm_size 4, got 6"):
        small_model(latent_dim=6)
    with pytest.raises(ValueError, match=r"num_bins must be 0 .* or at least 2, got 1"):
        small_model(num_bins=1)
    with pytest.raises(ValueError, match=r"action_dims must have one entry per task \(2\), got 1"):
        small_model(num_tasks=2, action_dims=[1])
    with pytest.raises(ValueError, match=r"action_dims must lie in 1..2, got \[3\]"):
        small_model(action_dims=[3])
    model = small_model(num_tasks=2)
    task = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="observation must have size 3, got"):
        model.encode(torch.zeros(4, 5), task)
    with pytest.raises(ValueError, match="task must be given: this model knows 2 tasks"):
        model.encode(torch.zeros(4, 3))
    for strange in (2, -1):
        with pytest.raises(ValueError, match=rf"task must be ids in 0\.\.1, got \[.*{strange}"):
            model.encode(torch.zeros(2, 3), torch.tensor([0, strange]))
    with pytest.raises(ValueError, match="latent and action must have sizes 8 and 2, got"):
        model.next(torch.zeros(4, 8), torch.zeros(4, 1), task)
    with pytest.raises(ValueError, match="episodic must be True to predict terminations"):
        model.terminated(torch.zeros(4, 8), task)
    with pytest.raises(ValueError, match="task_init must be positive or None, got 0"):
        small_model(num_tasks=2, task_init=0.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'episode'"):
        small_model(episode=True)
    with pytest.raises(ValueError, match="init must be 'fan_in' or 'published', got 'zero'"):
        small_model(init="zero")
    with pytest.raises(ValueError, match="standardize must be True"):
        small_model(num_tasks=2, standardize=False).set_observation_statistics(
            torch.zeros(3), torch.ones(3), task=0
        )
