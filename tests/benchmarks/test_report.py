"""The report: rendered from made-up rows, rebuilt from files, refused where there is no run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from files import write_json
from reporting.report import rebuild, write_report

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("mw-reach", "mw-handle-pull-side", "cartpole-swingup")
# (method, task) -> return of seed 0 and 1, success at the last step of seed 0 and 1.
MADE_UP = {
    ("pwm", "mw-reach"): ((1000.0, 1200.0), (0.4, 0.8)),
    ("pwm", "mw-handle-pull-side"): ((300.0, 500.0), (0.0, 0.2)),
    ("pwm", "cartpole-swingup"): ((600.0, 800.0), (0.0, 0.0)),
    ("mppi", "mw-reach"): ((900.0, 1100.0), (0.3, 0.5)),
    ("mppi", "mw-handle-pull-side"): ((200.0, 400.0), (0.0, 0.0)),
    ("mppi", "cartpole-swingup"): ((500.0, 500.0), (0.0, 0.0)),
}
MILLISECONDS = {"pwm": 0.75, "mppi": 61.5}


def made_up(seeds: int = 2) -> list[dict[str, Any]]:
    rows = []
    for (method, task), (returns, successes) in MADE_UP.items():
        for seed in range(seeds):
            total, success = returns[seed], successes[seed]
            row = {"seed": seed, "task": task, "method": method, "return": total}
            row |= {"return_min": total - 50.0, "success_any": success, "success_last": success}
            row |= {"score": success if task.startswith("mw-") else total / 1000.0}
            row |= {"episodes": 10.0, "ms_per_action": MILLISECONDS[method]}
            rows.append(row | ({"gap": 0.25} if method == "pwm" else {}))
    return rows


def curve(folder: Path) -> None:
    own = folder / "seed0" / "metaworld"
    own.mkdir(parents=True)
    points = [{"seconds": 60.0 * k, "tasks": {"mw-reach": {"return": 10.0 * k}}} for k in (1, 2)]
    spent = {"collect": 12.0, "train": 34.0}
    (own / "curve.json").write_text(json.dumps({"curve": points, "seconds": spent}))


def write(folder: Path, rows: list[dict[str, Any]], **more: Any) -> str:
    folder.mkdir(exist_ok=True)
    return write_report(folder, rows, minutes=3.0, command="benchmarks/mt80.py", **more)


def line(text: str, start: str) -> list[str]:
    """Return the cells of the first line that starts so."""
    found = next(x for x in text.splitlines() if x.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_policies_that_were_stopped_are_named(tmp_path: Path) -> None:
    rows = made_up()
    assert "Stopped" not in write(tmp_path / "whole", rows)
    rows[1]["stopped"] = 1
    text = write(tmp_path / "cut", rows)
    assert "Stopped and scored as they were before they diverged: mw-reach (seed 1)." in text
    assert text == rebuild(tmp_path / "cut")


def test_episodes_that_were_left_out_are_counted_once(tmp_path: Path) -> None:
    rows = made_up()
    assert "Left out" not in write(tmp_path, rows)
    for part, count in (("dmcontrol", 0), ("metaworld", 3)):
        path = tmp_path / "seed0" / part / "curve.json"
        write_json(path, {"curve": [], "seconds": {"train": 1.0}, "left_out": count})
    text = rebuild(tmp_path)
    assert text.count("Left out of the data: 3 training episodes shorter than a window.") == 1


def test_scores_stand_beside_the_planner_and_the_published_score(tmp_path: Path) -> None:
    text = write(tmp_path, made_up())
    named = dict(zip(line(text, "task"), line(text, "mw-reach"), strict=True))
    assert named == {
        "task": "mw-reach",
        "return": "**1100 +- 141**",  # 100 sqrt(2)
        "worst": "950",
        "success any": "0.60 +- 0.28",
        "success last": "0.60 +- 0.28",
        "score": "0.60 +- 0.28",
        "gap": "+0.25",
        "ms/action": "0.75",
        "MPPI": "1000 +- 141",
        "MPPI ms/action": "61.50",
        "published PWM score": "0.80",
    }
    assert line(text, "cartpole-swingup")[3:5] == ["-", "-"]  # no success in dm_control
    assert line(text, "mean, Meta-World")[1] == "**750 +- 141**"  # 650 and 850


def test_published_returns_and_their_doubts_are_beside_the_measured(tmp_path: Path) -> None:
    text = write(tmp_path, made_up())
    below = text.split("## Beside the published numbers")[1]
    named = dict(zip(line(below, "task"), line(below, "mw-handle-pull-side"), strict=True))
    assert named["return"] == "400 +- 141"
    assert named["published PWM return"] == "119"
    assert named["published PWM score"] == "1.00"
    assert named["published DreamerV3 return"] == "-"
    assert "published Meta-World success is doubtful" in below
    assert "one agent per task" in below
    assert "not measured here" in below


def test_aggregates_state_seeds_and_intervals(tmp_path: Path) -> None:
    text = write(tmp_path, made_up()).split("## Aggregates")[1]
    rows = [x for x in text.splitlines() if x.startswith("| score, 3 tasks | PWM |")]
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[2] == "2"
    # Sorted: 0 .2 .4 .6 .8 .8. The middle half of six leaves one out at each end.
    assert [cell.split()[0] for cell in cells[3:]] == ["0.467", "0.600", "0.500"]
    # Resampled means of the tasks: .4 .6 .8, 0 .1 .2 and .6 .7 .8 with chances 1/4, 1/2, 1/4 each.
    # All three low (sum 1) has chance 1/64, below 2.5 %; sum 1.1 has 4/64 more: the end is 1.1 / 3.
    assert cells[3] == "0.467 [0.367, 0.567]"
    assert "| success last, Meta-World | published PWM | 1 seed, 10 episodes |" in text


def test_plots_are_left_as_png_and_svg(tmp_path: Path) -> None:
    curve(tmp_path)
    text = write(tmp_path, made_up())
    for name in ("bars", "profile", "curves"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
        assert f"![{name}]({name}.png)" in text
    assert line(text, "seed0, metaworld") == ["seed0, metaworld", "12", "34"]
    drawn = (tmp_path / "bars.svg").read_text()
    for label in (*TASKS, "MPPI", "published TD-MPC2", "published DreamerV3"):
        assert f"<!-- {label} -->" in drawn


def test_a_finished_run_gives_the_same_report_again(tmp_path: Path) -> None:
    curve(tmp_path)
    text = write(tmp_path, made_up())
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert len(kept) == 9  # three plots twice, report.md, scores.csv, run.json
    for name in kept.keys() - {"scores.csv", "run.json"}:
        (tmp_path / name).unlink()
    assert rebuild(tmp_path) == text
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == kept


def test_the_other_benchmark_can_be_asked_for(tmp_path: Path) -> None:
    rows = [row for row in made_up() if row["task"] == "cartpole-swingup"]
    write(tmp_path, rows)
    assert line(rebuild(tmp_path), "cartpole-swingup")[-1] == "0.89"
    text = rebuild(tmp_path, "MT30")
    assert line(text, "cartpole-swingup")[-1] == "0.90"
    assert "doubtful" not in text  # no Meta-World there


def test_planner_rows_may_hold_nothing_but_milliseconds(tmp_path: Path) -> None:
    rows = [row for row in made_up() if row["method"] == "pwm"]
    rows += [{"seed": 0, "task": t, "method": "mppi", "ms_per_action": 64.0} for t in TASKS]
    text = write(tmp_path, rows)
    head = line(text, "task")
    assert "MPPI" not in head
    assert line(text, "mw-reach")[head.index("MPPI ms/action")] == "64.00"
    assert rebuild(tmp_path) == text


def test_columns_nobody_measured_are_left_out(tmp_path: Path) -> None:
    rows = [
        {key: row[key] for key in ("seed", "task", "method", "return", "score")}
        for row in made_up(seeds=1)
        if row["method"] == "pwm"
    ]
    text = write(tmp_path, rows)
    assert line(text, "task") == ["task", "return", "score", "published PWM score"]
    assert "+-" not in "".join(line(text, "mw-reach"))  # one seed has no deviation
    assert "[" not in text.split("## Aggregates")[1].split("Mean and median")[0]


def test_missing_rows_are_named(tmp_path: Path) -> None:
    rows = [r for r in made_up() if (r["method"], r["task"], r["seed"]) != ("pwm", "mw-reach", 1)]
    text = write(tmp_path, rows)
    assert "Not measured, PWM: mw-reach (seed 1)." in text
    assert line(text, "mean, Meta-World")[1] == "**650**"  # seed 0 alone has both tasks
    assert line(text.split("## Seeds")[1], "mw-reach")[2] == "-"
    once = [{**row, "method": "tdmpc2"} for row in made_up(seeds=1) if row["method"] == "pwm"]
    assert "Not measured, TD-MPC2: seed 1." in write(tmp_path, [*made_up(), *once])


def command(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/report.py", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*_python_path(), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def test_the_command_prints_the_report(tmp_path: Path) -> None:
    text = write(tmp_path, made_up(seeds=1))
    done = command(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == text + "\n"


def test_the_command_refuses_a_folder_that_is_no_run(tmp_path: Path) -> None:
    refused = command(tmp_path / "nowhere")
    assert refused.returncode != 0
    assert "folder must hold a finished run with its scores.csv, got no run" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unfinished_run_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="got an unfinished run"):
        rebuild(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed,task\n0,mw-reach\n", r"columns of .* must include .* got none of \['method'\]"),
        ("seed,task,method\n", "rows must hold at least one score, got none"),
        ("seed,task,method,return\n0,mw-reach,pwm,many\n", "return must be a number, got 'many'"),
        ("seed,task,method,return\n0,mw-reach,pwm,nan\n", "return must be finite, got nan"),
        ("seed,task,method\n0,mw-reach,pwm,1\n", "cells must be one per column"),
        ("seed,task,method\n,mw-reach,pwm\n", r"got one without \['seed'\]"),
        ("seed,task,method\n0.5,mw-reach,pwm\n", "seed must be a whole number, got '0.5'"),
        ("seed,task,method\n0,mw-raech,pwm\n", "task must be a known name, got 'mw-raech'"),
        ("seed,task,method\n0,reach,pwm\n", "task must be a full name of MT80, got 'reach'"),
        ("seed,task,method\n0,mw-reach,pwm\n0,mw-reach,pwm\n", "rows must be one per seed"),
    ],
)
def test_damaged_scores_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "scores.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        rebuild(tmp_path)


def test_another_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="benchmark must be one of"):
        write(tmp_path, made_up(), benchmark="MT50")
