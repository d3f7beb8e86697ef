"""The policy prior: noise, masks, tasks."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk.models.conditioning import TaskContext
from pwm_sdk.models.policy_prior import PolicyPrior
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.rollout import LatentRollout


def model(**settings) -> WorldModel:
    sizes = {"latent_dim": 8, "hidden": (16,), "encoder_hidden": (16,), "task_dim": 4}
    return WorldModel(3, 2, **{**sizes, "num_tasks": 3, "action_dims": [1, 2, 2], **settings})


def test_noise_is_scaled_and_squashed() -> None:
    prior, latent, noise = PolicyPrior(8, 2, hidden=(16,)), torch.rand(5, 8), torch.randn(5, 2)
    mean, log_std = prior.distribution(latent)
    torch.testing.assert_close(prior(latent), torch.tanh(mean))
    torch.testing.assert_close(prior(latent, None, noise), torch.tanh(mean + noise * log_std.exp()))
    with torch.no_grad():
        prior.net[-1].weight.zero_()
        prior.net[-1].bias.copy_(torch.tensor([0.5, -0.5, 100.0, -100.0]))
    mean, log_std = prior.distribution(latent[:1])
    torch.testing.assert_close(mean, torch.tensor([[0.5, -0.5]]))
    torch.testing.assert_close(log_std, torch.tensor([[2.0, -10.0]]))


def test_actions_that_a_task_lacks_are_zero() -> None:
    world = model()
    prior = PolicyPrior.for_model(world)
    policy = prior.given(world.context(torch.tensor([0, 1])))
    latent, noise = torch.rand(2, 8), torch.randn(2, 2)
    for action in (policy(latent), policy.sample(latent, noise)):
        assert (action != 0).tolist() == [[True, False], [True, True]]
    assert policy.action_dim == 2


def test_tasks_act_differently() -> None:
    world = model(task_init=1.0)
    prior = PolicyPrior.for_model(world)
    latent = torch.rand(1, 8).expand(2, 8)
    first, second = prior.given(world.context(torch.tensor([1, 2])))(latent)
    assert not torch.allclose(first, second)


def test_it_is_unrolled_in_a_model_of_many_tasks() -> None:
    world = model()
    prior, task = PolicyPrior.for_model(world), torch.tensor([0, 2])
    start = torch.rand(2, 8)
    trajectory = LatentRollout(world, prior, 3)(start, task)
    policy = prior.given(world.context(task))
    torch.testing.assert_close(trajectory["action"][:, 0], policy(start))
    following = trajectory["next", "latent"][:, 0]
    torch.testing.assert_close(trajectory["action"][:, 1], policy(following))


def test_for_model_takes_its_widths_and_overrides() -> None:
    single = PolicyPrior.for_model(model(num_tasks=0, action_dims=[1]), log_std=(-5.0, 0.5))
    assert single.settings["task_dim"] == 0
    assert single.log_std == (-5.0, 0.5)
    assert [layer.out_features for layer in single.net] == [16, 4]


def test_file_round_trip(tmp_path) -> None:
    prior = PolicyPrior(8, 2, task_dim=4, hidden=(16,))
    prior.save(tmp_path / "prior.safetensors")
    again = PolicyPrior.from_checkpoint(tmp_path / "prior.safetensors")
    context = TaskContext(torch.rand(3, 4), None)
    latent, noise = torch.rand(3, 8), torch.randn(3, 2)
    assert torch.equal(again(latent, context, noise), prior(latent, context, noise))


def test_captured_by_the_compiler_without_a_break() -> None:
    prior = PolicyPrior(8, 2, hidden=(16,))
    compiled = torch.compile(prior.forward, backend="eager", fullgraph=True)
    latent, noise = torch.rand(3, 8), torch.randn(3, 2)
    torch.testing.assert_close(compiled(latent, None, noise), prior(latent, None, noise))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"log_std must be \(smallest, largest\), got \(2, 1\)"):
        PolicyPrior(8, 2, log_std=(2, 1))
    with pytest.raises(ValueError, match=r"latent must have size 8, got \[3, 5\]"):
        PolicyPrior(8, 2)(torch.zeros(3, 5))
