"""The published protocol on chunks of our own: what the benchmark collects, written and learned."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pwm_sdk import MT80, ReplayBuffer, from_tdmpc2_chunks, to_tdmpc2_chunks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from quick.recipe import PRESETS, build

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("mw-reach", "cartpole-swingup")  # of 100 and 500 steps
OWN = replace(PRESETS["smoke"], tasks=TASKS, models="shared", whole_episodes=True)
SMALL = (
    "--updates",
    "2",
    "--batch-size",
    "4",
    "--episodes",
    "1",
    "--jobs",
    "1",
    "--plan-episodes",
    "0",
)
TINY = ("--size", "1", "--pretrain-updates", "2", "--pretrain-batch", "4")


@pytest.fixture(scope="module")
def collected() -> ReplayBuffer:
    """Two episodes of the first task and one of the second, as the quick preset collects them."""
    loop = build(OWN, seed=0)
    loop.collect_seed([2, 1])
    loop.pool.close()
    return loop.replay


@pytest.fixture(scope="module")
def chunks(collected: ReplayBuffer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "chunks"
    files = to_tdmpc2_chunks(collected, folder, episode_length=100, chunk_episodes=4)
    assert [file.name for file in files] == ["chunk_0.pt", "chunk_1.pt"]
    return folder


def benchmark(folder: Path, *options: str) -> str:
    """Run the program as a user does; what it prints."""
    command = [sys.executable, str(ROOT / "benchmarks" / "mt80.py"), "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*command, "--tasks", *TASKS, *SMALL, *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def scores(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of scores.csv by task."""
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    assert [(row["method"], row["seed"], float(row["episodes"])) for row in rows] == (
        [("pwm", "0", 1.0)] * len(TASKS)
    )
    return {row["task"]: row for row in rows}


def test_chunks_hold_what_was_collected(
    collected: ReplayBuffer, chunks: Path, tmp_path: Path
) -> None:
    again = ReplayBuffer.from_dataset(
        from_tdmpc2_chunks(chunks, tmp_path / "data", MT80), slice_len=17, batch_size=8
    )
    counts = {MT80["mw-reach"].index: 2, MT80["cartpole-swingup"].index: 5}
    for task, count in counts.items():
        whole, pieces = collected.episodes(task), again.episodes(task)
        assert len(pieces) == count
        for name in ("observation", "action", "reward"):
            steps = torch.cat([episode[name][1:] for episode in pieces])
            assert torch.equal(steps, torch.cat([episode[name][1:] for episode in whole]))
        assert torch.equal(pieces[-1]["observation"][0], whole[-1]["observation"][-101])
    assert again.sample().isfinite().all()


@pytest.mark.slow
def test_from_own_chunks_to_two_tables(chunks: Path, tmp_path: Path) -> None:
    data = ("--data", str(chunks))
    benchmark(tmp_path, "--preset", "published-pretrain", *data, *TINY)
    first = tmp_path / "published-pretrain"
    model = str(first / "model.safetensors")
    printed = benchmark(tmp_path, "--preset", "published", *data, "--checkpoint", model)
    report = (tmp_path / "published" / "report.md").read_text()
    before, after = scores(first), scores(tmp_path / "published")
    assert before.keys() == after.keys() == set(TASKS)
    for task in TASKS:
        # the same model, data, seed and updates
        assert after[task]["return"] == before[task]["return"]
        assert 0.0 <= float(after[task]["return"]) <= 2000.0
        assert f"| {task} |" in report
    assert "published PWM" in report
    assert printed.startswith(report.rstrip("\n")[:200])
