"""Evaluation: the table of a set of episodes, and whole episodes of the mean action."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from pwm_sdk.envs.factory import make_env, make_gym
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.planner import MPPI
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.tasks import MT80
from pwm_sdk.training.collect import Episode
from pwm_sdk.training.evaluate import evaluate, evaluate_members, summarize


class Identity:
    latent_dim, action_dim = 2, 1

    def encode(self, observation, task=None):
        self.task = task
        return observation


def pusher(force: float) -> FirstOrderActor:
    """An actor whose mean action is `force`, with noise that would show."""
    actor = FirstOrderActor.published(2, 1, (4,), std=3.0)
    for parameter in actor.net.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(actor.net.head.bias, float(np.arctanh(force)))
    return actor


def on(model, actor) -> ObservationPolicy:
    return ObservationPolicy(actor, model=model)


def episode(rewards: list[float], success: list[bool]) -> Episode:
    steps = len(rewards)
    return Episode(
        np.zeros((steps + 1, 2)), np.zeros((steps, 1)), np.array(rewards), np.array(success),
        np.zeros(steps, bool),
    )  # fmt: skip


def test_summary_by_hand() -> None:
    table = summarize(
        [
            episode([1.0, 2.0], [True, False]),
            episode([5.0, 0.0], [False, True]),
            episode([1.0, 0.0], [False, False]),
            episode([7.0], [True]),
        ]
    )
    assert table == pytest.approx(
        {
            "return": 4.0,  # of 3, 5, 1 and 7
            "return_std": 5**0.5,
            "return_min": 1.0,
            "success_any": 0.75,
            "success_last": 0.5,
            "episodes": 4.0,
        }
    )
    with pytest.raises(ValueError, match="episodes must not be empty"):
        summarize([])


def test_evaluates_the_mean_action_by_hand(point_mass) -> None:
    # From rest at -1 a push of 1/2 moves to -.96875 and -.909375, far from success.
    table = evaluate(
        point_mass(start=-1.0, length=2),
        on(Identity(), pusher(0.5)),
        episodes=3,
    )
    expected = np.exp(-4 * 0.96875**2) + np.exp(-4 * 0.909375**2)
    assert table["return"] == pytest.approx(expected, rel=1e-5)
    assert table["return_std"] == pytest.approx(0.0, abs=1e-9)
    assert table["episodes"] == 3
    assert table["success_any"] == 0.0


def test_the_task_comes_from_the_environment_or_the_argument(point_mass) -> None:
    model = Identity()
    evaluate(point_mass(length=2), on(model, pusher(0.0)), episodes=1)
    assert model.task.tolist() == [0]
    evaluate(point_mass(length=2), on(model, pusher(0.0)), episodes=1, task=7)
    assert model.task.tolist() == [7]


@pytest.mark.parametrize("make", [make_env, make_gym])
def test_a_real_task(make) -> None:
    env = make("mw-reach", seed=0)
    model = WorldModel.published(39, 4, num_tasks=80, task_dim=4, latent_dim=8, hidden=(8,))
    table = evaluate(env, on(model, FirstOrderActor.published(8, 4, (8,))), episodes=1)
    assert 0.0 < table["return"] < 1000.0
    env.close()


def test_a_pool_is_taken_as_it_is(point_mass) -> None:
    policy = on(Identity(), pusher(0.5))
    pool = EnvPool([point_mass(start=-1.0, length=2), point_mass(start=0.0, length=2)])
    both = evaluate(pool, policy, 2)
    envs = [point_mass(start=-1.0, length=2), point_mass(start=0.0, length=2)]
    assert both == evaluate(envs, policy, 2)
    assert len(pool.reset_many([0, 1])) == 2  # still open


def test_every_member_of_a_population_is_evaluated_at_once(point_mass) -> None:
    actor = FirstOrderActor.published(2, 1, (4,), population=2)
    for parameter in actor.net.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        actor.net.head.bias[:, 0, 0] = torch.tensor([0.5, -0.5]).atanh()
    model = Identity()
    envs = [point_mass(start=-1.0, length=2) for _ in range(2)]
    tables = evaluate_members(envs, on(model, actor), episodes=2, tasks=[3, 4])
    assert model.task.tolist() == [3, 4]
    for i in range(2):
        env = point_mass(start=-1.0, length=2)
        assert tables[i] == pytest.approx(evaluate(env, on(model, actor.member(i)), episodes=2))
    assert tables[0]["return"] > tables[1]["return"]
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        evaluate_members(envs, on(model, actor), episodes=0)
    with pytest.raises(ValueError, match=r"tasks must have one entry per policy \(2\), got 1"):
        evaluate_members(envs, on(model, actor), tasks=[3])


def test_a_pool_stays_open_and_gives_the_same_episodes_from_the_same_seeds() -> None:
    model = WorldModel.published(39, 6, num_tasks=80, task_dim=4, latent_dim=8, hidden=(8,))
    actor = FirstOrderActor.published(8, 6, (8,), population=2)
    makers = [partial(make_gym, name, padded=True) for name in ("mw-reach", "pendulum-swingup")]
    pool = EnvPool(makers)
    first, second = (evaluate_members(pool, on(model, actor), 1, seeds=[3, 4]) for _ in range(2))
    goes_on = evaluate_members(pool, on(model, actor), 1)
    pool.close()
    seeded = [partial(maker, seed=seed) for maker, seed in zip(makers, (3, 4), strict=True)]
    assert first == second == evaluate_members(seeded, on(model, actor), 1)
    assert goes_on[0]["return"] != first[0]["return"]
    with pytest.raises(ValueError, match=r"seeds must have one entry per policy \(2\), got 1"):
        evaluate_members(makers, on(model, actor), seeds=[3])


def zero(latent):
    return torch.zeros_like(latent[..., :1])


class Exact(Identity):
    """The point mass as a latent model, with an action of zero effect that the env has not."""

    action_dim = 2

    def step(self, latent, action, task=None):
        v = 0.9 * latent[..., 1:] + 0.25 * action[..., :1]
        p = latent[..., :1] + 0.25 * v
        return torch.cat((p, v), -1), torch.exp(-4 * p.square())


def test_planning_in_an_exact_model_solves_the_task(point_mass) -> None:
    planner = MPPI(
        Exact(), torch.zeros_like, zero, horizon=8, samples=128, elites=16,
        iterations=4, temperature=5.0, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    table = evaluate(point_mass(start=-1.0), ObservationPolicy(planner), episodes=2)
    idle = evaluate(point_mass(start=-1.0), on(Identity(), pusher(0.0)), episodes=1)
    assert table["success_last"] == 1.0
    assert table["return"] > 25.0 > 2.0 > idle["return"]


def test_a_new_episode_starts_a_new_plan(point_mass, monkeypatch) -> None:
    planner = MPPI(Exact(), torch.zeros_like, zero, samples=32, elites=4)
    forgotten = []
    reset = MPPI.reset
    monkeypatch.setattr(
        MPPI, "reset", lambda own, index=None: (forgotten.append(index), reset(own, index))
    )
    evaluate(point_mass(length=2), ObservationPolicy(planner), episodes=3)
    assert forgotten == [None, 0, 0, 0]


def test_at_least_one_episode(point_mass) -> None:
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        evaluate(point_mass(), on(Identity(), pusher(0.0)), episodes=0)


def test_evaluation_leaves_no_gradient(point_mass) -> None:
    actor = pusher(0.5)
    evaluate(point_mass(length=2), on(Identity(), actor), episodes=1)
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in actor.parameters())


def test_copies_share_the_episodes_out(point_mass) -> None:
    starts = (-1.0, 0.0)
    copies = [point_mass(start=start, length=2) for start in starts]
    table = evaluate(copies, on(Identity(), pusher(0.5)), episodes=3)
    alone = [
        evaluate(point_mass(start=s, length=2), on(Identity(), pusher(0.5)), 1) for s in starts
    ]
    returns = [alone[0]["return"], alone[0]["return"], alone[1]["return"]]
    assert table["episodes"] == 3
    assert table["return"] == pytest.approx(np.mean(returns), rel=1e-6)
    assert table["return_min"] == pytest.approx(min(returns), rel=1e-6)


def test_workers_give_the_same_table_to_the_bit() -> None:
    model = WorldModel.published(39, 6, num_tasks=80, task_dim=4, latent_dim=8, hidden=(8,))
    actor = FirstOrderActor.published(8, 6, (8,), population=2)
    names = ("cartpole-swingup", "pendulum-swingup")
    makers = [partial(make_gym, name, seed=0, padded=True) for name in names]
    one, two = (evaluate_members(makers, on(model, actor), 1, workers=n) for n in (0, 2))
    assert one == two
    assert len({table["return"] for table in one}) == 2


def test_only_a_model_of_tasks_sees_padded_observations(point_mass) -> None:
    wide = {"latent_dim": 8, "hidden": (8,), "encoder_hidden": (8,)}
    actor = FirstOrderActor.published(8, 1, (4,))
    many = WorldModel.published(5, 1, num_tasks=1, task_dim=2, **wide)
    assert evaluate(point_mass(length=2), on(many, actor), 1)["episodes"] == 1.0
    alone = WorldModel.published(5, 1, **wide)
    planner = MPPI(alone, actor, zero, samples=8, elites=2, policy_samples=2)
    for policy in (on(alone, actor), ObservationPolicy(planner)):
        with pytest.raises(ValueError, match=r"observation must have the model's size 5, got \[1"):
            evaluate(point_mass(length=2), policy, 1)


def test_environments_and_tasks_that_do_not_fit_are_named(point_mass) -> None:
    class Longer(type(point_mass())):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))

        def reset(self, **given):
            return np.zeros(3, np.float32), {}

    with pytest.raises(ValueError, match=r"observations of one size .*, got \[\[2\], \[3\]\]"):
        evaluate([point_mass(), Longer()], on(Identity(), pusher(0.5)), 2)
    with pytest.raises(ValueError, match="task must be an integer index or a Task, got 'reach'"):
        evaluate(point_mass(), on(Identity(), pusher(0.5)), 1, task="reach")  # pyright: ignore
    with pytest.raises(ValueError, match=r"observation of environment 0 .* finite, got nan in ent"):
        evaluate(point_mass(start=np.nan), on(Identity(), pusher(0.5)), 1)


def test_a_task_may_stand_for_its_id(point_mass) -> None:
    model = Identity()
    evaluate(point_mass(length=2), on(model, pusher(0.5)), 1, task=MT80[3])  # pyright: ignore
    assert model.task.tolist() == [3]
