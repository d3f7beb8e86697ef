"""The recipe prints as the program that it stands for, works for any task, and learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from pwm_sdk import (
    MT80,
    SINGLE_TASKS,
    EnvPool,
    OnlineConfig,
    RoundConfig,
    Task,
    TaskPlan,
    evaluate,
    evaluate_members,
    make_env,
    make_gym,
    online_pwm,
    plan_for,
    register_task,
    seed_for,
)


def first_round(loop: Any) -> list[torch.Tensor]:
    """Run a round; everything that was learned and collected."""
    loop.begin()
    report = loop.run_round(0.0)
    found = [torch.as_tensor(report.train_return), *loop.model.state_dict().values()]
    for learner in loop.learners:
        found += [*learner.pwm.actor.state_dict().values()]
        found += [*learner.pwm.critic.state_dict().values()]
    return [*found, *loop.replay.statistics(loop.tasks[0]).values()]


@pytest.mark.parametrize(
    "task", ["Pendulum-v1", ["walker-stand", "Pendulum-v1"], ["walker-stand", "cartpole-swingup"]]
)
def test_the_code_makes_the_same_loop(task: Any) -> None:
    loop = online_pwm(task, "tiny", seed=3)
    names: dict[str, Any] = {}
    exec(compile(loop.code, "code", "exec"), names)
    written = names["loop"]
    for one, other in zip(first_round(loop), first_round(written), strict=True):
        assert torch.equal(one, other)
    assert online_pwm(task, "tiny", seed=3).code == loop.code


def test_the_example_is_the_code() -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "05_online_pwm_expanded.py"
    assert online_pwm("Pendulum-v1").code in example.read_text(encoding="utf-8")


def test_the_code_says_what_differs() -> None:
    small, large = (online_pwm("Pendulum-v1", scale).code for scale in ("small", "published"))
    assert "WorldModel(3, 1, episodic=True)" in small and "Critic(128)" in small
    assert 'activation="mish"' in large and "hidden=(400, 200, 100)" in large
    given = online_pwm("Pendulum-v1", "tiny", pool=online_pwm("Pendulum-v1", "tiny").pool)
    assert "# pool: the environments that were given" in given.code and given.test_pool is None


def test_a_number_without_end_is_written_as_code() -> None:
    rounds = RoundConfig(model_max_norm=float("inf"))
    code = online_pwm("Pendulum-v1", OnlineConfig.tiny(rounds_config=rounds)).code
    assert 'RoundConfig(model_max_norm=float("inf"))' in code


def test_a_task_alone_is_known_by_no_number() -> None:
    loop = online_pwm("cartpole-swingup", "tiny")
    assert (loop.tasks, loop.model.num_tasks, loop.learners[0].pwm.population) == ([0], 0, None)
    loop.begin()
    env = make_env("cartpole-swingup", seed=1)
    assert 0.0 <= evaluate(env, loop.policy(), episodes=1)["return"] <= 1000.0


def test_several_tasks_share_a_model_and_have_a_policy_each() -> None:
    loop = online_pwm(["walker-stand", "Pendulum-v1", "cheetah-run"], "tiny")
    assert loop.names == ["walker-stand", "Pendulum-v1", "cheetah-run"]
    assert loop.model.action_dim == 6 and loop.model.observation_dim == 24
    loop.begin()
    loop.run_round(0.0)
    found = evaluate_members(loop.test_pool, loop.policy(), 1, tasks=loop.tasks)
    assert len(found) == 3 and found[1]["return"] < 0.0
    assert loop.reward_scale[0] == 2.0 and 10.0 < loop.reward_scale[1] < 17.0


def test_environments_in_another_order_than_the_policies_are_refused() -> None:
    """The two that imagine alike stand beside one another: the last task comes second."""
    names = ["cartpole-swingup", "cartpole-balance", "pendulum-swingup"]
    plan = plan_for(MT80["cartpole-swingup"], OnlineConfig.tiny())
    plans = [TaskPlan(**{**vars_of(plan), "horizon": horizon}) for horizon in (5, 3, 5)]

    def made(order: list[str]) -> Any:
        pool = EnvPool([make_gym(name, padded=True) for name in order])
        return online_pwm(names, "tiny", plans=plans, pool=pool)

    with pytest.raises(ValueError, match=r"pool must hold environments of .* in this order"):
        made(names)
    loop = made([names[0], names[2], names[1]])
    assert loop.names == [names[0], names[2], names[1]] and loop.pool.tasks == loop.tasks


def test_tasks_that_imagine_differently_are_joined_in_one_policy() -> None:
    plan = plan_for(MT80["cartpole-swingup"], OnlineConfig.tiny())
    plans = [TaskPlan(**{**vars_of(plan), "horizon": horizon}) for horizon in (5, 3)]
    loop = online_pwm(["cartpole-swingup", "cartpole-balance"], "tiny", plans=plans)
    assert [learner.pwm.config.horizon for learner in loop.learners] == [5, 3]
    policy = loop.policy().behaviour(loop.tasks)
    rows = np.random.default_rng(0).normal(size=(2, 39)).astype(np.float32)
    both = policy(rows)
    for i, learner in enumerate(loop.learners):
        alone = learner.pwm.policy().for_tasks([loop.tasks[i]]).behaviour([None])
        assert np.allclose(alone(rows[i : i + 1])[0], both[i], atol=1e-6)


def vars_of(plan: TaskPlan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}


class Fall(gymnasium.Env):
    """A point that leaves its interval sooner or later, and pays for it."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, **settings: Any) -> Any:
        super().reset(**settings)
        self.place = np.zeros(1, np.float32)
        return self.place.copy(), {}

    def step(self, action: Any) -> Any:
        self.place = self.place + np.asarray(action, np.float32)
        out = bool(abs(self.place[0]) > 5.0)
        return self.place.copy(), -7.0 * out, out, False, {}


