"""The study of options: each variant changes what its name says, and a table comes out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from ablate import VARIANTS, run, table
from recipe import PRESETS, plan_of

from pwm_sdk import MT80

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


def test_the_table_has_means_spreads_and_seeds() -> None:
    rows = {0: 100.0, 1: 300.0}
    results = {
        ("recipe", seed): [{"task": "walker-stand", "return": value}]
        for seed, value in rows.items()
    }
    lines = table(["recipe"], ["walker-stand"], results).splitlines()
    assert lines[0] == "| variant | walker-stand |"
    assert lines[2] == "| recipe | **200 +- 141** (100, 300) |"


def test_a_variant_without_average_runs(tmp_path: Path) -> None:
    tiny = replace(PRESETS["smoke"], tasks=("cartpole-swingup",), rounds=1, readings=0)
    (row,) = run(tiny, "no-average", 0, tmp_path)
    assert row["task"] == "cartpole-swingup" and row["method"] == "pwm"
    assert 0.0 <= row["return"] <= 1000.0
