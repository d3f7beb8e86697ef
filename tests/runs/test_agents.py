"""All seven agents train under a `Run`, and go on where they stopped."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.wrappers import TimeLimit

from pwm_sdk import (
    PPO,
    SAC,
    SHAC,
    TDMPC2,
    AgentLoop,
    BehaviourCloning,
    Critic,
    DreamerV3,
    DreamerV3Config,
    EnvPool,
    FirstOrderActor,
    MassSpring,
    OtherRunError,
    PolicyPrior,
    PPOConfig,
    QEnsemble,
    RandomBehaviour,
    ReplayBuffer,
    Run,
    SACConfig,
    SHACConfig,
    SimulatorEnv,
    WorldModel,
    make_episode,
    make_gym,
    online_pwm,
    run_episodes,
)

TASK, O, A = "Pendulum-v1", 3, 1  # noqa: E741 - the legend of shapes


def pool(count: int = 1, seed: int = 0) -> EnvPool:
    return EnvPool([make_gym(TASK, seed=seed + i) for i in range(count)])


def online(agent: Any, replay: Any, count: int = 1, **settings: Any) -> AgentLoop:
    values = {"steps": 250, "updates_per_step": 0.04, "seed_steps": 210, **settings}
    return AgentLoop(agent, pool(count), replay, test_pool=pool(count, 1000), **values)


def pwm() -> Any:
    return online_pwm(TASK, "tiny")


def sac() -> AgentLoop:
    agent = SAC(O, A, SACConfig(hidden=(16,), batch_size=16, capacity=2000, random_steps=100))
    return online(agent, agent.make_replay(), count=2)


def ppo() -> AgentLoop:
    return online(PPO(O, A, PPOConfig(hidden=(16,), epochs=2)), None, count=2, every=125)


class Quick(TDMPC2):
    """One that plans with few candidates."""

    plans = {"samples": 8, "elites": 4, "policy_samples": 2, "iterations": 1}  # noqa: RUF012

    def policy(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().policy(**self.plans)

    def explorer(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().explorer(**self.plans)


def td_mpc2() -> AgentLoop:
    model = WorldModel(O, A, latent_dim=16, hidden=(16,), encoder_hidden=(16,), episodic=True)
    agent = Quick(model, QEnsemble.for_model(model, ensemble=2), PolicyPrior.for_model(model))
    return online(agent, ReplayBuffer(2000, 4, 8, seed=0), steps=20, updates_per_step=0.2)


def dreamer() -> AgentLoop:
    config = {"hidden": 16, "layers": 1, "belief": 16, "blocks": 2, "categoricals": 2, "classes": 4}
    agent = DreamerV3(O, A, DreamerV3Config(**config))
    return online(agent, ReplayBuffer(2000, 9, 4, seed=0), steps=50)


def cloning() -> AgentLoop:
    replay = ReplayBuffer(2000, 5, 8, seed=0)
    for e in run_episodes(pool(), RandomBehaviour(1, A, seed=0), [2])[0]:
        replay.add(make_episode(e.observation, e.action, e.reward, 0))
    agent = BehaviourCloning(FirstOrderActor(O, A, (16,)))
    return AgentLoop(agent, None, replay, updates=5, test_pool=pool())


def shac() -> AgentLoop:
    body = MassSpring(2, 2, episode_length=8)
    size, actions = body.observation_dim, body.action_dim
    actor, critic = FirstOrderActor(size, actions, (16,)), Critic(size, (16,), 1)
    agent = SHAC(body, actor, critic, SHACConfig(environments=2, horizon=4, critic_epochs=1))
    tests = EnvPool([TimeLimit(SimulatorEnv(body), 8)])
    return AgentLoop(agent, updates=3, test_pool=tests)


LOOPS: dict[str, Callable[[], Any]] = {
    "PWM": pwm, "SAC": sac, "PPO": ppo, "TD-MPC2": td_mpc2, "DreamerV3": dreamer,
    "cloning": cloning, "SHAC": shac,
}  # fmt: skip


def made(name: str) -> Any:
    torch.manual_seed(0)
    return LOOPS[name]()


def numbers(state: Any) -> list[torch.Tensor]:
    """All tensors of a state, in its order."""
    if isinstance(state, torch.Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state
    nested = isinstance(state, dict | list | tuple)
    return [value for part in parts for value in numbers(part)] if nested else []


@pytest.mark.parametrize("name", LOOPS)
def test_every_agent_trains_under_a_run(name: str, tmp_path: Path) -> None:
    loop = made(name)
    run = Run(tmp_path, loop, readings=1, episodes=1).train(rounds=2)
    assert [row["round"] for row in run.log] == [1, 2]
    assert loop.updates > 0 and all(row["updates"] > 0 for row in run.log)
    assert loop.steps > 0 or name == "cloning"
    assert len(run.curve) == 3  # before, between and after
    assert all(len(point["tasks"]) == len(loop.names) for point in run.curve)


@pytest.mark.parametrize("name", LOOPS)
def test_every_agent_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    """Two runs that continue from one checkpoint are equal in everything."""
    first = Run(tmp_path, made(name), readings=0)
    with pytest.raises(KeyboardInterrupt):
        first.train(rounds=3, stop=lambda: first.loop.round == 2)
    found = []
    for _ in range(2):
        loop = made(name)
        with Run(tmp_path, loop, readings=0) as run:
            run._begin()
            assert (loop.round, loop.updates) == (2, first.loop.updates)
            loop.run_round(0.7)
        found.append(numbers(loop.state_dict()))
    assert len(found[0]) > 3
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_copy_begins_new_episodes_and_acts_by_itself() -> None:
    """After a round its original has a stream of steps that is under way."""
    loop = ppo()
    loop.run_round(0.0)
    twin = copy.deepcopy(loop)
    assert twin._collector is None and loop._collector is not None
    twin.run_round(0.5)
    assert twin._collector is not None and twin._collector.behaviour is twin._acting
    assert (twin.steps, loop.steps) == (1000, 500)


def test_a_folder_of_another_agent_or_configuration_is_refused(tmp_path: Path) -> None:
    """The policy of an earlier experiment would come back as that of this one."""
    Run(tmp_path, ppo(), readings=0).train(rounds=1)
    slower = PPO(O, A, PPOConfig(hidden=(16,), epochs=2, gamma=0.5))
    for loop in (sac(), online(slower, None, count=2, every=125)):
        with pytest.raises(OtherRunError):
            Run(tmp_path, loop, readings=0).train(rounds=1)
    assert Run(tmp_path, ppo(), readings=0).train(rounds=1).loop.round == 1
