"""A growing batch with a model of one's own: it works, or says at once what the model lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.training.online import GrowingBatch
from pwm_sdk.training.settings import Learner, RoundConfig


class Own(nn.Module):
    """The least that the loop asks of a model; it knows of no tasks and shows no tables."""

    latent_dim, action_dim = 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.moves, self.pays, self.unit = nn.Linear(3, 2), nn.Linear(3, 1), torch.ones(2)

    def encode(self, observation: Tensor, task: Any = None) -> Tensor:
        return observation / self.unit

    def next(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return latent + self.moves(torch.cat((latent, action), -1))

    def reward_logits(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return self.pays(torch.cat((latent, action), -1))

    def reward_error(self, logits: Tensor, reward: Tensor) -> Tensor:
        return (logits - reward).square()

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, Tensor]:
        return self.next(latent, action), self.reward_logits(latent, action)

    def set_observation_statistics(self, mean: Tensor, std: Tensor, task: Any = None) -> None:
        self.unit = std


def loop(
    model: Any, point_mass: Any, actor: Any = None, model_loss: Any = None, **settings: Any
) -> GrowingBatch:
    policy = FirstOrderActor.published(2, 1, (4,)) if actor is None else actor
    pwm = PWM(model, policy, Critic.published(2, (4,)), PWMConfig.paper(horizon=2))
    return GrowingBatch(
        EnvPool([point_mass()]), model, torch.optim.Adam(model.parameters()),
        [Learner(pwm, [0], 4)], ReplayBuffer(500, 3, 4, seed=0),
        RoundConfig(updates=2, first_updates=2, **settings),
        reward_scale=[1.0], lengths=[20], episodes=[1], model_loss=model_loss,
    )  # fmt: skip


def test_a_model_with_what_the_loop_asks_for_works(point_mass: Any) -> None:
    model = Own()
    growing = loop(model, point_mass)
    growing.collect_seed([2])
    assert not torch.equal(model.unit, torch.ones(2))
    for progress in (0.1, 0.2):
        report = growing.run_round(progress)
    assert np.isfinite(report.metrics["model_loss"])


NEEDED = ["encode", "step", "next", "reward_logits", "reward_error"]


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_model_lacks_is_named_at_once(name: str, point_mass: Any) -> None:
    left = (name, "__init__", "__dict__", "__weakref__")
    kept = {key: value for key, value in vars(Own).items() if key not in left}
    model = type("Less", (nn.Linear,), kept)(3, 2)
    with pytest.raises(ValueError, match=f"model must have {name}\\b"):
        loop(model, point_mass)


def test_other_lacks_are_named_at_once(point_mass: Any) -> None:
    model = Own()
    model.episodic = True  # pyright: ignore
    with pytest.raises(ValueError, match="model must have terminated, termination_logits to be"):
        loop(model, point_mass)
    plain = WorldModel.published(2, 1, latent_dim=2, simnorm_size=2, hidden=(4,))
    with pytest.raises(ValueError, match="model must have observation statistics"):
        loop(plain, point_mass, statistics_rounds=3)
    loop(plain, point_mass).collect_seed([1])

    class Silent(FirstOrderActor):
        set_std = property()  # pyright: ignore

    with pytest.raises(ValueError, match="actor must have set_std to explore, got a Silent"):
        loop(Own(), point_mass, actor=Silent(2, 1, (4,)))


class Remembering(Own):
    """A model with memory, which `world_model_loss` cannot train."""

    def observe(
        self, latent: Tensor, action: Tensor, observation: Tensor, first: Tensor, task=None
    ):
        seen = self.encode(observation)
        return torch.where(first, seen, 0.5 * (seen + self.next(latent, action)))


def test_a_model_with_memory_needs_a_loss(point_mass: Any) -> None:
    with pytest.raises(ValueError, match="model must have loss to be trained"):
        loop(Remembering(), point_mass)


def test_a_loss_is_handed_over(point_mass: Any) -> None:
    """The model then needs none of what the default loss asks for."""

    class Least(nn.Linear):
        latent_dim, action_dim = 2, 1

        def encode(self, observation: Tensor, task: Any = None) -> Tensor:
            return observation

        def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, Tensor]:
            return latent + action, latent[..., :1]

    calls = []

    def own_loss(model: Any, batch: Any) -> Any:
        calls.append(batch["observation"].shape)
        return model.weight.square().sum(), {"size": torch.tensor(3.0)}

    growing = loop(Least(2, 2), point_mass, model_loss=own_loss)
    growing.collect_seed([2])
    before = growing.model.weight.detach().clone()
    metrics = growing.run_round(0.1).metrics
    assert calls == [(4, 3, 2)] * 2
    assert metrics["model/size"] == 3.0
    assert bool((growing.model.weight.abs() < before.abs()).all())


def test_two_processes_need_the_tables(point_mass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="model must have observation_mean, observation_std to be"):
        loop(Own(), point_mass)
