"""A seed's stages: each suite has its own model, an interrupted run goes on, a budget ends one."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from command_line import command
from files import in_folder, keep_config, run_path
from pwm_sdk import MT80, lock_folder, register_task
from pwm_sdk.runs import Interrupted
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
    assert [row["round"] for row in second.rounds.log] == [1, 2, 3]
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run that was never evaluated."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeedRun, "_final", lambda self: [])
        make(folder).run()
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, to be damaged."""
    monkeypatch.setattr(SeedRun, "_final", lambda self: [])
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_results_of_other_settings_are_never_taken(copy: Path) -> None:
    assert make(copy).run() == []
    other = SeedRun(
        replace(TINY, rounds=99), 0, 1, 0, copy, device="cpu", budget=None, progress=lambda *_: None
    )
    with pytest.raises(ValueError, match=r"scores\.json must be of a run with the same settings"):
        other.run()
    (copy / "scores.json").unlink()
    with pytest.raises(ValueError, match=r"state\.pt must belong to .*, got "):
        other.run()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped", "hostile", "old", "no data"])
def test_the_older_checkpoint_serves_where_the_newest_is_damaged(
    copy: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "scores.json").unlink()
    newest, older = sorted(copy.glob("checkpoint-*"), reverse=True)
    file = newest / "state.pt"
    held = file.read_bytes()
    if damage == "no data":
        shutil.rmtree(newest / "data")
    elif damage in ("hostile", "old"):
        torch.save(Path("x") if damage == "hostile" else {"loop": {}}, file)
    else:
        changed = bytearray(held)
        changed[len(held) // 2] ^= 4
        new = {"cut": held[: len(held) // 2], "empty": b"", "text": b"nothing", "flipped": changed}
        file.write_bytes(new[damage])
    run = make(copy)
    if damage == "old":
        with pytest.raises(ValueError, match=r"state\.pt must be a state of this version"):
            run.run()
        return
    run.run()
    told = capsys.readouterr().err
    assert str(newest) in told
    assert f"it continues from {older.name} instead" in told
    assert told.count("\n") == 1
    assert "weights_only" not in told
    assert run.loop.round == 3


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "{}"])
@pytest.mark.parametrize("name", ["scores.json", "config.json"])
def test_damaged_json_is_named(copy: Path, name: str, text: str) -> None:
    keep_config(copy.parent / "new", {"steps": 1})
    shutil.copy(copy.parent / "new" / "config.json", copy)
    (copy / name).write_bytes(text.encode("latin-1"))
    if name == "scores.json":
        with pytest.raises(ValueError, match=r"scores\.json must "):
            make(copy).run()
    else:
        with pytest.raises(SystemExit, match=r"config\.json") as found:
            keep_config(copy, {"steps": 1})
        assert "\n" not in str(found.value)


def test_results_without_settings_are_refused(copy: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds results, but no config\.json"):
        keep_config(copy, {"steps": 1})


def test_a_folder_in_use_ends_the_command_with_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with in_folder(tmp_path / "run", {}), pytest.raises(SystemExit) as found:  # noqa: SIM117
        with in_folder(tmp_path / "run", {}):
            pass
    assert found.value.code == 2
    told = capsys.readouterr().err
    assert "in use by another process" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "..", ".", "~", "/tmp/x", ".hidden", "a\\b", "a/", "a\0b"]
)
def test_names_are_not_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit, match="--name must be a name"):
        run_path(tmp_path, name)
    with pytest.raises(ValueError, match="name must be a name"):
        register_task(replace(MT80["walker-walk"], name=name, index=-1), lambda: None)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "runs/x/state.pt")])
def test_a_full_disk_is_one_line(error: OSError) -> None:
    with pytest.raises(SystemExit, match=r"^runs/x/state\.pt: No space left on device$"), command():
        raise error


def test_a_place_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    named = pytest.raises(SystemExit, match=str(tmp_path / "file"))
    with named, command(), in_folder(tmp_path / "file" / "run", {}):
        pass


def test_a_stop_between_rounds_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path / "run")
    monkeypatch.setattr("quick.stages.stop_asked", lambda: run.loop.round == 1)
    with pytest.raises(Interrupted):
        run.run()
    assert [path.parent.name for path in run.folder.glob("*/state.pt")] == ["checkpoint-00001"]
    with pytest.raises(ValueError, match="removed"), lock_folder(tmp_path / "gone") as lock:
        run.rounds.folder, run.rounds._lock = tmp_path / "gone", lock
        shutil.rmtree(tmp_path / "gone")
        run.rounds.save()
