"""The losses of a world model, on a toy model whose numbers can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.objectives.world_model import pwm_model_loss, world_model_errors, world_model_loss
from pwm_sdk.optim import optimize


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


def test_pwm_model_loss_by_hand() -> None:
    # Weights 1 and 1/2. Latent errors 2 and 2: (2 + 1)/2. Reward errors 9 and 0: mean 4.5, over H.
    dynamics, reward = pwm_model_loss(Integrator(), WRONG, gamma=0.5)
    torch.testing.assert_close(dynamics, torch.tensor(1.5))
    torch.testing.assert_close(reward, torch.tensor(2.25))


def windows(count: int = 64) -> TensorDict:
    """A point that moves by its action, rewarded with its first coordinate, in task 1."""
    action = torch.rand(count, 2, 2) * 2 - 1
    start = torch.rand(count, 1, 2)
    observation = torch.cat((start, start + action.cumsum(1)), 1)
    data = {"observation": observation, "action": action, "reward": observation[:, 1:, :1]}
    return TensorDict({**data, "task": torch.ones(count, dtype=torch.int64)}, [count])


def test_a_model_of_many_tasks_is_fine_tuned_with_the_loss_of_its_bins() -> None:
    """Not with the squared error of raw logits, which leaves no distribution of rewards."""
    sizes = {"task_dim": 4, "latent_dim": 16, "hidden": (32, 32), "encoder_hidden": (32,)}
    model, batch = WorldModel.published(2, 2, num_tasks=3, **sizes), windows()
    model.task_embedding.requires_grad_(False)  # as published
    other = model.task_embedding[0].clone()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    first = sum(pwm_model_loss(model, batch)).detach()
    for _ in range(150):
        dynamics, reward = pwm_model_loss(model, batch)
        optimize(dynamics + reward, optimizer, 20.0)
    assert (dynamics + reward).detach() < 0.6 * first
    latent = model.encode(batch["observation"][:, 0], batch["task"])
    predicted = model.reward(latent, batch["action"][:, 0], batch["task"]).detach()
    error = float((predicted - batch["reward"][:, 0]).square().mean())
    assert error < 0.2 * float(batch["reward"][:, 0].var())
    assert torch.equal(model.task_embedding[0], other)


def test_an_episodic_model_is_asked_about_ends() -> None:
    model = WorldModel.published(
        2, 2, num_tasks=3, task_dim=4, latent_dim=8, hidden=(8,), episodic=True
    )
    batch = windows(4)
    with pytest.raises(ValueError, match="batch must hold terminated for an episodic model"):
        world_model_loss(model, batch)
    with torch.no_grad():  # even odds: ln 2 at every step
        model.termination_head[-1].weight.zero_()
        ended = torch.zeros(4, 2, 1, dtype=torch.bool)
        batch["terminated"] = ended
        without = world_model_loss(model, batch, termination=0.0)
        total = world_model_loss(model, batch, termination=2.0)
    torch.testing.assert_close(total - without, torch.tensor(2 * math.log(2.0)))
