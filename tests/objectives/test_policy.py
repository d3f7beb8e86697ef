"""The losses of actor and critic, on toy trajectories whose numbers can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.objectives.policy import (
    actor_loss,
    behaviour_loss,
    critic_loss,
    imagined_returns,
    lambda_targets,
)


def toy_trajectory(
    reward: list[float], following: list[float], ends: list[bool] | None = None
) -> TensorDict:
    """One trajectory `[1, H]` with latents of size 1, cut at its last step."""
    steps = len(reward)
    terminated = torch.tensor(ends or [False] * steps).view(1, steps, 1)
    truncated = torch.zeros_like(terminated)
    truncated[:, -1] = True
    after = {
        "latent": torch.tensor(following).view(1, steps, 1),
        "reward": torch.tensor(reward).view(1, steps, 1),
        "terminated": terminated,
        "truncated": truncated,
        "done": terminated | truncated,
    }
    data = {
        "latent": torch.zeros(1, steps, 1),
        "loc": torch.zeros(1, steps, 1),
        "next": TensorDict(after, [1, steps]),
    }
    return TensorDict(data, [1, steps])


def ten_times(latent: Tensor) -> Tensor:
    """A value function: V(z) = 10 z."""
    return 10 * latent


TOY = toy_trajectory([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])


def test_imagined_h_step_return_by_hand() -> None:
    # 1 + 2/2 + 3/4 + 30/8
    returns = imagined_returns(TOY, ten_times, gamma=0.5)
    torch.testing.assert_close(returns, torch.tensor([[6.5]]))


def test_the_published_extra_discount_by_hand() -> None:
    # 1 + 2/2 + 3/4 + 30/16: the last value gets one factor more.
    returns = imagined_returns(TOY, ten_times, gamma=0.5, extra_discount=True)
    torch.testing.assert_close(returns, torch.tensor([[2.75 + 30 / 16]]))
    two = torch.stack([TOY, TOY])
    gamma = torch.tensor([0.5, 0.0])
    returns = imagined_returns(two, ten_times, gamma, extra_discount=True).flatten()
    torch.testing.assert_close(returns, torch.tensor([2.75 + 30 / 16, 1.0]))
    with pytest.raises(ValueError, match=r"lam must be None with an extra discount, got 0\.5"):
        imagined_returns(TOY, ten_times, 0.5, 0.5, extra_discount=True)


def test_imagined_lambda_return_by_hand() -> None:
    # G_2 = 3 + 15 = 18, G_1 = 2 + .5 (10 + 9) = 11.5, G_0 = 1 + .5 (5 + 5.75) = 6.375; their mean.
    returns = imagined_returns(TOY, ten_times, gamma=0.5, lam=0.5)
    torch.testing.assert_close(returns, torch.tensor([[(6.375 + 11.5 + 18) / 3]]))


def test_lambda_returns_of_a_dead_trajectory_are_not_counted() -> None:
    ended = toy_trajectory([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ends=[False, True, False])
    # G_1 = 2 and G_0 = 1 + .5 (5 + 1) = 4; step 2 is after the end.
    returns = imagined_returns(ended, ten_times, gamma=0.5, lam=0.5)
    torch.testing.assert_close(returns, torch.tensor([[3.0]]))
    returns = imagined_returns(ended, ten_times, gamma=0.5)
    torch.testing.assert_close(returns, torch.tensor([[1 + 0.5 * 2.0]]))


def test_actor_loss_by_hand() -> None:
    torch.testing.assert_close(actor_loss(TOY, ten_times, 0.5), torch.tensor(-6.5))
    torch.testing.assert_close(actor_loss(TOY, ten_times, 0.5, scale=2.0), torch.tensor(-3.25))
    given = actor_loss(TOY, ten_times, 0.5, returns=torch.tensor([[4.0]]))
    torch.testing.assert_close(given, torch.tensor(-4.0))
    strained = TOY.clone()
    strained["loc"] = torch.tensor([2.0, 0.0, -3.0]).view(1, 3, 1)
    # Excesses 1, 0 and 2: mean square 5/3.
    loss = actor_loss(strained, ten_times, 0.5, saturation=0.3)
    torch.testing.assert_close(loss, torch.tensor(-6.5 + 0.3 * 5 / 3))


def test_losses_of_a_population_add_up() -> None:
    """Then each policy receives the gradient that it would receive alone."""
    two = torch.stack([TOY, TOY.clone()])
    two["next", "reward"][1] *= 10
    gamma, scale = torch.tensor([0.5, 0.0]), torch.tensor([1.0, 2.0])
    loss = actor_loss(two, ten_times, gamma, scale=scale)
    torch.testing.assert_close(loss, torch.tensor(-6.5 - 10.0 / 2))


def test_lambda_targets_by_hand_and_without_gradient() -> None:
    weight = torch.tensor(10.0, requires_grad=True)
    targets = lambda_targets(TOY, lambda z: weight * z, gamma=0.5, lam=0.5)
    torch.testing.assert_close(targets.flatten(), torch.tensor([6.375, 11.5, 18.0]))
    assert not targets.requires_grad


def zeroed_critic(*heads: float, **settings) -> Critic:
    critic = Critic.published(1, (2,), len(heads), **settings)
    for parameter in critic.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        critic.net.head.bias.copy_(torch.tensor(heads).view(-1, 1, 1))
    return critic


def test_critic_loss_by_hand() -> None:
    latents, targets = torch.zeros(2, 1), torch.tensor([[1.0], [2.0]])
    # Heads 1 and 4 against targets 1 and 2: errors 0, -1 and 3, 2; mean square 14/4.
    loss = critic_loss(zeroed_critic(1.0, 4.0), latents, targets)
    torch.testing.assert_close(loss, torch.tensor(14 / 4))
    # In units of 10 the heads say 10 and 40: errors .9, .8 and 3.9, 3.8.
    loss = critic_loss(zeroed_critic(1.0, 4.0, scale=10.0), latents, targets)
    torch.testing.assert_close(loss, torch.tensor((0.81 + 0.64 + 15.21 + 14.44) / 4))


def test_weights_leave_states_out_by_hand() -> None:
    latents, targets = torch.zeros(3, 1), torch.tensor([[1.0], [2.0], [99.0]])
    weight = torch.tensor([[1.0], [1.0], [0.0]])
    loss = critic_loss(zeroed_critic(1.0, 4.0), latents, targets, weight)
    torch.testing.assert_close(loss, torch.tensor(14 / 4))
    critic = zeroed_critic(1.0, population=2)
    targets = torch.tensor([[[3.0], [99.0]], [[99.0], [5.0]]])
    loss = critic_loss(critic, torch.zeros(2, 2, 1), targets, 1.0 * (targets < 99))
    torch.testing.assert_close(loss, torch.tensor(4.0 + 16.0))
    nothing = critic_loss(critic, torch.zeros(2, 2, 1), targets, torch.zeros(2, 2, 1))
    assert float(nothing.detach()) == 0.0


def test_critic_loss_of_a_population_adds_up() -> None:
    critic = zeroed_critic(1.0, population=2, scale=[1.0, 2.0])
    targets = torch.tensor([[[3.0], [3.0]], [[4.0], [6.0]]])
    # Values 1 and 2; errors -2, -2 and, in units of 2, -1, -2: means 4 and 2.5.
    loss = critic_loss(critic, torch.zeros(2, 2, 1), targets)
    torch.testing.assert_close(loss, torch.tensor(6.5))


def test_critic_loss_does_not_move_latents() -> None:
    latents = torch.randn(4, 1, requires_grad=True)
    loss = critic_loss(Critic.published(1, (4,)), latents, torch.zeros(4, 1))
    assert torch.autograd.grad(loss, latents, allow_unused=True) == (None,)
    with pytest.raises(ValueError, match=r"targets must have shape \[4, 1\], got \[4\]"):
        critic_loss(Critic.published(1, (4,)), latents, torch.zeros(4))


def test_behaviour_loss_by_hand() -> None:
    latents, actions = torch.zeros(2, 1), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    loss = behaviour_loss(lambda z: torch.zeros(len(z), 2), latents, actions)
    torch.testing.assert_close(loss, torch.tensor((1.0 + 9.0) / 2))
    both = behaviour_loss(
        lambda z: torch.zeros(*z.shape[:-1], 2), latents.expand(2, 2, 1), actions.expand(2, 2, 2)
    )
    torch.testing.assert_close(both, torch.tensor(10.0))


@pytest.mark.parametrize("lead", [(6,), (6, 4), (6, 4, 2)])
def test_losses_of_one_policy_are_means_whatever_the_axes(lead: tuple[int, ...]) -> None:
    """The networks say whether there is a population, not the number of axes."""
    critic, latents = zeroed_critic(1.0, 4.0), torch.zeros(*lead, 1)
    targets = 2.0 * torch.ones(*lead, 1)
    targets[0] = 1.0
    # Heads 1 and 4 against 2, and in a sixth of the states against 1: errors -1, 2 and 0, 3.
    expected = torch.tensor((5 * (1 + 4) + 9) / 12)
    torch.testing.assert_close(critic_loss(critic, latents, targets), expected)
    weighted = critic_loss(critic, latents, targets, torch.full_like(targets, 0.5))
    torch.testing.assert_close(weighted, expected)
    actor = FirstOrderActor.published(1, 2, (2,))
    for parameter in actor.parameters():
        nn.init.zeros_(parameter)
    actions = torch.ones(*lead, 2)
    torch.testing.assert_close(behaviour_loss(actor, latents, actions), torch.tensor(2.0))
    real = torch.ones_like(targets)
    real[0] = 0.0
    actions[0] = 9.0
    loss = behaviour_loss(actor, latents, actions, real)  # made-up rows are left out
    torch.testing.assert_close(loss, torch.tensor(2.0))
    many = TOY.expand(*lead, *TOY.shape)
    value = actor_loss(many, zeroed_critic(0.0), 0.5)
    torch.testing.assert_close(value, torch.tensor(-2.75))  # 1 + 2/2 + 3/4


def test_populations_are_named_where_shapes_do_not_fit_them() -> None:
    critic, actor = (
        Critic.published(1, (2,), population=2),
        FirstOrderActor.published(1, 2, (2,), population=2),
    )
    three = torch.stack([TOY, TOY, TOY])
    wrong = {
        r"reward must have shape \[2, ..\], got \[3, 1, 3, 1\]": lambda: actor_loss(
            three, critic, 0.5
        ),
        r"latent must have shape \[2, .., D\], got \[3, 4, 1\]": lambda: critic_loss(
            critic, torch.zeros(3, 4, 1), torch.zeros(3, 4, 1)
        ),
        r"latent must have shape \[2, .., B, D\], got \[3, 4, 1\]": lambda: behaviour_loss(
            actor, torch.zeros(3, 4, 1), torch.zeros(3, 4, 2)
        ),
        r"gamma must be one number or one per policy \(1\), got shape \[3\]": lambda: actor_loss(
            torch.cat([TOY] * 3), Critic.published(1, (2,)), torch.tensor([0.5, 0.9, 0.1])
        ),
        r"scale must be one number or one per policy \(2\), got shape \[3\]": lambda: actor_loss(
            three[:2], critic, 0.5, scale=torch.ones(3)
        ),
        r"weight must have shape \[4, 1\], got \[4\]": lambda: behaviour_loss(
            FirstOrderActor.published(1, 2, (2,)),
            torch.zeros(4, 1),
            torch.zeros(4, 2),
            torch.ones(4),
        ),
    }
    for message, call in wrong.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_losses_are_given_policy_by_policy() -> None:
    critic, latents = zeroed_critic(1.0, population=2), torch.zeros(2, 3, 1)
    targets = torch.tensor([3.0, 5.0]).view(2, 1, 1).expand(2, 3, 1)
    loss = critic_loss(critic, latents, targets, per_policy=True)
    torch.testing.assert_close(loss, torch.tensor([4.0, 16.0]))
    loss = actor_loss(torch.stack([TOY, TOY]), critic, 0.5, scale=torch.tensor([1.0, 2.0]))
    own = actor_loss(
        torch.stack([TOY, TOY]), critic, 0.5, scale=torch.tensor([1.0, 2.0]), per_policy=True
    )
    torch.testing.assert_close(own.sum(), loss)
    torch.testing.assert_close(own[0], 2 * own[1])
