"""The losses, on toy trajectories and toy models whose numbers can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.models.critic import Critic
from pwm_sdk.objectives import (
    actor_loss,
    behaviour_loss,
    critic_loss,
    imagined_returns,
    lambda_targets,
    world_model_errors,
    world_model_loss,
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
    critic = Critic(1, (2,), len(heads), **settings)
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


def test_critic_loss_of_a_population_adds_up() -> None:
    critic = zeroed_critic(1.0, population=2, scale=[1.0, 2.0])
    targets = torch.tensor([[[3.0], [3.0]], [[4.0], [6.0]]])
    # Values 1 and 2; errors -2, -2 and, in units of 2, -1, -2: means 4 and 2.5.
    loss = critic_loss(critic, torch.zeros(2, 2, 1), targets)
    torch.testing.assert_close(loss, torch.tensor(6.5))


def test_critic_loss_does_not_move_latents() -> None:
    latents = torch.randn(4, 1, requires_grad=True)
    loss = critic_loss(Critic(1, (4,)), latents, torch.zeros(4, 1))
    assert torch.autograd.grad(loss, latents, allow_unused=True) == (None,)
    with pytest.raises(ValueError, match=r"targets must have shape \[4, 1\], got \[4\]"):
        critic_loss(Critic(1, (4,)), latents, torch.zeros(4))


def test_behaviour_loss_by_hand() -> None:
    latents, actions = torch.zeros(2, 1), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    loss = behaviour_loss(lambda z: torch.zeros(len(z), 2), latents, actions)
    torch.testing.assert_close(loss, torch.tensor((1.0 + 9.0) / 2))
    both = behaviour_loss(
        lambda z: torch.zeros(*z.shape[:-1], 2), latents.expand(2, 2, 1), actions.expand(2, 2, 2)
    )
    torch.testing.assert_close(both, torch.tensor(10.0))


class Integrator(nn.Module):
    """The latent is the observation; z' = z + gain a; the reward is z[0], with squared error."""

    num_tasks = 2

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def next(self, latent: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        return latent + self.gain * action

    def reward_logits(self, latent: Tensor, action: Tensor, task=None) -> Tensor:
        return latent[..., :1]

    def reward_error(self, logits: Tensor, reward: Tensor) -> Tensor:
        return (logits - reward).square()


def window(observation: list, action: list, reward: list, task: int = 0) -> TensorDict:
    steps = len(action)
    data = {
        "observation": torch.tensor(observation).view(1, steps + 1, 2),
        "action": torch.tensor(action).view(1, steps, 2),
        "reward": torch.tensor(reward).view(1, steps, 1),
        "task": torch.tensor([task]),
    }
    return TensorDict(data, [1])


MOVES = [[1.0, 0.0], [0.0, 2.0]]
EXACT = window([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]], MOVES, [0.0, 1.0])
# Open loop the model says (1, 0) and (1, 2); the data says (1, 2) and (1, 0). Latent errors
# (0 + 4)/2 and (0 + 4)/2; rewards are predicted as 0 and 1, and are 3 and 1: errors 9 and 0.
WRONG = window([[0.0, 0.0], [1.0, 2.0], [1.0, 0.0]], MOVES, [3.0, 1.0], task=1)


def test_an_exact_model_has_no_errors() -> None:
    consistency, reward = world_model_errors(Integrator(), EXACT)
    assert consistency.shape == reward.shape == (1, 1)
    assert not consistency.any()
    assert not reward.any()


def test_world_model_errors_by_hand() -> None:
    # Weights with rho = 1/2 are 2/3 and 1/3.
    consistency, reward = world_model_errors(Integrator(), WRONG, rho=0.5)
    torch.testing.assert_close(consistency, torch.tensor([[2.0]]))
    torch.testing.assert_close(reward, torch.tensor([[9 * 2 / 3]]))
    _, even = world_model_errors(Integrator(), WRONG, rho=1.0)
    torch.testing.assert_close(even, torch.tensor([[4.5]]))


def test_world_model_loss_weighs_parts_and_tasks_by_hand() -> None:
    both = torch.cat([EXACT, WRONG])
    loss = world_model_loss(Integrator(), both, consistency=10.0, reward=0.5)
    torch.testing.assert_close(loss, torch.tensor((10 * 2.0 + 0.5 * 6.0) / 2))
    weight = torch.tensor([7.0, 3.0])
    loss = world_model_loss(Integrator(), both, consistency=10.0, reward=0.5, reward_weight=weight)
    torch.testing.assert_close(loss, torch.tensor((10 * 2.0 + 0.5 * 3 * 6.0) / 2))


def test_errors_are_open_loop() -> None:
    """The second step starts from the predicted latent, so an early error shows twice."""
    model = Integrator()
    with torch.no_grad():
        model.gain.fill_(0.0)
    # Predicted (0, 0) twice against (1, 0) and (1, 2): 1/2 and 5/2, weighted 2/3 and 1/3.
    consistency, _ = world_model_errors(model, EXACT, rho=0.5)
    torch.testing.assert_close(consistency, torch.tensor([[0.5 * 2 / 3 + 2.5 / 3]]))


def test_windows_must_fit() -> None:
    short = TensorDict({**EXACT, "observation": EXACT["observation"][:, :2]}, [1])
    with pytest.raises(ValueError, match=r"H\+1 observations, H actions and H rewards, got 2, 2"):
        world_model_errors(Integrator(), short)
