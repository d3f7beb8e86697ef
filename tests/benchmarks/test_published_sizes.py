"""Preset `paper` of the comparison: every method is built in its published size and learns."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from pwm_sdk import (
    MPPI,
    PPO,
    PWM,
    SAC,
    SHAC,
    TDMPC2,
    DreamerV3,
    MassSpring,
    RoundConfig,
    SimulatorEnv,
    Task,
    register_task,
)
from single import find_method, model_based, sizes
from single.jobs import Job, Settings
from single_task import Arguments, plan


@pytest.fixture
def spend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a method at published scale for some steps of short episodes: what it updates with."""

    def run(cls: Any, name: str, steps: int, length: int) -> list[Any]:
        body = MassSpring(2, 2, episode_length=length)
        widths = body.observation_dim, body.action_dim
        task = Task(f"springs-{length}", -1, "mine", *widths, length, 1, reward_scale=1.0)
        task = register_task(task, lambda: SimulatorEnv(body))
        calls, update = [], cls.update

        def counted(self: Any, *batch: Any) -> Any:
            calls.append((self, *batch))
            return update(self, *batch)

        monkeypatch.setattr(cls, "update", counted)
        budget = Settings(
            steps=steps, readings=1, reading_episodes=1, final_episodes=1, scale="published"
        )
        find_method(name)(Job(name, task, 0, budget, tmp_path))
        return calls

    return run


def test_pwm_has_the_published_widths(spend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sizes.PWM["published"]
    few = replace(size, rounds_config=RoundConfig(updates=1, first_updates=1))
    monkeypatch.setitem(sizes.PWM, "published", few)
    agent, batch = spend(PWM, "pwm", 250, 20)[-1]
    model = agent.model.settings
    assert (model["latent_dim"], model["hidden"], model["encoder_hidden"]) == (
        (512, [512, 512], [256])
    )
    assert (model["activation"], model["num_bins"], model["simnorm_size"]) == ("mish", 0, 8)
    assert agent.actor.settings["hidden"] == [400, 200, 100]
    assert agent.critic.settings["hidden"] == [400, 200]
    assert (agent.critic.ensemble, agent.config.horizon) == (3, 16)
    assert batch.shape == (64,)


@pytest.mark.slow
def test_tdmpc2_plans_as_published(spend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    planners, make = [], MPPI.__init__

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        planners.append(self)

    monkeypatch.setattr(MPPI, "__init__", noted)
    size = sizes.TDMPC2["published"]
    monkeypatch.setitem(sizes.TDMPC2, "published", replace(size, seed_steps=10, every=5))
    agent, batch = spend(TDMPC2, "tdmpc2", 11, 5)[-1]
    assert (agent.q.ensemble, len(agent.q.draw_heads()), agent.q.num_bins) == (5, 2, 101)
    for part in (agent.model, agent.q, agent.prior):
        assert part.settings["hidden"] == [512, 512]
        assert part.settings["activation"] == "mish"
    assert (agent.model.latent_dim, agent.model.settings["encoder_hidden"]) == (512, [256])
    assert batch["action"].shape[:2] == (256, 3)
    for planner in planners:
        assert (planner.samples, planner.elites, planner.policy_samples) == (512, 64, 24)
        assert (planner.iterations, planner.horizon, planner.temperature) == (6, 3, 0.5)


def test_tdmpc2_takes_the_published_random_steps() -> None:
    assert [model_based.seed_steps(sizes.TDMPC2["published"], n) for n in (100, 250, 500)] == (
        [1000, 1250, 2500]
    )
    assert model_based.seed_steps(sizes.TDMPC2["small"], 500) == 1000
    assert model_based.plan_of_size(sizes.TDMPC2["published"], 19) == {}
    assert model_based.plan_of_size(sizes.TDMPC2["published"], 20) == {"iterations": 8}
    assert model_based.plan_of_size(sizes.TDMPC2["small"], 21)["iterations"] == 3


def test_dreamer_has_the_published_size(spend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sizes.DREAMER["published"]
    assert size.every == 1  # 16 windows of 64 steps for each step
    monkeypatch.setitem(sizes.DREAMER, "published", replace(size, seed_steps=70))
    agent, batch = spend(DreamerV3, "dreamerv3", 72, 70)[-1]
    assert (agent.config.belief, agent.config.hidden, agent.config.layers) == (512, 64, 3)
    assert agent.size == 32 * 4
    assert batch["action"].shape[:2] == (16, 64)


@pytest.mark.slow
def test_the_others_have_the_sizes_of_their_papers(spend: Any) -> None:
    sac = spend(SAC, "sac", 5_010, 100)
    assert sac[0][0].config.hidden == (256, 256)
    assert len(sac) == 20  # two batches of ten steps: 5000 random ones come first
    ppo, batch = spend(PPO, "ppo", 2_048, 100)[-1]
    assert (ppo.config.hidden, batch.numel()) == ((64, 64), 2048)
    assert spend(SHAC, "shac", 500, 100)[0][0].config.environments == 32


def test_the_preset_asks_for_them_and_for_five_seeds() -> None:
    few = {"methods": ("random",), "tasks": ("cartpole-swingup",)}
    settings, entries, _ = plan(Arguments(preset="paper", **few))
    assert (settings.scale, settings.steps) == ("published", 1_000_000)
    assert [entry.seed for entry in entries] == [0, 1, 2, 3, 4]
    settings, entries, _ = plan(Arguments(preset="paper", seeds=2, **few))
    assert [entry.seed for entry in entries] == [0, 1]
    settings, entries, _ = plan(Arguments(preset="comparison", **few))
    assert (settings.scale, len(entries)) == ("small", 1)
