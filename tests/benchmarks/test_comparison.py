"""The report of a comparison against numbers worked out by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from files import write_json
from single.comparison import (
    common_grid,
    comparison_text,
    load_results,
    order,
    plot_curves,
    rows_of,
)

ABOUT = {"command": "compare", "minutes": 1.0, "baseline": "ppo"}


def result(method: str, task: str, seed: int, *returns: float) -> dict[str, Any]:
    curve = [{"steps": 10.0 * i, "seconds": 60.0 * i, "return": r} for i, r in enumerate(returns)]
    costs = {"cpu_seconds": 30.0, "ms_per_action": 0.5, "memory_mb": 100.0, "episodes": 2.0}
    about = {"method": method, "task": task, "seed": seed}
    scaled = {"scaled": returns[-1] / 100.0} if method == "pwm" else {}
    return {**about, **curve[-1], **costs, **scaled, "curve": curve}


RESULTS = [
    result("ppo", "a", 0, 0.0, 50.0, 40.0),
    result("ppo", "a", 1, 0.0, 10.0, 20.0),
    result("pwm", "a", 0, 0.0, 100.0),
    result("pwm", "a", 1, 0.0, 25.0),
    result("pwm", "b", 0, 0.0, 7.0),
]


RANDOM = [result("random", "a", 0, 5.0)]


def test_scores_are_shares_of_the_baselines_best_reading() -> None:
    rows = rows_of([*RESULTS, *RANDOM], "ppo")[:-1]
    assert [row.get("score") for row in rows] == pytest.approx([0.8, 0.4, 2.0, 0.5, None])
    assert rows[0]["minutes"] == 2.0
    assert rows[0]["cpu_minutes"] == 0.5
    assert "curve" not in rows[0]


def test_episodes_that_were_left_out_are_counted_once() -> None:
    rows = rows_of([*RESULTS, {**result("pwm", "a", 2, 3.0), "left_out": 2}], "ppo")
    text = comparison_text("run", rows, ABOUT)
    assert text.count("Left out, being shorter than a window: 2 by PWM on a (seed 2).") == 1
    assert "Left out" not in comparison_text("run", rows[:-1], ABOUT)


def test_no_scores_where_the_baseline_earns_nothing() -> None:
    results = [result("ppo", "a", 0, -5.0, 0.0), result("pwm", "a", 0, 3.0), *RANDOM]
    rows = rows_of(results, "ppo")
    assert all("score" not in row for row in rows)
    text = comparison_text("run", rows, ABOUT)
    assert "No share on a: no return of PPO is above zero and above those of random." in text
    assert "| PWM | 1 | - | - | 0.03 | 0.03 |" in text


def test_no_scores_where_random_actions_were_not_run() -> None:
    """A baseline that is not known to beat them may be worth next to nothing."""
    results = [result("ppo", "a", 0, 0.1), result("pwm", "a", 0, -9.6)]
    text = comparison_text("run", rows_of(results, "ppo"), ABOUT)
    why = "the method random was not run, so that PPO is not known to beat it."
    assert f"## Share of the best return of PPO\n\nNo share on a: {why}" in text
    assert "-96" not in text
    # With random on another task, shares of that one stand beside a dash for this one.
    more = [result("ppo", "b", 0, 8.0), result("random", "b", 0, 2.0)]
    text = comparison_text("run", rows_of([*results, *more], "ppo"), ABOUT)
    assert "| a | - | - | - |" in text
    assert "| b | - | 1.00 | 0.25 |" in text
    assert f"No share on a: {why}" in text


def test_no_scores_where_the_baseline_never_beats_random_actions() -> None:
    learned = result("ppo", "a", 0, 1.0, 9.0)
    for lucky, scores in ((8.0, [1.0, 8.0 / 9.0]), (9.0, [None, None])):
        rows = rows_of([learned, result("random", "a", 0, lucky)], "ppo")
        assert [row.get("score") for row in rows] == pytest.approx(scores)


def test_tables_by_hand() -> None:
    text = comparison_text("run", rows_of([*RESULTS, *RANDOM], "ppo"), ABOUT)
    assert "# run: 3 methods, 2 tasks, 2 seeds" in text
    # 30 +- 14.1 and 62.5 +- 53.0; task b has one seed of one method.
    assert "| a | 62 +- 53 | 30 +- 14 | 5 |" in text
    assert "| b | 7 | - | - |" in text
    assert "| a | 1.25 +- 1.06 | 0.60 +- 0.28 | 0.10 |" in text
    assert "| b | - | - | - |" in text
    # Over task a: two seeds resampled, so the interval goes from the worse to the better one.
    assert "| PPO | 2 | 0.60 [0.40, 0.80] | 0.60 [0.40, 0.80] | - | - |" in text
    # Task b has one seed, so the mean over both tasks is that of seed 0.
    assert "| PWM | 2 | 1.25 [0.50, 2.00] | 1.25 [0.50, 2.00] | 0.54 | 0.54 |" in text
    assert "| PPO | 20 | 2.0 | 0.5 | 0.50 | 100 |" in text


def test_curves_of_seeds_share_the_axis_of_the_shortest() -> None:
    long = [{"steps": 0, "return": 0.0}, {"steps": 100, "return": 10.0}]
    short = [{"steps": 0, "return": 2.0}, {"steps": 50, "return": 4.0}]
    x, returns = common_grid([long, short], "steps", 1.0)
    assert (x[0], x[-1]) == (0.0, 50.0)
    np.testing.assert_allclose(returns[:, -1], [5.0, 4.0])
    np.testing.assert_allclose(returns[:, 50], [2.5, 3.0])
    x, returns = common_grid([short[:1]], "steps", 1.0)
    assert (x.tolist(), returns.tolist()) == ([0.0], [[2.0]])


def test_random_actions_are_a_level_line_on_both_axes(tmp_path: Path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr("single.comparison.save_figure", lambda figure, *_: drawn.append(figure))
    still = {"steps": 0.0, "return": 30.0}
    random = [{**result("random", "a", s, 0.0), **still} for s in (0, 1)]
    for i, one in enumerate(random):
        one["curve"] = [{**still, "seconds": 0.0}, {**still, "seconds": 1e-4, "return": 30.0 + i}]
    far = result("pwm", "a", 0, 0.0, 100.0)
    far["curve"][-1]["steps"] = 900.0
    plot_curves(tmp_path, [*RESULTS[:2], far, *random])
    (figure,) = drawn
    for axis in figure.axes:
        level = next(line for line in axis.lines if line.get_label() == "random")
        assert level.get_ydata() == [30.0, 30.0]
        assert len(axis.lines) == 3
    # PPO ends at 20 steps and PWM at 900, but PPO at 2 minutes and PWM at 1.
    assert [axis.get_xscale() for axis in figure.axes] == ["symlog", "linear"]
    assert [axis.get_xlim()[0] for axis in figure.axes] == [0.0, 0.0]


def test_pwm_comes_first_and_random_last() -> None:
    assert order([{"method": m} for m in ("random", "sac", "pwm", "ppo")]) == [
        "pwm",
        "ppo",
        "sac",
        "random",
    ]


def test_a_folder_without_finished_jobs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder must hold a finished job"):
        load_results(tmp_path)
    folder = tmp_path / "a" / "ppo" / "seed0"
    folder.mkdir(parents=True)
    write_json(folder / "result.json", RESULTS[0])
    assert load_results(tmp_path) == RESULTS[:1]
