"""Aggregates against numbers worked out by hand; published figures against their own aggregates."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from pwm_sdk import MT30, MT80, TaskSet
from reporting.aggregates import aggregate, matrix, methods_of, profile
from reporting.published import FILE, METHODS, Published, load_published

SCORES = np.asarray([[0.0, 0.1, 0.2, 0.9], [0.4, 0.3, 0.8, 1.0]])


def test_interquartile_mean_is_that_of_the_middle_half() -> None:
    found = aggregate(SCORES)
    # Sorted: 0 .1 | .2 .3 .4 .8 | .9 1, two of eight cut at each end.
    assert found["IQM"].value == pytest.approx((0.2 + 0.3 + 0.4 + 0.8) / 4)
    assert found["mean"].value == pytest.approx(3.7 / 8)
    # Means of the tasks: .2 .2 .5 .95
    assert found["median"].value == pytest.approx(0.35)


def test_intervals_resample_seeds_within_tasks() -> None:
    # One task, two seeds: a resample has mean 0, 0.5 or 1 with chances 1/4, 1/2, 1/4.
    found = aggregate(np.asarray([[0.0], [1.0]]))["mean"]
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    # Seeds that agree leave no doubt, however much the tasks differ.
    found = aggregate(np.asarray([[0.0, 1.0], [0.0, 1.0]]))["mean"]
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_one_seed_has_no_interval() -> None:
    assert aggregate(SCORES[:1])["IQM"] == (pytest.approx(0.15), None, None)
    assert profile(SCORES[:1], np.asarray([0.5])).low is None


def test_numbers_repeat_and_leave_the_global_stream_alone() -> None:
    np.random.seed(3)
    expected = np.random.random(2)
    np.random.seed(3)
    scores = np.linspace(0.0, 1.0, 15).reshape(3, 5) ** 2
    first = (np.random.random(1), aggregate(scores))
    second = (aggregate(scores), np.random.random(1))
    assert first[1] == second[0]
    assert [first[0][0], second[1][0]] == expected.tolist()


def test_profile_counts_what_is_above_each_threshold() -> None:
    found = profile(SCORES, np.asarray([0.0, 0.25, 0.95]))
    assert found.share.tolist() == [7 / 8, 5 / 8, 1 / 8]
    assert found.low is not None and found.high is not None
    assert (found.low <= found.share).all() and (found.share <= found.high).all()
    assert found.low[0] < found.high[0]


@pytest.mark.parametrize("function", [aggregate, lambda x: profile(x, np.asarray([0.5]))])
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros(3), "scores must be a filled .* matrix, got \\(3,\\)"),
        (np.zeros((0, 3)), "scores must be a filled .* matrix, got \\(0, 3\\)"),
        (np.asarray([[np.nan]]), "scores must be finite"),
    ],
)
def test_bad_scores_are_refused(function: Callable, scores: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(scores)


def test_matrix_takes_seeds_that_have_every_task() -> None:
    rows = [
        {"seed": 7, "task": "b", "method": "pwm", "score": 4.0},
        {"seed": 7, "task": "a", "method": "pwm", "score": 3.0},
        {"seed": 2, "task": "a", "method": "pwm", "score": 1.0},
        {"seed": 2, "task": "b", "method": "random", "score": 9.0},
        {"seed": 1, "task": "a", "method": "pwm"},
    ]
    assert matrix(rows, "pwm", "score", ["a", "b"]).tolist() == [[3.0, 4.0]]
    assert matrix(rows, "pwm", "score", ["a"]).tolist() == [[1.0], [3.0]]
    assert matrix(rows, "mppi", "score", ["a", "b"]).shape == (0, 2)


def test_pwm_then_its_planner_come_first() -> None:
    rows = [{"method": name} for name in ("random", "mppi", "cloning", "pwm", "random")]
    assert methods_of(rows) == ["pwm", "mppi", "random", "cloning"]


@pytest.mark.parametrize(
    ("tasks", "method", "mean"),
    [(MT30, "PWM", 0.7682), (MT80, "PWM", 0.8179), (MT30, "TD-MPC2", 0.5983),
     (MT80, "TD-MPC2", 0.6779)],
)  # fmt: skip
def test_published_tasks_have_the_published_mean(tasks: TaskSet, method: str, mean: float) -> None:
    published = Published(f"MT{len(tasks)}")
    values = published.values(method, tasks.names, "score")
    assert values is not None and len(values) == len(tasks)
    assert np.mean(values) == pytest.approx(mean, abs=1e-4)
    assert published.aggregate(method, "_MEAN_") == pytest.approx(np.mean(values), abs=1e-5)


def test_published_pwm_has_the_published_iqm() -> None:
    for name, iqm in (("MT30", 0.8638), ("MT80", 0.9134)):
        published = Published(name)
        values = published.values("PWM", (MT30 if name == "MT30" else MT80).names, "score")
        assert aggregate(np.asarray([values]))["IQM"].value == pytest.approx(iqm, abs=1e-4)


def test_dreamer_is_single_task_and_the_same_beside_both() -> None:
    method = "DreamerV3(max over training)"
    for name in ("MT30", "MT80"):
        published = Published(name)
        assert published.is_single_task(method)
        assert published.basis(method) == "18 tasks (one agent per task)"
        assert published.value(method, "cheetah-run", "return") == pytest.approx(641.01)
        assert published.value(method, "cheetah-run", "score") == pytest.approx(0.64101)
        assert published.value(method, "mw-reach", "return") is None
        assert published.value(method, "fish-swim", "score") is None
        assert published.values(method, ["cheetah-run", "fish-swim"], "score") is None
    assert Published("MT30").methods(["mw-reach"]) == []
    assert Published("MT80").methods(["mw-reach"]) == ["PWM", "TD-MPC2"]


def test_every_published_figure_names_its_source() -> None:
    figures = load_published()
    assert {figure.method for figure in figures} == set(METHODS)
    assert all(label.startswith("published ") for label, _ in METHODS.values())
    assert Published("MT80").sources(["mw-reach"]) == [
        "PWM/results/data/mt80_results.csv",
        "PWM/results/data/tdmpc2_mt80_scores.csv",
    ]


HEAD = "benchmark,task,method,metric,mean,std,n_seeds,source\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task,mean\n", "columns of .* must be"),
        (HEAD + "MT50,mw-reach,PWM,reward,1,,1,x\n", "benchmark must be one of .* got 'MT50'"),
        (HEAD + "MT80,mw-reach,SAC,reward,1,,1,x\n", "method must be one of .* got 'SAC'"),
        (HEAD + "MT80,mw-reach,PWM,loss,1,,1,x\n", "metric must be one of .* got 'loss'"),
        (HEAD + "MT80,mw-raech,PWM,reward,1,,1,x\n", "task must be one of MT80, got 'mw-raech'"),
        (HEAD + "MT80,mw-reach,PWM,reward,1,,1,\n", "source must name .* got none in .* line 2"),
        (HEAD + "MT80,mw-reach,PWM,reward,nan,,1,x\n", r"mean must be in 0\.\.2000, got 'nan'"),
        (HEAD + "MT80,mw-reach,PWM,reward,much,,1,x\n", r"mean must be in 0\.\.2000, got 'much'"),
        (HEAD + "MT80,mw-reach,PWM,success,1.5,,1,x\n", r"mean must be in 0\.\.1, got '1.5'"),
        (HEAD + 2 * "MT80,mw-reach,PWM,reward,1,,1,x\n", "figures must be there once"),
    ],
)
def test_damaged_figures_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / FILE.name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_published(path)


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(ValueError, match=r"benchmark must be one of .* got 'MT50'"):
        Published("MT50")
