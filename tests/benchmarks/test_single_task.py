"""The comparison as a user calls it: methods of one's own, resuming, failures, refusals."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = """
from methods import method
from pwm_sdk import RandomBehaviour

@method("still")
def still(job):
    job.goes_on(RandomBehaviour(1, job.task.action_dim, job.seed))

@method("broken")
def broken(job):
    raise RuntimeError("out of order")
"""


def run(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the benchmark as a user does."""
    command = [sys.executable, "benchmarks/single_task.py", "--preset", "smoke", "--out", str(out)]
    return subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs")
    done = run(out, "--methods", "pwm", "sac", "ppo", "dreamerv3", "random")
    assert done.returncode == 0, done.stderr[-2000:]
    return out / "single-smoke", done.stdout


def test_every_method_ends_in_the_table(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    assert "| task | PWM | DreamerV3 | PPO | SAC | random |" in printed
    assert (folder / "report.md").read_text().strip() == printed.strip()
    assert (folder / "curves.png").stat().st_size > 10_000
    with (folder / "scores.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"pwm", "dreamerv3", "ppo", "sac", "random"}
    for name, row in rows.items():
        assert 0.0 <= float(row["return"]) <= 1000.0
        # A method may end its last round: PPO's batch and an episode are the longest.
        assert float(row["steps"]) == 0.0 if name == "random" else 300 <= float(row["steps"]) <= 500


def test_more_methods_join_and_what_is_finished_stays(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    plugin = folder.parent / "mine.py"
    plugin.write_text(PLUGIN)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*/result.json")}
    more = run(folder.parent, "--plugin", str(plugin), "--methods", "still", "broken", "sac")
    assert more.returncode == 1
    assert "1 of 3 jobs failed (see error.txt): broken/cartpole-swingup/0" in more.stderr
    error = folder / "cartpole-swingup" / "broken" / "seed0" / "error.txt"
    assert "out of order" in error.read_text()
    assert "| task | PWM | DreamerV3 | PPO | SAC | still | random |" in more.stdout
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "sca"), "got 'sca'; nearest: sac"),
        (("--tasks", "cartpole-swingpu"), "cartpole-swingup"),
        (("--seeds", "0"), "seeds must be at least 1, got 0"),
        (("--budget-steps", "-3"), "steps must be positive, got -3"),
        (("--plugin", "nothing.py"), "plugin must be a python file, got nothing.py"),
    ],
)
def test_senseless_commands_are_refused(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused = run(tmp_path, *arguments)
    assert refused.returncode != 0
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_other_budgets_are_not_mixed_into_a_run(finished: tuple[Path, str]) -> None:
    refused = run(finished[0].parent, "--budget-steps", "400")
    assert refused.returncode != 0
    assert "other settings" in refused.stderr
