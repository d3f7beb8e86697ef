"""Aggregates against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pwm_sdk.runs.report import aggregate, matrix, methods_of, profile

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
