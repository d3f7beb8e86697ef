"""Policies act: units, one and many, arrays and tensors, tasks, memory, populations, updates."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from agents import batches_of, make
from small_policies import ASKING, NAMES, A, D, O, model, policy, tasks_of
from test_behaviours import Counting
from torch import nn

from pwm_sdk import MPPI, EnvPool, FirstOrderActor, ObservationPolicy, evaluate, make_env
from pwm_sdk.contract.agents import ActingPolicy


@pytest.mark.parametrize("name", NAMES)
def test_one_and_many_tensors_and_arrays_are_the_same(name: str) -> None:
    acting, seen, task = policy(name), torch.randn(5, O), tasks_of(name, 5)
    assert isinstance(acting, ActingPolicy)
    many = acting.act(seen, task)
    assert many.shape == (5, A) and not many.requires_grad
    for i in range(5):
        one = acting.act(seen[i], None if task is None else int(task[i]))
        torch.testing.assert_close(one, many[i], rtol=1e-5, atol=1e-6)
    arrays = acting.act(seen.numpy(), task)
    assert isinstance(arrays, np.ndarray) and arrays.dtype == np.float32
    np.testing.assert_array_equal(arrays, many.float().numpy())
    np.testing.assert_array_equal(
        acting.act(seen[0].tolist(), None if task is None else 0).shape, (A,)
    )


class Forwarding:
    """Stands before a module, and is none."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["module"], name)

    def __call__(self, latent: torch.Tensor) -> torch.Tensor:
        return self.module(latent)


def test_observations_get_the_type_of_networks_behind_a_wrapper() -> None:
    plain = ObservationPolicy(FirstOrderActor(O, A, (4,)).double())
    wrapped, seen = ObservationPolicy(Forwarding(plain.actor)), np.ones((2, O), np.float32)
    np.testing.assert_array_equal(wrapped.act(seen), plain.act(seen))


def test_actions_come_in_the_units_of_the_environment() -> None:
    acting = ObservationPolicy(nn.Identity())
    half = acting.bounded([-2.0, 0.0], [2.0, 10.0])
    assert half.act(torch.tensor([0.5, -1.0])).tolist() == [1.0, 0.0]
    assert half.act(torch.tensor([[7.0, 0.0]])).tolist() == [[2.0, 5.0]]  # clipped first
    assert acting.bounded(0.0, 1.0).act([0.0, 1.0]).tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="actions must have the size 3 of the bounds"):
        acting.bounded([0.0] * 3, 1.0).act([0.0, 1.0])
    with pytest.raises(ValueError, match="high must be at least low"):
        acting.bounded(1.0, 0.0)
    with pytest.raises(ValueError, match="high must be at least low, both finite"):
        ObservationPolicy(nn.Identity(), high=np.array([np.inf, 1.0]))


def test_bounds_are_read_from_environments() -> None:
    acting = ObservationPolicy(lambda seen: torch.ones(len(seen), 1))
    pendulum = gymnasium.make("Pendulum-v1")
    assert acting.for_env(pendulum).act(np.zeros(3)).tolist() == [2.0]
    assert acting.for_env(make_env("pendulum-swingup")).act(np.zeros(3)).tolist() == [1.0]
    with pytest.raises(ValueError, match="env must have a Box of actions, got Discrete"):
        acting.for_env(gymnasium.make("CartPole-v1"))


def test_the_pool_and_act_mean_the_same_action() -> None:
    """A loop by hand, in the environment's units, gives the episode of the pool."""
    acting = ObservationPolicy(FirstOrderActor(3, 1, (8,)))
    env = gymnasium.make("Pendulum-v1", max_episode_steps=20)
    by_hand, (seen, _), total, over = acting.for_env(env), env.reset(seed=3), 0.0, False
    while not over:
        seen, reward, terminated, truncated, _ = env.step(by_hand.act(seen))
        total, over = total + float(reward), terminated or truncated

    class Seeded(EnvPool):
        def reset_many(self, indices: Any, seeds: Any = None) -> Any:
            return super().reset_many(indices, [3] * len(indices))

    played = evaluate(Seeded([gymnasium.make("Pendulum-v1", max_episode_steps=20)]), acting, 1)
    assert played["return"] == pytest.approx(total, rel=1e-5)


def test_a_population_acts_side_by_side_and_members_alone() -> None:
    tasked = model(num_tasks=3, task_dim=4)
    team = ObservationPolicy(
        FirstOrderActor(D, A, (8,), population=2), model=tasked, tasks=[2, 0], low=-3.0
    )
    seen = torch.randn(2, O)
    together = team.act(seen)
    for i in range(2):
        alone = team.member(i)
        assert alone.population is None
        torch.testing.assert_close(alone.act(seen[i]), together[i], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"tasks must have one entry per policy \(2\), got 3"):
        team.act(torch.randn(3, O))
    with pytest.raises(ValueError, match=r"actors must cover 3 environments, got \[2\]"):
        ObservationPolicy(team.actor, model=model()).act(torch.randn(3, O))
    with pytest.raises(ValueError, match="actor must be a population to have members"):
        team.member(0).member(0)
    with pytest.raises(ValueError, match=r"tasks must have one entry per policy \(2\), got \[1\]"):
        team.for_tasks([1])


