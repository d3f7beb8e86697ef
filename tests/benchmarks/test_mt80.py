"""The main job on real environments: the smoke preset from nothing to table, and how it refuses."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pwm_sdk import MT80, Critic, FirstOrderActor, ReplayBuffer, WorldModel

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("mw-reach", "mw-drawer-close", "cartpole-swingup")


def run(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the benchmark as a user does."""
    command = [sys.executable, "benchmarks/mt80.py", "--preset", "smoke", "--out", str(out)]
    return subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs")
    done = run(out)
    assert done.returncode == 0, done.stderr[-2000:]
    return out, done.stdout


def test_table_names_every_task_and_baseline(finished: tuple[Path, str]) -> None:
    _, printed = finished
    for task in TASKS:
        assert f"| {task} |" in printed
    assert "| cloning | random |" in printed


def test_scores_hold_every_method_of_every_task(finished: tuple[Path, str]) -> None:
    out, _ = finished
    with (out / "smoke" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["task"], row["method"]) for row in rows} == {
        (task, method) for task in TASKS for method in ("pwm", "mppi", "cloning", "random")
    }
    for row in rows:
        assert 0.0 <= float(row["return"]) <= 2000.0
        if row["method"] == "pwm":
            gap = float(row["predicted"]) - float(row["real"])
            assert float(row["gap"]) == pytest.approx(gap, abs=1e-6)
        if row["method"] in ("pwm", "mppi"):
            assert float(row["ms_per_action"]) > 0.0


def test_everything_is_left_in_files_that_open(finished: tuple[Path, str]) -> None:
    out, _ = finished
    folders = sorted((out / "smoke" / "seed0").iterdir())
    assert (out / "smoke" / "curves.png").stat().st_size > 10_000
    tasks: set[int] = set()
    for folder in folders:
        model = WorldModel.from_checkpoint(folder / "model.safetensors")
        for path in folder.glob("actors-*.safetensors"):
            assert FirstOrderActor.from_checkpoint(path).latent_dim == model.latent_dim
        for path in folder.glob("critics-*.safetensors"):
            assert Critic.from_checkpoint(path).latent_dim == model.latent_dim
        tasks |= set(ReplayBuffer.from_dataset(folder / "data", slice_len=5, batch_size=8).tasks)
    assert tasks == {MT80[name].index for name in TASKS}


def test_one_model_can_serve_all_suites(tmp_path: Path) -> None:
    tasks = ("mw-reach", "cartpole-swingup")
    done = run(tmp_path, "--models", "shared", "--rounds", "1", "--tasks", *tasks)
    assert done.returncode == 0, done.stderr[-2000:]
    folders = sorted((tmp_path / "smoke" / "seed0").iterdir())
    weights = [WorldModel.from_checkpoint(f / "model.safetensors").state_dict() for f in folders]
    for name, value in weights[0].items():  # however many processes hold it
        assert all(torch.equal(value, other[name]) for other in weights[1:]), name


def test_the_same_command_again_prints_the_same_scores(finished: tuple[Path, str]) -> None:
    out, _ = finished
    before = (out / "smoke" / "scores.csv").read_text()
    again = run(out)
    assert again.returncode == 0, again.stderr[-2000:]
    assert (out / "smoke" / "scores.csv").read_text() == before


def test_other_settings_are_not_mixed_into_a_run(finished: tuple[Path, str]) -> None:
    out, _ = finished
    refused = run(out, "--rounds", "3")
    assert refused.returncode != 0
    assert "other settings" in refused.stderr


def test_unknown_task_is_named_with_its_neighbours(tmp_path: Path) -> None:
    refused = run(tmp_path, "--tasks", "walker-stnad")
    assert refused.returncode != 0
    assert "walker-stand" in refused.stderr


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--seeds", "0"), ("--rounds", "0"), ("--budget-minutes", "-1"), ("--precision", "bf16")],
)
def test_senseless_numbers_are_refused(tmp_path: Path, flag: str, value: str) -> None:
    refused = run(tmp_path, flag, value)
    assert refused.returncode != 0
    assert flag in refused.stderr
