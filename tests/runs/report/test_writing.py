"""A report of whatever runs lie in a folder, whoever named their tasks and methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwm_sdk import write_json, write_report
from pwm_sdk.runs.tables import read_csv


def run(folder: Path, task: str, returns: list[float], **more: float) -> None:
    """Write the readings of a run."""
    points = [
        {
            "updates": 10 * i,
            "steps": 100 * i,
            "seconds": 60.0 * i,
            "tasks": {task: {"return": value, "return_min": value - 1.0, **more}},
        }
        for i, value in enumerate(returns)
    ]
    write_json(folder / "curve.json", {"curve": points})


def test_methods_and_seeds_are_told_by_folders(tmp_path: Path) -> None:
    for seed, last in enumerate((8.0, 10.0)):
        run(tmp_path / "mine" / f"seed{seed}", "my-task", [1.0, 5.0, last])
        run(tmp_path / "ppo" / f"seed{seed}", "my-task", [1.0, 0.5, 0.5])
    text = write_report(tmp_path, scale={"my-task": 10.0})
    lines = text.splitlines()
    assert lines[0] == f"# {tmp_path.name}: 2 methods, 1 task, 2 seeds"
    assert lines[2] == "**mine learned 1 of 1 task: my-task 0.90 (before learning 0.10).**"
    assert "not learned: my-task 0.05 (before learning 0.10).**" in lines[4]
    assert "| my-task | 9 +- 1 | 0 +- 0 |" in text
    assert "| my-task | 0.90 +- 0.14 | 0.05 +- 0.00 |" in text
    assert "## Over all tasks" not in text  # two values: the table above has them
    assert (tmp_path / "report.md").read_text() == text
    rows = read_csv(tmp_path / "scores.csv")
    assert [(r["method"], r["seed"], r["return"], r["score"], r["steps"]) for r in rows] == [
        ("mine", 0, 8, 0.8, 200),
        ("mine", 1, 10, 1, 200),
        ("ppo", 0, 0.5, 0.05, 200),
        ("ppo", 1, 0.5, 0.05, 200),
    ]
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_single_run_is_called_as_its_folder_and_scored_by_the_tasks_rule(tmp_path: Path) -> None:
    run(tmp_path / "walk", "walker-walk", [30.0, 600.0], success_last=0.0)
    text = write_report(tmp_path / "walk")
    assert text.startswith("# walk: 1 task, 1 seed\n")
    assert "**walk learned 1 of 1 task: walker-walk 0.60 (before learning 0.03).**" in text
    assert "| walker-walk | 600 |" in text and "| walker-walk | 0.60 |" in text
    assert "below 0" not in text


def test_costs_are_explained_and_own_tasks_have_no_score(tmp_path: Path) -> None:
    run(tmp_path / "own", "pendulum", [-1500.0, -200.0])
    assert "## Score" not in write_report(tmp_path / "own")
    text = write_report(tmp_path / "own", scale={"pendulum": 100.0})
    assert "| pendulum | -2.00 |" in text and "A score below 0 is a return below 0" in text


def test_several_tasks_have_aggregates_with_intervals(tmp_path: Path) -> None:
    for seed in (0, 1):
        tasks = {"walker-walk": {"return": 500.0 + 100.0 * seed}, "walker-run": {"return": 100.0}}
        points = [{"updates": 1, "seconds": 60.0, "tasks": tasks}]
        write_json(tmp_path / f"seed{seed}" / "curve.json", {"curve": points})
    text = write_report(tmp_path)
    assert "## Over all tasks" in text
    assert "| 2 | 0.325 [0.300, 0.350] | 0.325 [0.300, 0.350] |" in text


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder must hold a run with readings"):
        write_report(tmp_path)
    run(tmp_path, "walk", [1.0])
    with pytest.raises(ValueError, match="against must be one of steps, seconds"):
        write_report(tmp_path, against="days")
    with pytest.raises(ValueError, match="scale must be"):
        write_report(tmp_path, scale={"walk": 0.0})
    (tmp_path / "curve.json").write_text("{")
    with pytest.raises(ValueError, match=r"curve\.json must"):
        write_report(tmp_path)
