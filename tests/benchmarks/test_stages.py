"""A seed's stages: each suite has its own model, an interrupted run goes on, a budget ends one."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from files import keep_config
from quick.recipe import PRESETS, build, chosen_tasks, split_tasks
from quick.stages import SeedRun

TINY = replace(PRESETS["smoke"], tasks=("cartpole-swingup",), save_every=1, readings=0, rounds=3)


class StoppedError(Exception):
    """Stands for a power cut."""


def make(folder: Path, budget: float | None = None) -> SeedRun:
    return SeedRun(
        TINY, 0, 1, 0, folder, device="cpu", budget=budget, progress=lambda share, status: None
    )


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeedRun, "_final", lambda self: [])
    whole = make(tmp_path / "whole")
    whole.run()

    first = make(tmp_path / "cut")
    run_round = first.loop.run_round

    def cut(progress: float) -> Any:
        if first.loop.round == 2:
            raise StoppedError
        return run_round(progress)

    monkeypatch.setattr(first.loop, "run_round", cut)
    with pytest.raises(StoppedError):
        first.run()
    second = make(tmp_path / "cut")
    second.run()

    assert second.loop.round == whole.loop.round == 3
    assert [row["round"] for row in second.log] == [1, 2, 3]
    assert len(second.loop.replay) == len(whole.loop.replay)
    # Environments start anew after the cut, so the last round's episodes and the statistics taken
    # from them differ; what was learned from the data of before the cut does not.
    before, after = (dict(run.loop.model.named_parameters()) for run in (whole, second))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_settings_are_kept_once_there_are_results(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    keep_config(folder, {"steps": 1})
    (folder / "data").mkdir()
    keep_config(folder, {"steps": 2})  # nothing was learned yet
    (folder / "seed0").mkdir()
    keep_config(folder, {"steps": 2})
    with pytest.raises(SystemExit, match="holds a run with other settings"):
        keep_config(folder, {"steps": 1})
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("run")["settings"]
    assert config == {"steps": 2}


def test_a_budget_ends_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeedRun, "_final", lambda self: [])
    run = make(tmp_path, budget=1e-3)
    run.run()
    assert run.loop.round == 0  # the seed data alone has spent it
    assert len(run.loop.replay) > 0


def test_a_suite_is_the_work_of_one_process() -> None:
    preset = PRESETS["quick"]
    for cores in (1, 2):
        shares = split_tasks(preset, cores)
        assert [len(tasks) for tasks in shares] == [5, 3]
        assert [task for tasks in shares for task in tasks] == chosen_tasks(preset)


def test_a_shared_model_takes_one_process_where_cores_are_few() -> None:
    preset = replace(PRESETS["quick"], models="shared")
    assert [len(tasks) for tasks in split_tasks(preset, 1)] == [8]
    assert [len(tasks) for tasks in split_tasks(preset, 2)] == [5, 3]


@pytest.mark.parametrize(
    ("models", "cores", "part", "updates", "last", "horizons"),
    [
        ("suite", 2, 0, 6, "Identity", [12]),
        ("suite", 2, 1, 10, "SimNorm", [8]),
        ("shared", 2, 0, 10, "SimNorm", [12]),
        ("shared", 1, 0, 10, "SimNorm", [12, 8]),
    ],
)
def test_suites_have_their_own_models_updates_and_horizons(
    models: Any, cores: int, part: int, updates: int, last: str, horizons: list[int]
) -> None:
    preset = replace(PRESETS["smoke"], models=models)
    loop = build(preset, seed=0, cores=cores, part=part)
    assert loop.config.updates == updates
    assert type(loop.model.dynamics[-1].act).__name__ == last
    assert [learner.pwm.config.horizon for learner in loop.learners] == horizons
