"""The study of options: each variant changes what its name says, and a table comes out."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from ablate import PUBLISHED, STUDIES, VARIANTS, published_table, run, tables
from pwm_sdk import MT80
from quick.recipe import PRESETS, build, plan_of

QUICK = PRESETS["quick"]


def test_each_variant_changes_one_thing() -> None:
    assert VARIANTS["recipe"](QUICK) == QUICK
    assert VARIANTS["no-variance-weights"](QUICK).rounds_config.reward_weight_gain == 0.0
    assert VARIANTS["no-penalty"](QUICK).pwm == replace(QUICK.pwm, saturation=0.0)
    assert VARIANTS["h-step-return"](QUICK).pwm == replace(QUICK.pwm, actor_lam=None)
    assert VARIANTS["no-target-critic"](QUICK).pwm == replace(QUICK.pwm, target_tau=None)
    assert VARIANTS["no-decay"](QUICK).rounds_config.decay_share == 0.0
    alone = VARIANTS["no-average"](QUICK)
    assert alone.pwm == replace(QUICK.pwm, average_tau=None) and alone.select_episodes == 0


def test_whole_episodes_give_as_much_data() -> None:
    walker = MT80["walker-stand"]
    short, whole = (
        plan_of(walker, preset) for preset in (QUICK, VARIANTS["whole-episodes"](QUICK))
    )
    assert (short.length, whole.length) == (50, 500)
    assert short.length * short.episodes == whole.length * whole.episodes == 500
    assert short.length * short.seed_episodes == whole.length * whole.seed_episodes == 2500


def test_the_tables_have_means_spreads_and_seeds() -> None:
    results = {
        ("recipe", seed): [
            {"task": "walker-stand", "return": value},
            {"task": "cheetah-run", "return": 2 * value},
        ]
        for seed, value in enumerate([100.0, 300.0])
    }
    lines = tables(["recipe"], ["walker-stand", "cheetah-run"], results).splitlines()
    assert lines[0] == "walker-stand, return:"
    assert lines[2] == "| variant | mean | seed 0 | seed 1 |"
    assert lines[4] == "| recipe | **200 +- 141** | 100 | 300 |"
    assert lines[10] == "| recipe | **400 +- 283** | 200 | 600 |"


def test_variants_of_the_world_model_reach_it() -> None:
    tiny = replace(PRESETS["smoke"], tasks=("cartpole-swingup",), latent_dim=8, hidden=16)
    built = {
        name: build(change(tiny), 0).model for name, change in STUDIES["regularization"].items()
    }
    assert type(built["recipe"].dynamics[0].act) is nn.SiLU
    assert type(built["mish"].dynamics[0].act).__name__ == "Mish"
    assert type(built["recipe"].dynamics[-1].act).__name__ == "SimNorm"
    assert type(built["relu, no-simnorm"].dynamics[-1].act) is nn.Identity
    assert type(built["relu, no-simnorm"].encoder[0].act) is nn.ReLU
    weight = built["spectral-norm"].dynamics[-1].weight
    assert float(torch.linalg.matrix_norm(weight.detach(), 2)) == pytest.approx(1.0, rel=0.05)
    walker = MT80["walker-stand"]
    rows = [plan_of(walker, VARIANTS[name](QUICK)).rows for name in ("recipe", "batch-x0.25")]
    assert rows == [72, 18]


def test_published_figures_are_labelled_and_their_doubts_told() -> None:
    text = published_table()
    assert text.startswith("Published by PWM's authors, not measured here")
    row = next(line for line in text.splitlines() if line.startswith("| spectral-norm"))
    assert row.split(" | ")[1:] == ["5793 +- 469 (3)", "-", "-", "- |"]
    assert "without SimNorm is inferred" in text
    assert "5535 +- 882 (5)*" in text and "suspect" in text.split("Doubts")[1]
    with PUBLISHED.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 18


def test_tasks_of_two_suites_are_both_run(tmp_path: Path) -> None:
    tiny = replace(PRESETS["smoke"], tasks=("cartpole-swingup", "mw-reach"), rounds=1, readings=0)
    rows = run(tiny, "spectral-norm", 0, tmp_path)
    assert [row["task"] for row in rows] == ["mw-reach", "cartpole-swingup"]


def test_a_variant_without_average_runs(tmp_path: Path) -> None:
    tiny = replace(PRESETS["smoke"], tasks=("cartpole-swingup",), rounds=1, readings=0)
    (row,) = run(tiny, "no-average", 0, tmp_path)
    assert row["task"] == "cartpole-swingup" and row["method"] == "pwm"
    assert 0.0 <= row["return"] <= 1000.0
