"""Imagination: what a rollout packs, that it equals a loop by hand, and that it differentiates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.objectives.policy import actor_loss, imagined_returns
from pwm_sdk.rollout import LatentRollout


class Walk:
    """z' = z + a with reward z', which ends the episode at z' >= limit."""

    latent_dim = action_dim = 1

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        following = latent + action
        if self.limit is None:
            return following, following
        return following, following, following >= self.limit


class StepOnly:
    """A world model that shows nothing but the contract."""

    def __init__(self, model: WorldModel) -> None:
        self.latent_dim, self.action_dim = model.latent_dim, model.action_dim
        self.encode, self.step = model.encode, model.step


def small_model(num_tasks: int = 0, **settings) -> WorldModel:
    settings = {"task_dim": 4, "latent_dim": 8, "simnorm_size": 4, **settings}
    model = WorldModel.published(
        3, 2, num_tasks=num_tasks, hidden=(16,), encoder_hidden=(16,), **settings
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def test_shapes_and_keys() -> None:
    model = small_model(num_tasks=3)
    actor = FirstOrderActor.published(8, 2, (6,), population=2)
    task = torch.randint(3, (2, 5))
    latent = model.encode(torch.randn(2, 5, 3), task)
    trajectory = LatentRollout(model, actor, 4)(latent, task)
    assert trajectory.batch_size == (2, 5, 4)
    shapes = {key: tuple(value.shape[3:]) for key, value in trajectory.items(True, True)}
    flags = dict.fromkeys((("next", k) for k in ("terminated", "truncated", "done")), (1,))
    assert shapes == {
        "latent": (8,), "action": (2,), "loc": (2,), "task": (),
        ("next", "latent"): (8,), ("next", "reward"): (1,), **flags,
    }  # fmt: skip
    assert torch.equal(trajectory["latent"][:, :, 0], latent)
    assert torch.equal(trajectory["latent"][:, :, 1:], trajectory["next", "latent"][:, :, :-1])
    assert (trajectory["task"] == task.unsqueeze(-1)).all()
    assert not trajectory["next", "terminated"].any()
    last = trajectory["next", "truncated"][0, 0, :, 0].tolist()
    assert last == [False, False, False, True]
    assert torch.equal(trajectory["next", "done"], trajectory["next", "truncated"])


def test_a_plain_callable_is_a_policy() -> None:
    trajectory = LatentRollout(Walk(), lambda z: 0.5 * z, 2)(torch.ones(1, 1))
    assert "loc" not in trajectory
    assert "task" not in trajectory
    torch.testing.assert_close(trajectory["next", "latent"].flatten(), torch.tensor([1.5, 2.25]))


def test_a_policy_of_many_tasks_is_given_its_tasks() -> None:
    class ByTask:
        def given(self, context: Tensor):
            return lambda latent: context.unsqueeze(-1) * latent

    # z' = z + k z, rewarded with z': factors 1 and 4 a step for tasks 0 and 3.
    trajectory = LatentRollout(Walk(), ByTask(), 2)(torch.ones(2, 1), torch.tensor([0, 3]))
    expected = torch.tensor([[1.0, 1.0], [4.0, 16.0]])
    torch.testing.assert_close(trajectory["next", "reward"][..., 0], expected)


def test_a_policy_is_given_what_the_model_looked_up() -> None:
    class ByEmbedding:
        def given(self, context):
            return lambda latent: context.embedding[..., :2]

    model, task = small_model(num_tasks=3), torch.tensor([2, 0])
    trajectory = LatentRollout(model, ByEmbedding(), 2)(torch.rand(2, 8), task)
    expected = model.context(task).embedding[:, :2]
    torch.testing.assert_close(trajectory["action"], torch.stack((expected, expected), 1))


@pytest.mark.parametrize("num_tasks", [0, 3])
def test_equals_a_loop_by_hand(num_tasks: int) -> None:
    dims = [1, 2, 2] if num_tasks else [1]
    model = small_model(num_tasks, action_dims=dims)
    actor = FirstOrderActor.published(8, 2, (6,), noise="post_tanh")
    task = torch.tensor([0, 2, 1, 0]) if num_tasks else None
    noise = torch.randn(3, 4, 2)
    start = model.encode(torch.randn(4, 3), task)
    trajectory = LatentRollout(model, actor, 3)(start, task, noise)
    latent = start
    for t in range(3):
        action = actor(latent, noise[t])
        torch.testing.assert_close(trajectory["action"][:, t], action)
        torch.testing.assert_close(trajectory["loc"][:, t], actor.loc(latent))
        latent, reward = model.step(latent, action, task)
        torch.testing.assert_close(trajectory["next", "latent"][:, t], latent)
        torch.testing.assert_close(trajectory["next", "reward"][:, t], reward)


@pytest.mark.parametrize("num_tasks", [0, 3])
def test_batched_rewards_are_those_of_the_steps(num_tasks: int) -> None:
    """A model with `next` and `reward` is asked for all rewards at once; the result is the same."""
    model = small_model(num_tasks, action_dims=[1, 2, 2] if num_tasks else None)
    actor = FirstOrderActor.published(8, 2, (6,), population=2)
    task = torch.randint(3, (2, 4)) if num_tasks else None
    start, noise = torch.rand(2, 4, 8), torch.randn(3, 2, 4, 2)
    batched = LatentRollout(model, actor, 3)(start, task, noise)
    stepped = LatentRollout(StepOnly(model), actor, 3)(start, task, noise)
    torch.testing.assert_close(batched.to_dict(), stepped.to_dict())


def test_noise_comes_from_the_generator() -> None:
    actor, start = FirstOrderActor.published(1, 1, (4,)), torch.zeros(5, 1)

    def actions(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return LatentRollout(Walk(), actor, 2, generator=generator)(start)["action"]

    assert torch.equal(actions(0), actions(0))
    assert not torch.equal(actions(0), actions(1))
    noise = torch.randn(2, 5, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(actions(0), LatentRollout(Walk(), actor, 2)(start, noise=noise)["action"])


class Doubled(Walk):
    """Policies and values see (2 z, 2 z), in float32 whatever the state's dtype."""

    def features(self, latent: Tensor) -> Tensor:
        return (2 * latent).expand(*latent.shape[:-1], 2).float()


def test_policies_and_values_see_features_by_hand() -> None:
    # z = 1 moves by a = 2 z to 3, then by 6 to 9; the reward is the state reached.
    rollout = LatentRollout(Doubled(), lambda seen: seen[..., :1], 2)
    trajectory = rollout(torch.ones(1, 1))
    assert trajectory["action"].flatten().tolist() == [2.0, 6.0]
    assert trajectory["state"].flatten().tolist() == [1.0, 3.0]
    assert trajectory["latent"].tolist() == [[[2.0, 2.0], [6.0, 6.0]]]
    assert trajectory["next", "state"].flatten().tolist() == [3.0, 9.0]
    assert trajectory["next", "latent"].tolist() == [[[6.0, 6.0], [18.0, 18.0]]]
    value = imagined_returns(trajectory, lambda seen: seen.sum(-1, keepdim=True), gamma=0.5)
    assert float(value) == 3 + 9 / 2 + 36 / 4
    assert "state" not in set(LatentRollout(Walk(), lambda z: z, 2)(torch.ones(1, 1)).keys())


def test_noise_has_the_dtype_of_what_the_policy_sees() -> None:
    actor = FirstOrderActor.published(2, 1, (4,))
    trajectory = LatentRollout(Doubled(), actor, 2)(torch.ones(3, 1, dtype=torch.float64))
    assert trajectory["action"].dtype == torch.float32
    assert trajectory["next", "state"].dtype == torch.float64


def test_terminated_states_are_masked_by_hand() -> None:
    # From 0 and 5 with steps of 1: 1, 2, 3 ends at 2; 6, 7, 8 ends at once.
    rollout = LatentRollout(Walk(limit=2.0), torch.ones_like, 3)
    trajectory = rollout(torch.tensor([[0.0], [5.0]]))
    ends = trajectory["next", "terminated"].squeeze(-1)
    assert ends.tolist() == [[False, True, True], [True, True, True]]
    done = trajectory["next", "done"].squeeze(-1)
    assert done.tolist() == [[False, True, True], [True, True, True]]
    # Returns with gamma 1/2 and a value that must not count: 1 + 2/2 and 6.
    returns = imagined_returns(trajectory, lambda z: z + 1e6, gamma=0.5)
    torch.testing.assert_close(returns, torch.tensor([[2.0], [6.0]]))


def test_detach_leaves_out_the_policys_own_slope_by_hand() -> None:
    # a = k z, so z_1 = 1 + k and z_2 = (1 + k)^2; the return is z_1 + z_2.
    # d/dk = 1 + 2 (1 + k) = 4 at k = 1/2. Seen detached, z_2 = z_1 + k [z_1] has the slope
    # 1 + z_1, together 1 + 1 + 1.5 = 3.5.
    slopes = []
    for detach in (False, True):
        gain = torch.tensor(0.5, requires_grad=True)
        rollout = LatentRollout(Walk(), lambda z, k=gain: k * z, 2, detach=detach)
        reward = rollout(torch.ones(1, 1))["next", "reward"]
        slopes.append(float(torch.autograd.grad(reward.sum(), gain)[0]))
    assert slopes == pytest.approx([4.0, 3.5])


@pytest.mark.parametrize("lam", [None, 0.9])
@pytest.mark.parametrize("noise_place", ["pre_tanh", "post_tanh"])
def test_actor_gradient_agrees_with_finite_differences(lam, noise_place: str) -> None:
    """The slope of the loss along random directions, all parameters at once, in float64."""
    model = small_model(num_tasks=2, action_dims=[1, 2]).double()
    actor = FirstOrderActor.published(
        8, 2, (6, 5), population=2, noise=noise_place, std=0.1, min_std=0.01
    )
    critic = Critic.published(8, (6,), 2, population=2).double()
    actor.double()
    task = torch.tensor([[0] * 3, [1] * 3])
    start = model.encode(torch.randn(2, 3, 3).double(), task).detach()
    rollout = LatentRollout(model, actor, 4)
    noise = 0.5 * torch.randn(4, 2, 3, 2).double()
    gamma = torch.tensor([0.9, 0.99])

    def loss() -> Tensor:
        trajectory = rollout(start, task, noise)
        return actor_loss(trajectory, critic, gamma, lam=lam, scale=0.5, saturation=0.1)

    parameters = list(actor.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    for _ in range(4):
        directions = [torch.randn_like(p) for p in parameters]
        slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        values = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.add_(step * direction)
                values.append(float(loss()))
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(1e-6 * direction)
        assert abs(slope) > 1e-3
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_a_policy_of_fewer_actions_is_padded_with_zeros() -> None:
    model, task = small_model(num_tasks=1), torch.zeros(5, dtype=torch.int64)
    narrow = FirstOrderActor.published(8, 1, (4,))
    latent = torch.rand(5, 8)
    trajectory = LatentRollout(model, narrow, 2)(latent, task, torch.zeros(2, 5, 1))
    assert trajectory["action"].shape == (5, 2, 2)
    assert torch.equal(trajectory["action"][..., 1], torch.zeros(5, 2))
    wide = torch.cat([narrow(latent), torch.zeros(5, 1)], -1)
    assert torch.allclose(trajectory["next", "latent"][:, 0], model.next(latent, wide, task))


@pytest.mark.parametrize(("model", "size"), [(small_model(), 1), (small_model(), 3), (Walk(), 2)])
def test_a_policy_must_fit_a_model_without_tasks(model, size: int) -> None:
    rollout = LatentRollout(model, FirstOrderActor.published(model.latent_dim, size, (4,)), 2)
    expected = rf"action must have the model's size {model.action_dim}, got \[5, {size}\]"
    with pytest.raises(ValueError, match=expected):
        rollout(torch.rand(5, model.latent_dim))


def test_errors_name_the_argument() -> None:
    model, actor = small_model(num_tasks=2), FirstOrderActor.published(8, 2, (4,))
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        LatentRollout(model, actor, 0)
    rollout, task = LatentRollout(model, actor, 2), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"latent must have shape \[.., B, 8\], got \[5, 7\]"):
        rollout(torch.zeros(5, 7), task)
    with pytest.raises(ValueError, match=r"latent must have shape .*, got \[8\]"):
        rollout(torch.zeros(8), task)
    with pytest.raises(ValueError, match=r"latent must be floating point, got torch.int64"):
        rollout(torch.zeros(5, 8, dtype=torch.int64), task)
    with pytest.raises(ValueError, match=r"task must have shape \[5\], got \[4\]"):
        rollout(torch.zeros(5, 8), task[:4])
    with pytest.raises(ValueError, match="task must be given"):
        rollout(torch.zeros(5, 8))
    with pytest.raises(ValueError, match=r"noise must have shape \[2, 5, 2\], got \[3, 5, 2\]"):
        rollout(torch.zeros(5, 8), task, torch.zeros(3, 5, 2))


def test_a_restart_moves_where_the_next_step_starts() -> None:
    """Walk z' = z + a with a = 1 from 0; behind step 1 the second start is taken back to 10."""

    def restart(step: int, action: Tensor, latent: Tensor) -> Tensor:
        assert action.tolist() == [[1.0], [1.0]]
        again = torch.tensor([[False], [step == 1]])
        return torch.where(again, 10.0, latent)

    trajectory = LatentRollout(Walk(), torch.ones_like, 3)(torch.zeros(2, 1), restart=restart)
    assert trajectory["latent"].squeeze(-1).tolist() == [[0.0, 1.0, 2.0], [0.0, 1.0, 10.0]]
    assert trajectory["next", "latent"].squeeze(-1).tolist() == [[1.0, 2.0, 3.0], [1.0, 2.0, 11.0]]
    assert trajectory["next", "reward"].squeeze(-1).tolist() == [[1.0, 2.0, 3.0], [1.0, 2.0, 11.0]]


def test_an_episodic_model_ends_imagined_steps() -> None:
    model = small_model(num_tasks=3, episodic=True)
    task, start, noise = torch.tensor([0, 2, 1]), torch.rand(3, 8), 3 * torch.randn(6, 3, 2)
    actor = FirstOrderActor.published(8, 2, (6,))
    batched = LatentRollout(model, actor, 6)(start, task, noise)
    with torch.no_grad():  # half of the latents end
        odds = model.termination_logits(batched["next", "latent"], task.unsqueeze(-1))
        model.termination_head[-1].bias -= odds.quantile(0.5)
    batched = LatentRollout(model, actor, 6)(start, task, noise)
    assert int(batched["next", "terminated"].sum()) == 9  # of 18
    stepped = LatentRollout(StepOnly(model), actor, 6)(start, task, noise)
    torch.testing.assert_close(batched.to_dict(), stepped.to_dict())
