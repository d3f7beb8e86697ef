"""Early termination on real tasks: environment, data, model, imagination, bootstrap and updates."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.data.replay import ReplayBuffer, make_episode
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.functional.returns import alive_steps
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.objectives.policy import imagined_returns, lambda_targets
from pwm_sdk.objectives.world_model import world_model_loss
from pwm_sdk.optim import optimize
from pwm_sdk.policies.behaviours import RandomBehaviour
from pwm_sdk.rollout import LatentRollout
from pwm_sdk.tasks import SINGLE_TASKS
from pwm_sdk.training.collect import Episode, run_episodes

each_task = pytest.mark.parametrize("name", ["hopper-forward", "humanoid-forward"])
CONFIG = PWMConfig.paper(horizon=5, gamma=0.9, critic_epochs=1, critic_splits=1)


@cache
def falls(name: str) -> list[Episode]:
    """Episodes of random actions; all of them end in a fall."""
    task = SINGLE_TASKS[name]
    pool = EnvPool([make_gym(name, seed=0)])
    return run_episodes(pool, RandomBehaviour(1, task.action_dim, seed=0, hold=5), [12])[0]


@cache
def trained(name: str, absorbing: int = 3) -> tuple[WorldModel, ReplayBuffer]:
    """A small model of the falls, after some updates on windows of four steps."""
    task = SINGLE_TASKS[name]
    torch.manual_seed(0)
    replay = ReplayBuffer(10_000, 5, 64, seed=0)
    for e in falls(name):
        replay.add(
            make_episode(e.observation, e.action, e.reward, 0, e.terminated, absorbing=absorbing)
        )
    model = WorldModel.published(
        task.observation_dim, task.action_dim, latent_dim=32, hidden=(64,), encoder_hidden=(64,),
        num_bins=0, activation="silu", standardize=True, episodic=True,
    )  # fmt: skip
    moments = replay.statistics(0)
    model.set_observation_statistics(moments["observation_mean"], moments["observation_std"] + 0.01)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(250):
        optimize(world_model_loss(model, replay.sample(), reward=1.0), optimizer, max_norm=10.0)
    return model, replay


def copied(name: str, odds: float | None = None) -> WorldModel:
    """The trained model, with a head that always says the same where `odds` are given."""
    model = copy.deepcopy(trained(name)[0])
    if odds is not None:
        head: Any = model.termination_head
        with torch.no_grad():
            head[-1].weight.zero_()
            head[-1].bias.fill_(odds)
    return model


def assemble(model: Any, name: str) -> PWM:
    torch.manual_seed(1)
    actor = FirstOrderActor.published(model.latent_dim, SINGLE_TASKS[name].action_dim, (32,))
    critic = Critic.published(model.latent_dim, (32,), 1)
    generator = torch.Generator().manual_seed(2)
    return PWM(model, actor, critic, CONFIG, generator=generator)


@each_task
def test_environment_and_data_say_where_the_body_fell(name: str) -> None:
    assert SINGLE_TASKS[name].terminates
    for episode in falls(name):
        assert 5 < len(episode.reward) < SINGLE_TASKS[name].episode_length
        assert episode.terminated.tolist() == [False] * (len(episode.reward) - 1) + [True]
    _, replay = trained(name)
    ended = replay.sample(512)["terminated"].squeeze(-1)
    assert bool((ended.int().diff(dim=1) >= 0).all())  # what is over stays over
    first = ended.int().argmax(1)[ended.any(1)]
    assert set(first.tolist()) == {0, 1, 2, 3}  # windows see ends at each of their steps


def said_to_end(model: Any, name: str, depth: int, before: int = 0) -> float:
    """Share of episodes whose end (or the state `before` it) is one, `depth` steps ahead."""
    found = []
    for episode in falls(name):
        observation, action = map(torch.as_tensor, (episode.observation, episode.action))
        end = len(action) - before
        with torch.no_grad():
            latent, over = model.encode(observation[end - depth]), torch.tensor(False)
            for t in range(end - depth, end):
                latent, _, over = model.step(latent, action[t])
        found.append(bool(over))
    return float(np.mean(found))


@each_task
def test_the_head_of_the_model_learns_the_fall(name: str) -> None:
    model = trained(name)[0]
    for depth in (1, 2, 4):
        assert said_to_end(model, name, depth) > 0.7
        assert said_to_end(model, name, depth, before=5) < 0.1


@each_task
def test_without_absorbing_rows_ends_near_by_are_missed(name: str) -> None:
    model = trained(name, absorbing=0)[0]
    assert said_to_end(model, name, 1) < 0.3


@each_task
def test_imagination_ends_where_the_model_says_so(name: str) -> None:
    """By hand, start by start: what the actor climbs and the targets of the critic."""
    model, replay = trained(name)
    pwm = assemble(model, name)
    episodes = replay.episodes()
    near = torch.stack([e["observation"][-1 - k] for e in episodes for k in (5, 7, 13)])
    with torch.no_grad():
        trajectory = LatentRollout(model, pwm.actor, 5, generator=pwm.generator)(model.encode(near))
        returns = imagined_returns(trajectory, pwm.critic, 0.9).squeeze(-1)
        targets = lambda_targets(trajectory, pwm.critic, 0.9, 1.0).squeeze(-1)
        after: Any = trajectory["next"]
        last = pwm.critic(after["latent"][:, -1]).squeeze(-1)
    ends, rewards = after["terminated"].squeeze(-1), after["reward"].squeeze(-1)
    first = torch.where(ends.any(1), ends.int().argmax(1), torch.tensor(5)).tolist()
    assert {True, False} == {f < 5 for f in first}
    alive = alive_steps(after["terminated"]).squeeze(-1)
    for i, end in enumerate(first):
        steps = min(end + 1, 5)
        assert alive[i].tolist() == [1.0] * steps + [0.0] * (5 - steps)
        expected = sum(0.9**t * float(rewards[i, t]) for t in range(steps))
        if end == 5:
            expected += 0.9**5 * float(last[i])
        assert float(returns[i]) == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert float(targets[i, 0]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@each_task
def test_a_sure_end_leaves_one_reward_and_no_bootstrap(name: str) -> None:
    batch = trained(name)[1].sample(32)
    pwm = assemble(copied(name, odds=20.0), name)
    first: list[Tensor] = []
    rollout = pwm.rollout
    pwm.rollout = lambda *args: first.append(rollout(*args)) or first[0]  # pyright: ignore
    metrics = pwm.update(batch)
    trajectory: Any = first[0]
    reward = trajectory["next", "reward"][:, 0]
    assert bool(trajectory["next", "terminated"].all())
    torch.testing.assert_close(metrics["return"], reward.mean().detach())
    seen = trajectory["latent"][:, 0].detach()  # the only step that the critic learns from
    critic = assemble(copied(name), name).critic
    error = (critic(seen) - reward.detach()).square().mean().detach()
    torch.testing.assert_close(metrics["value_loss"], error, rtol=1e-3, atol=1e-5)


@each_task
def test_a_model_that_sees_no_end_trains_as_one_without_a_head(name: str) -> None:
    results = []
    for episodic in (True, False):
        model = copied(name, odds=-20.0)
        if not episodic:
            model.episodic, model.termination_head = False, None
        pwm = assemble(model, name)
        trained(name)[1].generator.manual_seed(5)
        results.append([pwm.update(trained(name)[1].sample(32)) for _ in range(2)])
    for with_head, without in zip(*results, strict=True):
        for key, value in with_head.items():
            torch.testing.assert_close(value, without[key])


@each_task
def test_updates_go_on_with_ends_in_imagination(name: str) -> None:
    model, replay = trained(name)
    pwm = assemble(model, name)
    metrics = [pwm.update(replay.sample(64)) for _ in range(5)]
    values = np.array([[float(m[key]) for key in sorted(m)] for m in metrics])
    assert np.isfinite(values).all()
    assert all(m["actor_grad_norm"] > 0 for m in metrics)
