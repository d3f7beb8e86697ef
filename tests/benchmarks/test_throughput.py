"""The command at tiny sizes: what it prints and writes; environment steps, how they are timed."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import machine
import throughput
from pwm_sdk import make_gym
from speed.stepping import VARIANTS, Plan, Reading, bare_physics, steps_of, suite_of
from speed.stepping_report import report

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("pendulum-swingup", "cup-spin", "mw-reach")
GROUP_ROWS = {"update": 10, "population": 2, "model": 1, "action": 3, "sampling": 4}
SUITES = ("dm_control, stock", "dm_control, custom", "Meta-World")


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path, *flags: str
) -> str:
    """Call the command and return what it prints."""
    monkeypatch.setattr(sys, "argv", ["throughput.py", "--out", str(out), *flags])
    throughput.main()
    return capsys.readouterr().out


def rows_of(file: Path) -> list[dict[str, str]]:
    """Lines of a CSV file."""
    with file.open() as text:
        return list(csv.DictReader(text))


def test_every_group_is_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = ("update", "population", "model", "action", "sampling")
    sizes = ("--sizes", "1", "--batches", "2", "--observations", "1", "--rows", "1000", "4000")
    few = (
        "--populations",
        "2",
        "--rounds",
        "1",
        "--limit",
        "60",
        "--variants",
        "ours",
        "ours-bf16",
        "ours-graphs",
    )
    printed = run(monkeypatch, capsys, tmp_path, "--groups", *groups, *sizes, *few)
    for group in groups:
        written = (tmp_path / f"{group}.md").read_text()
        assert machine.describe() in written
        assert written in printed
        assert {row["group"] for row in rows_of(tmp_path / f"{group}.csv")} == {group}
    rows = [row for group in groups for row in rows_of(tmp_path / f"{group}.csv")]
    assert [row["group"] for row in rows] == [g for g in groups for _ in range(GROUP_ROWS[g])]
    graphs = rows.pop(GROUP_ROWS["update"] - 1)
    assert (graphs["variant"], graphs["ms"], graphs["note"]) == ("ours-graphs", "", "needs a GPU")
    assert "| ours-graphs | not measured: needs a GPU |" in printed
    assert all(float(row["ms"]) > 0.0 and not row["note"] for row in rows)
    assert all(float(row["of_peak"]) > 0.0 for row in rows if row["group"] != "sampling")
    baseline, eager, *others = (row for row in rows if row["what"] == "update")
    assert (baseline["variant"], float(baseline["gain"])) == ("transcription", 1.0)
    assert float(eager["gain"]) == pytest.approx(float(baseline["ms"]) / float(eager["ms"]))
    assert float(eager["difference"]) < 1e-5
    assert [row["variant"] for row in others] == ["ours-bf16"]
    assert 1e-4 < float(others[0]["difference"]) < 0.5  # two starts, a small loss
    assert (baseline["gradient"], eager["gradient"]) == ("", "")
    assert 1e-4 < float(others[0]["gradient"]) < 0.1
    assert not (tmp_path / "environments.md").exists()


def test_what_takes_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--groups", "model", "--sizes", "1", "--batches", "900000", "1", "--rounds", "1")
    printed = run(monkeypatch, capsys, tmp_path, *flags)
    short, long = rows_of(tmp_path / "model.csv")
    assert (short["count"], long["count"], long["ms"]) == ("1", "900000", "")
    assert "| 900,000 | ours | not measured: about" in printed


def test_populations_that_take_too_long_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--groups", "population", "--sizes", "1", "--batches", "40000", "1", "--rounds", "1")
    printed = run(monkeypatch, capsys, tmp_path, *flags, "--populations", "9000", "1")
    rows = rows_of(tmp_path / "population.csv")
    found = [(row["what"], row["count"], row["variant"], row["ms"] != "") for row in rows]
    assert found == [
        ("1 policies", "1", "one at a time", True),
        ("1 policies", "1", "at once", True),
        ("9000 policies", "1", "all", False),
        ("1 policies", "40000", "all", False),
        ("9000 policies", "40000", "all", False),
    ]
    assert "| all | not measured: about" in printed


def test_a_profile_is_a_trace_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run(monkeypatch, capsys, tmp_path, "--profile", "--sizes", "1", "--batches", "1")
    page = (tmp_path / "profile.md").read_text()
    assert page in printed
    assert page.count("\n| aten::") >= 5
    assert len([line for line in page.splitlines() if line.startswith("| ")]) == 2 + 10 + 2
    with gzip.open(tmp_path / "trace_1M_1.json.gz", "rt") as text:
        names = {event.get("name") for event in json.load(text)["traceEvents"]}
    assert {"aten::baddbmm", "MulBackward0"} <= names


def test_environment_steps_are_printed_and_written(tmp_path: Path) -> None:
    sizes = ("--groups", "environments", "--steps", "4", "--rounds", "2", "--workers", "2")
    command = [sys.executable, "benchmarks/throughput.py", "--out", str(tmp_path), *sizes]
    done = subprocess.run(  # workers are started anew from the file, as from a shell
        [*command, "--tasks", *TASKS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    written = (tmp_path / "environments.md").read_text()
    assert done.stdout.startswith(written)
    assert machine.describe() in written
    assert "| 2 workers |" in written
    for row in (*SUITES, *TASKS):
        assert written.count(f"| {row} |") == 1 + (row in SUITES)  # of these, a pool as well
    rows = rows_of(tmp_path / "environments.csv")
    assert [(row["task"], row["suite"]) for row in rows] == list(zip(TASKS, SUITES, strict=True))
    for row in rows:
        rates = {kind: float(row[f"{kind}_steps_per_s"]) for kind in VARIANTS}
        assert all(rate > 0.0 for rate in rates.values())
        assert float(row["reset_ms"]) > 0.0
    assert not (tmp_path / "update.md").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tasks", "cup-spn"), "cup-spin"),
        (("--steps", "0"), "--steps must be at least 1, got 0"),
        (("--rounds", "0"), "--rounds must be at least 1, got 0"),
        (("--workers", "0"), "--workers must be at least 1, got 0"),
        (("--groups", "update", "--variants", "fast"), "ours-compiled"),
        (("--batches", "8", "0"), "--batches must be at least 1, got 0"),
    ],
)
def test_senseless_arguments_are_refused(
    flags: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, capsys, tmp_path, *flags)
    assert not list(tmp_path.iterdir())


def test_suites_have_medians_over_tasks() -> None:
    def reading(name: str, bare: float, gym: float, workers: float) -> Reading:
        rates = {"bare": bare, "gym": gym, "torchrl": 10.0, "workers": workers}
        return Reading(name, suite_of(name), rates, reset_ms=2.0)

    readings = [
        reading("walker-run", 1000.0, 500.0, 1000.0),
        reading("cheetah-run", 8000.0, 800.0, 1200.0),
        reading("fish-swim", 2000.0, 400.0, 400.0),
    ]
    text = report(readings, Plan(steps=5, rounds=1, workers=3), "load 0.5")
    cells = "2,000 | 500 | 20% | 10 | 1,000 | x1.50 | 2.0 |"
    assert f"| dm_control, stock | 3 | {cells}" in text
    assert "| dm_control, custom |" not in text
    assert "| fish-swim | 2,000 | 400 | 20% | 10 | 400 | x1.00 | 2.0 |" in text


@pytest.mark.parametrize(
    "name", ["walker-run", "finger-spin", "reacher-three-easy", "cup-spin", "mw-drawer-open"]
)
def test_bare_physics_is_the_same_episode(name: str) -> None:
    env = make_gym(name)
    actions = np.random.default_rng(0).uniform(-1, 1, (10, env.task.action_dim))
    prepare = bare_physics(env, actions.astype(np.float32))
    simulator = env.unwrapped.simulator
    data = simulator.data if name.startswith("mw-") else simulator.physics.data
    played = data.qpos.copy()
    for _ in range(2):  # a replay leaves the first state as it was
        np.testing.assert_allclose(prepare()().qpos, played, rtol=0, atol=1e-12)


def test_a_reading_is_at_most_one_episode() -> None:
    plan = Plan(steps=300, rounds=1, workers=1)
    assert (steps_of("mw-reach", plan), steps_of("walker-run", plan)) == (100, 300)
