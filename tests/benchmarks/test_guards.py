"""The study of guards runs on a seed's data and tabulates every variant."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import guards
from quick.recipe import PRESETS, build


def test_every_variant_learns_from_the_oldest_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = ("mw-door-close", "mw-window-open")
    monkeypatch.setitem(PRESETS, "quick", PRESETS["smoke"])
    loop = build(replace(PRESETS["smoke"], tasks=tasks), seed=3)
    loop.collect_seed([2, 2])
    data = tmp_path / "seed3" / "metaworld" / "data"
    loop.replay.save(data)
    given = guards.Arguments(tmp_path, tasks, episodes=1, model_updates=2, policy_updates=2)
    rows = guards.study(data, given)
    assert [(row["variant"], row["task"]) for row in rows] == [
        (name, task) for name in guards.VARIANTS for task in tasks
    ]
    assert {row["seed"] for row in rows} == {3}
    assert len({row["return"] for row in rows if row["task"] == tasks[0]}) > 1  # guards act


def test_table_holds_means_over_seeds_and_each_seed() -> None:
    rows = [
        {
            "variant": "no guard",
            "seed": seed,
            "task": "a",
            "return": value,
            "success_last": 1.0,
            "gap": 0.5,
        }
        for seed, value in ((0, 100.0), (1, 300.0))
    ]
    text = guards.table(["a"], rows)
    assert "| no guard | 200 / 1.00 (+0.5) | 200 / 1.00 (+0.5) |" in text
    assert "- no guard: 100, 300" in text