def test_tasks_come_with_the_policy_or_with_the_call() -> None:
    free, seen = policy("prior"), torch.randn(2, O)
    for task in (0, 1):
        own = free.for_tasks(task)
        torch.testing.assert_close(own.act(seen), free.act(seen, task))
        np.testing.assert_array_equal(own.behaviour([None, None])(seen.numpy()), own.act(seen))
    assert not torch.equal(free.act(seen, 0), free.act(seen, 1))
    with pytest.raises(ValueError, match="task of environment 0 must be known"):
        free.act(seen)
    with pytest.raises(ValueError, match="task of environment 1 must be one of the model's 2"):
        free.act(seen, [0, 5])
    with pytest.raises(ValueError, match=r"task must be one id or have shape \[2\]"):
        free.act(seen, [0, 1, 1])


def test_a_memory_goes_on_until_reset() -> None:
    acting = ObservationPolicy(Counting(), low=-100.0, high=100.0)
    seen = torch.zeros(2, 1)
    counts = [(acting.behaviour([None] * 2)(seen.numpy()) / 10).ravel().tolist()]
    assert counts == [[0.0, 0.0]]
    # in [-1, 1] each count from 1 on is 1, which is 100 in the environment's units
    assert acting.act(seen).ravel().tolist() == [0.0, 0.0]
    assert acting.act(seen).ravel().tolist() == [100.0, 100.0]
    acting.reset(1)
    assert acting.act(seen).ravel().tolist() == [100.0, 0.0]
    acting.reset()
    assert acting.act(seen[0]).tolist() == [0.0]
    with pytest.raises(ValueError, match=r"observation must have 1 rows, .* call reset\(\)"):
        acting.act(seen)


def test_plans_of_one_behaviour_are_not_those_of_another() -> None:
    made = model()
    kind = {"samples": 16, "elites": 4, "policy_samples": 0, "iterations": 2}
    planner = MPPI(made, torch.tanh, lambda z: z[..., :1], **kind)
    acting, seen = ObservationPolicy(planner), torch.randn(1, O)
    first, second = acting.behaviour([None]), acting.behaviour([None])
    first(seen.numpy())
    assert planner.mean is None and second.planner.mean is None
    assert first.planner.mean.shape == (1, 3, A)


@pytest.mark.parametrize("name", ["PWM", "Population", "SAC", "PPO", "TDMPC2", "BehaviourCloning"])
def test_policies_of_agents_follow_their_updates(name: str) -> None:
    agent, batches = make(name), batches_of(name)
    acting = agent.policy(plan=False) if name == "TDMPC2" else agent.policy()
    task = 0 if name in ("PWM", "Population", "TDMPC2") else None
    seen = torch.randn(2, 3)
    before = acting.act(seen, task).clone()
    for _ in range(3):
        agent.update(batches.sample())
    after = acting.act(seen, task)
    assert not torch.equal(before, after)
    again = agent.policy(plan=False) if name == "TDMPC2" else agent.policy()
    assert torch.equal(after, again.act(seen, task))


def test_the_averaged_actor_is_what_acts() -> None:
    from dataclasses import replace

    agent = make("PWM")
    averaged = type(agent)(
        agent.model, agent.actor, agent.critic, replace(agent.config, average_tau=0.1)
    )
    assert averaged.policy().actor is averaged.average is not averaged.actor
    assert averaged.explorer().actor is averaged.actor
    assert agent.policy().actor is agent.actor


def test_noise_of_explorers_follows_from_the_seed() -> None:
    def drawn(updates: int) -> np.ndarray:
        agent = make("PWM", generator=torch.Generator().manual_seed(7))
        agent.updates = updates
        return agent.explorer().act(np.ones((4, 3), np.float32), 0)

    torch.manual_seed(0)
    first = drawn(0)
    torch.manual_seed(0)
    np.testing.assert_array_equal(first, drawn(0))
    torch.manual_seed(0)
    assert not np.array_equal(first, drawn(1))


def test_what_does_not_act_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"actor must be callable, or have given or .* with carry, got 3"
    ):
        ObservationPolicy(3)
    with pytest.raises(ValueError, match=r"observation must have shape \[O\] or \[N, O\]"):
        policy("layers").act(torch.zeros(1, 2, O))
    assert set(ASKING) <= set(NAMES)