def test_an_own_task_may_end_and_has_its_own_scale_of_rewards() -> None:
    task = register_task(Task.from_env(Fall, "fall", episode_length=40), Fall)
    loop = online_pwm(task, "tiny")
    loop.begin()
    assert loop.model.episodic and loop.reward_scale == [7.0]
    loop.run_round(0.0)
    assert loop.steps > 0


def test_plans_follow_the_kind_of_task() -> None:
    walker, reach = plan_for(MT80["walker-run"]), plan_for(MT80["mw-reach"], alone=False)
    assert (walker.gamma, walker.length, walker.horizon) == (0.97, 50, None)
    assert (reach.gamma, reach.length, reach.horizon, reach.starts) == (0.95, 100, 12, 16)
    own = plan_for(Task("mine", 300, "own", 3, 1, 1000))
    assert (own.gamma, own.length) == (0.99, 250)
    assert plan_for(MT80["mw-reach"], OnlineConfig.tiny()).rows == 8


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ([], {}, "task must name each task once"),
        (["cartpole-swingup"] * 2, {}, "task must name each task once"),
        ("Pendulum-v1", {"plans": []}, r"plans must have one entry per task \(1\), got 0"),
        ("cartpole-swingdown", {}, "cartpole-swingup"),
        ("Pendulum-v1", {"scale": "huge"}, "scale must"),
    ],
)
def test_what_does_not_fit_is_refused(task: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        online_pwm(task, **settings)


def test_uses_have_seeds_of_their_own() -> None:
    uses = ("replay", "starts", "noise", "planner")
    seeds = [seed_for(use, seed) for seed in (0, 1, 1000) for use in uses] + [0, 1, 1000]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    with pytest.raises(ValueError, match="use must be one of"):
        seed_for("weights", 0)


@pytest.mark.slow
def test_it_learns_to_swing_a_pendulum_up() -> None:
    """Random actions: about -1200. A small model and short rounds, for seconds of one core."""
    torch.manual_seed(0)
    sizes = {"latent_dim": 32, "hidden": 64, "actor": (32, 32), "critic": (32, 32)}
    rounds = RoundConfig(updates=60, first_updates=150, decay_share=0.3, decay_floor=0.02)
    loop = online_pwm("Pendulum-v1", OnlineConfig(**sizes, rounds_config=rounds))
    loop.begin()
    before = evaluate(loop.test_pool, loop.policy(), episodes=5)["return"]
    for i in range(7):
        loop.run_round(i / 7)
    assert evaluate(loop.test_pool, loop.policy(), episodes=5)["return"] > 0.5 * before


def test_a_simulator_plays_the_episodes_of_a_round_at_once() -> None:
    plan = replace(plan_for(SINGLE_TASKS["mass-spring"], OnlineConfig.tiny()), episodes=3)
    loop = online_pwm("mass-spring", "tiny", plans=[plan])
    assert len(loop.pool) == 3
    loop.begin()
    assert loop.steps == 2 * plan.length  # two episodes, in two of the rows
    loop.run_round(0.0)
    assert loop.steps == 5 * plan.length
    assert loop.replay.num_episodes() == 5
    first = torch.stack([e["observation"][0] for e in loop.replay.iter_episodes()])
    assert len(first.unique(dim=0)) == 5  # every row starts its own episodes
    assert 'make_pool("mass-spring", batch=3' in loop.code
