"""A job's budget, readings and counters, with methods whose course is known beforehand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from pwm_sdk import (
    MT80,
    SINGLE_TASKS,
    EnvPool,
    ObservationPolicy,
    RandomBehaviour,
    ReplayBuffer,
    make_gym,
)
from single import METHODS, no_ends  # noqa: F401 - enters itself
from single.jobs import Job, Settings, load_result

TASK = MT80["pendulum-swingup"]


def make(folder: Path, **settings: Any) -> Job:
    values = {
        "steps": 100,
        "readings": 4,
        "reading_episodes": 1,
        "final_episodes": 2,
        "scale": "tiny",
    }
    return Job("mine", TASK, 0, Settings(**{**values, **settings}), folder)


def test_readings_are_spread_over_the_budget(tmp_path: Path) -> None:
    job, policy = make(tmp_path), RandomBehaviour(1, 1, seed=0)
    shares = []
    while job.goes_on(policy):
        job.count(10)
        shares.append(job.progress)
    assert shares == pytest.approx([i / 10 for i in range(1, 11)])
    assert [point["steps"] for point in job.curve] == [0, 30, 50, 80]
    result = job.finish()
    assert (result["steps"], result["episodes"]) == (100, 2.0)
    assert load_result(tmp_path) == json.loads(json.dumps(result))
    assert result["ms_per_action"] > 0.0
    assert 50.0 < result["memory_mb"] < 100_000.0


def test_minutes_are_those_of_learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("single.jobs.time.perf_counter", lambda: clock[0])
    job = make(tmp_path, steps=None, minutes=1.0)

    class SlowToTest:
        def start(self, index: int) -> None:
            clock[0] += 100.0  # evaluation takes its time

        def __call__(self, observation: np.ndarray) -> np.ndarray:
            return np.zeros((1, 1), np.float32)

    assert job.goes_on(SlowToTest())
    assert clock[0] == 100.0
    assert job.seconds == 0.0
    clock[0] += 45.0
    assert job.progress == pytest.approx(0.75)
    clock[0] += 20.0
    assert not job.goes_on(SlowToTest())


def test_every_environment_of_a_job_is_counted(tmp_path: Path) -> None:
    job = make(tmp_path)

    class Still:
        policy = explorer = staticmethod(
            lambda: ObservationPolicy(lambda seen: torch.zeros(len(seen), 1))
        )

    batches = list(job.stream(Still(), envs=2, steps=25))
    assert [batch.shape for batch in batches] == [(2, 25), (2, 25)]
    assert job.steps == 100
    env = job.make_env()
    env.reset()
    env.step(np.zeros(1, np.float32))
    assert job.steps == 101


def test_simulators_are_stepped_at_once_and_counted(tmp_path: Path) -> None:
    settings = Settings(steps=90, readings=1, reading_episodes=1, final_episodes=1, scale="tiny")
    job = Job("mine", SINGLE_TASKS["mass-spring"], 2, settings, tmp_path)
    pool, singles = job.make_pool(3), job.make_pool(3, batched=False)
    assert isinstance(singles, EnvPool) and not isinstance(pool, EnvPool)
    first, expected = (one.reset_many(range(3)) for one in (pool, singles))
    np.testing.assert_array_equal(first, expected)
    push = np.full((3, 159), 0.1, np.float32)
    found, others = (one.step_many(range(3), push) for one in (pool, singles))
    assert job.steps == 6
    for one, two in zip(found, others, strict=True):
        np.testing.assert_allclose(one.observation, two.observation, rtol=1e-3, atol=1e-4)
    pool.step_many([1], push[:1])
    assert job.steps == 7


def test_falls_stay_hidden_from_a_method_that_is_not_told_of_them(tmp_path: Path) -> None:
    settings = Settings(steps=90, readings=1, reading_episodes=1, final_episodes=1, scale="tiny")
    job = Job("pwm-no-ends", SINGLE_TASKS["hopper-forward"], 0, settings, tmp_path)
    pools = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "pwm", lambda job: pools.append(job.make_pool()))
        METHODS["pwm-no-ends"](job)
    (pool,) = pools
    pool.reset_many([0])
    while not (step := pool.step_many([0], np.zeros((1, 4)))[0]).truncated:
        assert not step.terminated
    assert not step.terminated and job.steps < 100


def test_episodes_are_kept_whole_or_in_pieces(tmp_path: Path) -> None:
    policy, once, again = (RandomBehaviour(1, 1, seed=0) for _ in range(3))
    whole, pieces = (ReplayBuffer(2000, slice_len=5, batch_size=1, seed=0) for _ in range(2))
    assert list(make(tmp_path, steps=620).play(once, policy, whole)) == list(range(1, 621))
    first = whole.episodes()
    assert [len(e) for e in first] == [501]  # the 120 steps after it are no episode yet
    list(make(tmp_path, steps=110).play(again, policy, pieces, length=50))
    parts = pieces.episodes()
    assert [len(e) for e in parts] == [51, 51]
    for i, part in enumerate(parts):  # the same steps, the last observation of a piece twice
        for name in ("observation", "action", "reward"):
            expected = first[0][name][50 * i + 1 : 50 * i + 51]
            assert torch.equal(part[name][1:], expected)
    assert torch.equal(parts[1]["observation"][0], parts[0]["observation"][-1])


def test_falls_are_followed_by_absorbing_rows(tmp_path: Path) -> None:
    replay = ReplayBuffer(2000, slice_len=5, batch_size=1, seed=0)
    settings = Settings(steps=300, readings=1, reading_episodes=1, final_episodes=1, scale="tiny")
    job = Job("mine", make_gym("hopper-forward").task, 0, settings, tmp_path)
    policy, acting = (RandomBehaviour(1, 4, seed=0) for _ in range(2))
    list(job.play(acting, policy, replay))
    fallen = [e["terminated"][:, 0] for e in replay.episodes() if bool(e["terminated"][-1])]
    assert fallen
    for ended in fallen:  # the fall itself and three rows in which nothing happens
        assert int(ended.sum()) == 4
        assert bool(ended[-4:].all())


def test_a_method_that_never_asks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="method 'mine' must call goes_on"):
        make(tmp_path).finish()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "minutes or steps must be given"),
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"minutes": -1.0}, "minutes must be positive"),
        ({"steps": 5, "final_episodes": 0}, "final_episodes must be positive"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)
