"""Environment throughput: what is timed, how it is put together, the command at tiny sizes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import machine
from stepping import VARIANTS, Plan, Reading, bare_physics, steps_of, suite_of
from throughput import report

from pwm_sdk import make_gym

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("pendulum-swingup", "cup-spin", "mw-reach")
SUITES = ("dm_control, stock", "dm_control, custom", "Meta-World")


def run(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the benchmark as a user does."""
    command = [sys.executable, "benchmarks/throughput.py", "--out", str(out), *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_command_prints_and_writes_the_tables(tmp_path: Path) -> None:
    sizes = ("--steps", "4", "--rounds", "2", "--workers", "2")
    done = run(tmp_path, "--tasks", *TASKS, *sizes)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith(machine.slug())
    written = (folder / "environments.md").read_text()
    assert done.stdout.startswith(written)
    assert machine.describe() in written
    assert "| 2 workers |" in written
    for row in (*SUITES, *TASKS):
        assert written.count(f"| {row} |") == 1
    with (folder / "environments.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["suite"]) for row in rows] == list(zip(TASKS, SUITES, strict=True))
    for row in rows:
        rates = {kind: float(row[f"{kind}_steps_per_s"]) for kind in VARIANTS}
        assert all(rate > 0.0 for rate in rates.values())
        assert float(row["reset_ms"]) > 0.0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tasks", "cup-spn"), "cup-spin"),
        (("--steps", "0"), "--steps must be at least 1, got 0"),
        (("--rounds", "0"), "--rounds must be at least 1, got 0"),
        (("--workers", "0"), "--workers must be at least 1, got 0"),
    ],
)
def test_senseless_arguments_are_refused(
    flags: tuple[str, str], message: str, tmp_path: Path
) -> None:
    refused = run(tmp_path, *flags)
    assert refused.returncode != 0
    assert message in refused.stderr
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
