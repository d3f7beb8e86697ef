"""The published protocol end to end, from recorded chunks, at sizes that take seconds."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tyro
from vectors import path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import paper.offline
from mt80 import Arguments
from paper.extraction import OfflinePreset
from paper.offline import run_published
from pwm_sdk import MT80, Execution, WorldModel

ROOT = Path(__file__).resolve().parents[2]
TASK = "mw-button-press"


def benchmark(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does."""
    command = [sys.executable, str(ROOT / "benchmarks" / "mt80.py"), "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *options], capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture(scope="module")
def chunks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recorded chunks, named as the published ones."""
    folder = tmp_path_factory.mktemp("chunks")
    for i in range(2):
        (folder / f"chunk_{i}.pt").write_bytes(path(f"g7_chunk_{i}.pt").read_bytes())
    return folder


@pytest.mark.slow
def test_from_chunks_to_a_table_and_on_from_its_files(chunks: Path, tmp_path: Path) -> None:
    small = ["--updates", "2", "--batch-size", "4", "--episodes", "1", "--jobs", "1"]
    small += ["--plan-episodes", "1", "--plan-samples", "8"]
    tiny = ["--size", "1", "--pretrain-updates", "2", "--pretrain-batch", "4", *small]
    data = ["--data", str(chunks), "--tasks", TASK]
    run = benchmark(tmp_path, "--preset", "published-pretrain", *data, *tiny)
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "published-pretrain"
    row, planned = csv.DictReader((folder / "scores.csv").read_text().splitlines())
    assert (row["task"], row["method"], row["seed"]) == (TASK, "pwm", "0")
    assert (planned["task"], planned["method"], planned["seed"]) == (TASK, "tdmpc2", "0")
    assert 0.0 <= float(planned["return"]) <= 2000.0 and float(planned["episodes"]) == 1.0
    assert 0.0 <= float(row["return"]) <= 2000.0 and float(row["episodes"]) == 1.0
    for name in ("model", "q_ensemble", "policy_prior", f"seed0/{TASK}/actor"):
        assert (folder / f"{name}.safetensors").stat().st_size > 0

    model = ["--checkpoint", str(folder / "model.safetensors")]
    data = ["--data", str(folder / "data"), "--tasks", TASK]
    run = benchmark(tmp_path, "--preset", "published", *data, *model, *small)
    assert run.returncode == 0, run.stderr
    assert "policies to learn: 1; populations: 1 of at most 1 (about " in run.stderr
    again = json.loads((tmp_path / "published" / f"seed0/{TASK}/scores.json").read_text())
    assert again["return"] == float(row["return"])  # same model, data, seed and updates
    again = json.loads((tmp_path / "published" / f"tdmpc2/{TASK}.json").read_text())
    assert again["return"] == float(planned["return"])  # the parts beside the model
    assert "| TD-MPC2 | TD-MPC2 ms/action |" in run.stdout
    assert "published" in run.stdout.lower()


def test_a_world_model_is_trained_in_the_precision_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    data = SimpleNamespace(from_dataset=lambda *_, **__: None)
    monkeypatch.setattr(paper.offline, "ReplayBuffer", data)
    monkeypatch.setattr(paper.offline, "Prefetcher", lambda source, _: nullcontext(source))
    monkeypatch.setattr(paper.offline, "fit", lambda agent, *_, **__: asked.append(agent))
    wanted = Execution(precision="bf16", check_every=3)
    preset = OfflinePreset(size=1, pretrain=True)
    paper.offline.pretrain(preset, tmp_path, tmp_path, "cpu", wanted)
    assert [agent.execution.precision for agent in asked] == ["bf16"]


def test_updates_are_run_as_asked_and_a_run_keeps_its_precision(
    chunks: Path, tmp_path: Path
) -> None:
    model = WorldModel.published(
        MT80.observation_dim, MT80.action_dim, num_tasks=80, task_dim=8, latent_dim=16,
        hidden=(16,), encoder_hidden=(16,), action_dims=[task.action_dim for task in MT80],
    )  # fmt: skip
    model.save(tmp_path / "model.safetensors")
    data = ["--data", str(chunks), "--checkpoint", str(tmp_path / "model.safetensors")]
    small = ["--updates", "2", "--batch-size", "4", "--episodes", "1", "--jobs", "1"]
    command = ["--preset", "published", *data, "--tasks", TASK, *small, "--out", str(tmp_path)]
    run = benchmark(tmp_path, *command, "--precision", "bf16", "--cuda-graphs")
    assert run.returncode == 0, run.stderr
    assert "1 at once); updates in bf16\n" in run.stderr
    assert run.stderr.count("cuda_graphs=True needs a GPU, got parameters on cpu") == 1
    assert TASK in run.stdout

    with pytest.raises(SystemExit, match="holds a run with other settings"):
        run_published(tyro.cli(Arguments, args=command), tmp_path / "published")
    again = tyro.cli(Arguments, args=[*command, "--precision", "bf16", "--compile"])
    (row,) = run_published(again, tmp_path / "published")
    kept = json.loads((tmp_path / "published" / f"seed0/{TASK}/scores.json").read_text())
    assert kept.pop("run")["seed"] == 0
    assert row == kept


def test_what_is_missing_is_named_without_a_traceback(tmp_path: Path) -> None:
    run = benchmark(tmp_path, "--preset", "published")
    assert run.returncode == 1 and run.stderr.startswith(
        "--preset published needs --data, a folder"
    )
    assert not (tmp_path / "published").exists()
