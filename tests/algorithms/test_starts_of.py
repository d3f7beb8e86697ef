"""What an update takes from a batch, and which parts fit together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict

from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.algorithms.return_scales import ReturnDeviation, ReturnScale
from pwm_sdk.algorithms.starts import start_latents, starts_of
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel


def batch(*shape: int, task: tuple[int, ...]) -> TensorDict:
    data = {"observation": torch.rand(shape), "task": torch.zeros(task, dtype=torch.int64)}
    return TensorDict(data, [])


def test_the_first_row_of_windows_is_used() -> None:
    windows = batch(5, 4, 3, task=(5,))
    observation, task, action = starts_of(windows, None)
    assert torch.equal(observation, windows["observation"][:, 0])
    assert task is windows["task"]
    assert action is None


@pytest.mark.parametrize(
    ("given", "population", "message"),
    [
        # The starts of one task as of a population of one would be read as a single window.
        (batch(1, 8, 3, task=(1, 8)), None, r"task must have shape \[1\] beside .*\[1, 8, 3\]"),
        (batch(8, 3, task=(1,)), None, r"task must have shape \[8\] .*, got \[1\]"),
        (batch(2, 8, 3, task=(8,)), 2, r"task must have shape \[2, 8\] .*, got \[8\]"),
        (batch(3, task=(3,)), None, r"observation must have shape \[B, O\] or .*, got \[3\]"),
        (batch(0, 3, task=(0,)), None, r"at least one start, got observations \[0, 3\]"),
        (TensorDict({"task": torch.zeros(2)}, [2]), None, r"hold observation, got \['task'\]"),
    ],
)
def test_batches_that_do_not_fit_are_named(given: Any, population: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        starts_of(given, population)


def model() -> WorldModel:
    return WorldModel.published(3, 1, latent_dim=8, hidden=(8,), encoder_hidden=(8,))


@pytest.mark.parametrize(
    ("population", "scale", "message"),
    [
        (None, ReturnScale(2), "population None, got one of 2"),
        (2, ReturnScale(3), "population 2, got one of 3"),
        (2, ReturnDeviation(), "population 2, got one of 1"),
    ],
)
def test_a_return_scale_is_of_the_same_population(population: Any, scale: Any, message) -> None:
    actor, critic = (
        FirstOrderActor.published(8, 1, (4,), population=population),
        Critic.published(8, (4,), population=population),
    )
    with pytest.raises(ValueError, match=f"return_scale must be of the actor's {message}"):
        PWM(model(), actor, critic, return_scale=scale)
    PWM(
        model(),
        FirstOrderActor.published(8, 1, (4,)),
        Critic.published(8, (4,)),
        return_scale=ReturnScale(1),
    )


def test_actor_and_critic_see_the_model_s_latents() -> None:
    with pytest.raises(ValueError, match="critic must take latents of size 8, got 7"):
        PWM(model(), FirstOrderActor.published(8, 1, (4,)), Critic.published(7, (4,)))
    with pytest.raises(ValueError, match="actor must take latents of size 8, got 7"):
        PWM(model(), FirstOrderActor.published(7, 1, (4,)), Critic.published(8, (4,)))


class Counting:
    """A memory that adds up what it sees: each latent tells which rows it has seen."""

    latent_dim, action_dim = 1, 1

    def encode(self, observation: Any, task: Any = None) -> Any:
        return observation

    def observe(self, latent: Any, action: Any, observation: Any, first: Any, task: Any = None):
        return observation + (latent + 100 * action).masked_fill(first, 0.0)

    def step(self, latent: Any, action: Any, task: Any = None) -> Any:
        return latent, latent


def test_a_memory_starts_where_a_window_or_an_episode_in_it_ends() -> None:
    windows = {
        "observation": torch.tensor([[1.0, 2.0, 4.0]] * 3).unsqueeze(-1),
        "action": torch.tensor([[1.0, 2.0]] * 3).unsqueeze(-1),
        "terminated": torch.tensor([[False, False], [False, True], [True, True]]).unsqueeze(-1),
        "real": torch.tensor([[True, True], [True, True], [True, False]]).unsqueeze(-1),
    }
    seen, task, action = starts_of(windows, None, memory=True)
    assert (task, action) == (None, None)  # what followed on the last row is not known
    assert start_latents(Counting(), seen, None).flatten().tolist() == [307, 103, 1]


def test_a_memory_sees_the_history_of_starts() -> None:
    history = {
        "observation": torch.tensor([[[1.0, 1.0, 4.0]]]).unsqueeze(-1),
        "action": torch.tensor([[[5.0, 1.0, 9.0]]]).unsqueeze(-1),
        "first": torch.tensor([[[True, True, False]]]).unsqueeze(-1),
        "real": torch.ones(1, 1, 1, dtype=torch.bool),
        "task": torch.zeros(1, 1, dtype=torch.int64),
    }
    seen, task, action = starts_of(history, 1, memory=True)
    assert action is not None
    assert action.tolist() == [[[9.0]]]
    assert start_latents(Counting(), seen, task).tolist() == [[[105.0]]]
    alone = {name: value[0] for name, value in history.items()}
    assert start_latents(Counting(), starts_of(alone, None, memory=True)[0], None).item() == 105.0
    short = {**alone, "action": alone["action"][:, :1]}
    with pytest.raises(ValueError, match=r"batch must hold 2 actions beside 3 observations"):
        starts_of(short, None, memory=True)
    plain = {"observation": torch.ones(1, 2, 1)}
    assert starts_of(plain, 1, memory=True)[0] is plain["observation"]
