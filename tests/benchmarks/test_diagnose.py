"""The diagnostics as a command: same data for all models, resumable jobs, report and plots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from diagnose import Settings, as_long, learn, record, roughness
from pwm_sdk import FirstOrderActor, MassSpring
from reporting.diagnostics import write_report

ROOT = Path(__file__).resolve().parents[2]
TINY = Settings(updates=3, episodes=2, length=12, starts=3, horizons=(1, 2, 4), hidden=16)


def test_roughness_by_hand() -> None:
    # Monotone: 1; one valley that comes back: 2; 0, 2, 1, 3: steps of 2 + 1 + 2 over a range of 3.
    curves = torch.tensor([[0.0, 4.0, 0.0], [1.0, 0.0, 2.0], [2.0, 2.0, 1.0], [3.0, 4.0, 3.0]])
    for column, known in enumerate([1.0, 2.0, 5 / 3]):
        assert float(roughness(curves[:, column : column + 1])) == pytest.approx(known)
    assert float(roughness(curves)) == pytest.approx((1 + 2 + 5 / 3) / 3)


def test_a_recording_belongs_to_its_seed() -> None:
    simulator = MassSpring(2, 2, substeps=2)
    first, again, other = (record(simulator, TINY, seed) for seed in (0, 0, 1))
    assert first.state.shape == (2, 13, 16) and first.reward.shape == (2, 12, 1)
    assert torch.equal(first.state, again.state)
    assert not torch.equal(first.state, other.state)
    following, reward = simulator.step(first.state[:, 3], first.action[:, 3])
    torch.testing.assert_close(following, first.state[:, 4])
    torch.testing.assert_close(reward, first.reward[:, 3])


def test_training_lowers_the_reward_error_and_ends_with_its_time() -> None:
    simulator = MassSpring(2, 2, substeps=2)
    recording = record(simulator, Settings(episodes=4, length=40), 0)
    short, long = (
        learn(simulator, recording, Settings(updates=count, hidden=32), 0, {})[1]
        for count in (1, 150)
    )
    assert long["reward_error"] < 0.7 * short["reward_error"]
    ended = learn(simulator, recording, Settings(minutes=1e-9, hidden=16), 0, {})[1]
    assert ended["updates"] == 1


def test_directions_are_as_long_as_the_parameters() -> None:
    actor = FirstOrderActor.published(4, 2, (8,))
    origin = torch.nn.utils.parameters_to_vector(actor.parameters())
    line = as_long(1e6 * torch.randn(len(origin)), actor)
    assert float(line.norm()) == pytest.approx(float(origin.detach().norm()), rel=1e-4)


def test_the_command_leaves_report_and_plots_and_continues(tmp_path: Path) -> None:
    sizes = "--updates 3 --episodes 2 --length 12 --starts 3 --hidden 16 --horizons 1 2 4"
    command = [sys.executable, "benchmarks/diagnose.py", "--tasks", "cartpole-swingup", "--jobs",
               "1", "--seeds", "1", "--out", str(tmp_path), *sizes.split()]  # fmt: skip
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    result = json.loads((tmp_path / "cartpole-swingup-seed0.json").read_text())
    for found in result["models"].values():
        columns = found["gradients"]["simulator"]
        assert columns["cosine"] == pytest.approx([1.0, 1.0, 1.0])
        assert list(found["landscape"]["model"]) == ["1", "4"]
        assert len(found["landscape"]["simulator"]["4"]["return"]) == 41
    for name in ("gradients", "landscape"):
        assert (tmp_path / f"{name}-cartpole-swingup.png").stat().st_size > 10_000
    assert shown.strip() == (tmp_path / "report.md").read_text().strip()
    # A second seed beside the first, which is not computed again.
    result["seed"], path = 1, tmp_path / "cartpole-swingup-seed1.json"
    path.write_text(json.dumps(result))
    text = write_report(tmp_path, "again")
    assert "Seeds 0, 1;" in text and "| SimNorm | backpropagation, simulator | 4 |" in text
