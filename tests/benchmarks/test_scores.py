"""One rule for scores, that of `Task.score`: everywhere and for every task."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from pwm_sdk import MT80, SINGLE_TASKS, Task
from quick.final import FinalEvaluation
from reporting.plots import largest_return
from reporting.published import Figure, Published

TASKS = {task.name: task for task in (*MT80, *SINGLE_TASKS)}.values()
METHOD = "TD-MPC2"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_quick_preset_scores_as_the_task(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = {"return": 123.0, "success_last": 0.25, "success_any": 1.0}
    monkeypatch.setattr("quick.final.summarize", lambda episodes: summary)
    own: Any = SimpleNamespace(seed=3, tasks=[task])
    (row,) = FinalEvaluation._rows(own, "pwm", [[]])
    assert row["score"] == task.score(123.0, 0.25)


@pytest.mark.parametrize("task", MT80, ids=lambda task: task.name)
def test_published_figures_score_as_the_task(task: Task) -> None:
    figures = [
        Figure("MT80", task.name, METHOD, metric, value, "here")
        for metric, value in (("reward", 123.0), ("success", 0.25))
    ]
    assert Published(figures=figures).value(METHOD, task.name, "score") == task.score(123.0, 0.25)
    assert Published(figures=[]).value(METHOD, task.name, "score") is None


def test_the_largest_return_is_that_of_its_rewards() -> None:
    assert largest_return(MT80["walker-run"]) == 1000.0
    assert largest_return(MT80["mw-reach"]) == 2000.0
