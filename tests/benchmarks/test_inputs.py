"""Whatever is wrong with the files of the published protocol is said in one line, at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from vectors import path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from mt80 import Arguments
from paper.inputs import check_inputs, open_data
from pwm_sdk import MT30, MT80, ReplayBuffer, make_episode

CHUNKS = [path(f"g7_chunk_{i}.pt") for i in range(2)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the recorded chunks."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i, file in enumerate(CHUNKS):
        (folder / f"chunk_{i}.pt").symlink_to(file)
    return folder


def refusal(preset: str = "published", **options: Any) -> str:
    """What a user reads."""
    with pytest.raises(SystemExit) as ended:
        check_inputs(Arguments(preset=preset, **options), MT80)
    return str(ended.value)


def test_missing_data_is_asked_for(tmp_path: Path) -> None:
    assert "published-pretrain needs --data, a folder with chunk_" in refusal("published-pretrain")
    assert f"got {tmp_path / 'no'}, which is no folder" in refusal(data=tmp_path / "no")
    assert f"got {tmp_path}, which is empty" in refusal(data=tmp_path)
    for i in range(7):
        (tmp_path / f"note{i}.txt").touch()
    assert refusal(data=tmp_path).endswith(
        "note0.txt, note1.txt, note2.txt, note3.txt, note4.txt, ..."
    )


def test_a_run_of_the_quick_preset_is_shown_its_datasets(tmp_path: Path) -> None:
    own = tmp_path / "seed0" / "metaworld" / "data"
    own.mkdir(parents=True)
    (own / "manifest.json").touch()
    assert refusal(data=tmp_path).endswith(f"which holds seed0; datasets below it: {own}")


def test_a_missing_or_foreign_checkpoint_is_named(data: Path) -> None:
    assert "published needs --checkpoint, a file of TD-MPC2 or PWM" in refusal(data=data)
    assert f"got {data}, which is no file" in refusal(data=data, checkpoint=data)
    file = path("g7_tdmpc2_ckpt_new.pt")  # of other sizes than MT80's
    assert f"--checkpoint {file}: " in refusal(data=data, checkpoint=file)
    assert "must" in refusal(data=data, checkpoint=CHUNKS[0])
    assert refusal("published-pretrain", data=data, checkpoint=file) == (
        "--checkpoint has no meaning for --preset published-pretrain"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tasks": ("walker-rnu",)},
            "--tasks: task must be a known name, got 'walker-rnu'; nearest",
        ),
        ({"size": 7}, r"--size: size must be one of [1, 5, 19, 48, 317], got 7"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"batch_size": -1}, "--batch-size must be at least 1, got -1"),
        ({"jobs": 0}, "--jobs must be at least 1, got 0"),
        ({"population": 0}, "--population must be at least 1, got 0"),
        ({"plan_episodes": -1}, "--plan-episodes must be at least 0, got -1"),
        ({"plan_samples": 7}, "--plan-samples must be at least 8, got 7"),
        ({"rounds": 3}, "--rounds has no meaning for --preset published-pretrain"),
    ],
)
def test_senseless_options_are_named(data: Path, options: dict[str, Any], message: str) -> None:
    assert message in refusal("published-pretrain", data=data, **options)


def test_what_is_right_gives_the_tasks(data: Path) -> None:
    some = Arguments(preset="published-pretrain", data=data, tasks=("mw-reach", "cup-spin"))
    assert [task.name for task in check_inputs(some, MT80)] == ["mw-reach", "cup-spin"]
    every = Arguments(preset="published-pretrain", data=data)
    assert check_inputs(every, MT30) == list(MT30)


def test_data_without_a_task_or_of_other_sizes_is_named(tmp_path: Path, data: Path) -> None:
    button = MT80["mw-button-press"]
    store = open_data(data, tmp_path / "out", MT80, [button], 17)
    assert store == open_data(store, tmp_path / "unused", MT80, [button], 17)
    one = ReplayBuffer(1000, 17, 1)
    one.add(
        make_episode(torch.rand(101, 39), torch.rand(100, 6), torch.rand(100), MT80["mw-reach"])
    )
    one.save(tmp_path / "one")
    with pytest.raises(SystemExit, match=r"tasks must be among mw-reach, got mw-sweep, cup-spin"):
        open_data(tmp_path / "one", tmp_path, MT80, [MT80["mw-sweep"], MT80["cup-spin"]], 17)
    with pytest.raises(SystemExit, match=r"must have length >= slice_len=200 rows, got 101"):
        open_data(store, tmp_path / "unused", MT80, [button], 200)
    small = ReplayBuffer(1000, 17, 1)
    small.add(make_episode(torch.rand(101, 24), torch.rand(100, 6), torch.rand(100), button))
    small.save(tmp_path / "small")
    with pytest.raises(SystemExit, match="observation must have 39 entries, got 24"):
        open_data(tmp_path / "small", tmp_path / "unused", MT80, [button], 17)


def test_a_damaged_chunk_is_named_and_nothing_is_left(tmp_path: Path, data: Path) -> None:
    (data / "chunk_2.pt").write_bytes(CHUNKS[0].read_bytes()[:1000])
    with pytest.raises(SystemExit, match=r"--data .*complete file .*chunk_2\.pt"):
        open_data(data, tmp_path / "out", MT80, [MT80["mw-reach"]], 17)
    assert not list(tmp_path.glob("out/*"))
