"""A saved replay is replaced as a whole or not at all, and continues to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pwm_sdk import ReplayBuffer, make_episode
from pwm_sdk.data.folder import FolderWriter, open_folder


def holding(number: float, steps: int = 4) -> ReplayBuffer:
    replay = ReplayBuffer(50, 3, 2, seed=0)
    replay.add(
        make_episode(torch.full((steps + 1, 1), number), torch.zeros(steps, 1), [0] * steps, 0)
    )
    return replay


def held(folder: Path) -> float:
    replay = ReplayBuffer(50, 3, 2)
    replay.load(folder)
    return replay.episodes()[0]["observation"][0, 0].item()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_saving_again_replaces_and_leaves_no_old_files(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    holding(1.0).save(folder)
    holding(2.0).save(folder)
    assert held(folder) == 2.0
    assert names(folder) == ["episodes-2.safetensors", "manifest.json", "rows-2.bin"]


@pytest.mark.parametrize("crash_at", [1, 2])
def test_a_crash_before_the_manifest_moves_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    holding(1.0).save(tmp_path)
    real, moves = Path.replace, []

    def crash(self: Path, target: Path) -> Path:
        moves.append(target)
        if len(moves) == crash_at:
            raise OSError("power cut")
        return real(self, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        patch.setattr(Path, "replace", crash)
        holding(2.0).save(tmp_path)
    assert held(tmp_path) == 1.0
    assert names(tmp_path) == ["episodes-1.safetensors", "manifest.json", "rows-1.bin"]
    holding(3.0).save(tmp_path)
    assert held(tmp_path) == 3.0
    assert len(names(tmp_path)) == 3


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    holding(1.0).save(tmp_path)
    (tmp_path / "rows-2.bin").write_bytes(b"x" * 999)
    (tmp_path / "episodes-7.safetensors").write_bytes(b"x")
    (tmp_path / "rows of mine.bin").write_bytes(b"x")
    assert held(tmp_path) == 1.0
    holding(2.0, steps=3).save(tmp_path)
    assert held(tmp_path) == 2.0
    assert names(tmp_path) == [
        "episodes-2.safetensors", "manifest.json", "rows of mine.bin", "rows-2.bin",
    ]  # fmt: skip


def test_rows_read_in_place_outlive_what_replaces_them(tmp_path: Path) -> None:
    holding(1.0).save(tmp_path)
    replay = ReplayBuffer.from_dataset(tmp_path, slice_len=3, batch_size=2)
    with pytest.raises(ValueError, match="replay must own its rows to take in episodes"):
        replay.extend(holding(1.0).episodes())
    holding(2.0).save(tmp_path)
    assert replay.sample()["observation"].unique().tolist() == [1.0]
    replay.save(tmp_path)  # over the folder it came from
    assert held(tmp_path) == 1.0


@pytest.mark.parametrize("copy", [False, True])
def test_an_empty_replay_opens_as_one(tmp_path: Path, copy: bool) -> None:
    ReplayBuffer(10, 2, 2).save(tmp_path)
    replay = ReplayBuffer.from_dataset(tmp_path, slice_len=3, batch_size=2, copy=copy)
    assert (len(replay), replay.tasks, replay.left_out) == (0, [], 0)
    replay.extend([make_episode(torch.zeros(3, 2), torch.zeros(2, 1), [0, 0], 0)])
    assert len(replay) == 3


def test_a_converted_dataset_loads_with_the_random_numbers_that_there_are(tmp_path: Path) -> None:
    source = holding(5.0)
    with FolderWriter(tmp_path) as writer:
        for one in source.episodes():
            writer.append(one, torch.tensor([len(one)]))
    assert names(tmp_path) == ["episodes.safetensors", "manifest.json", "rows.bin"]
    assert open_folder(tmp_path).generator is None
    replay = ReplayBuffer(50, 3, 2, seed=3)
    state = replay.generator.get_state()
    replay.load(tmp_path)
    assert torch.equal(replay.generator.get_state(), state)
    assert replay.episodes()[0]["observation"].unique().tolist() == [5.0]
    with pytest.raises(ValueError, match="path must not hold another kind of data"):
        source.save(tmp_path)


FOLDERS = Path(__file__).parent / "folders"
# Written by the versions of those days: five episodes left of seven in a ring that had turned,
# observations are (episode, row), and a batch had been drawn.
NEXT = [[[4, 3], [4, 4], [4, 5], [4, 6]], [[4, 0], [4, 1], [4, 2], [4, 3]],
        [[4, 2], [4, 3], [4, 4], [4, 5]], [[3, 1], [3, 2], [3, 3], [3, 4]]]  # fmt: skip


@pytest.mark.parametrize("name", ["replay-1", "replay-2", "dataset-2", "dataset-3"])
def test_folders_of_all_versions_open(name: str, tmp_path: Path) -> None:
    for copy in (False, True):
        replay = ReplayBuffer.from_dataset(FOLDERS / name, None, 4, 4, copy=copy, seed=0)
        found = replay.episodes()
        assert [int(e["observation"][0, 0]) for e in found] == [2, 3, 4, 5, 6]
        assert [len(e) for e in found] == [6, 10, 7, 5, 8]
        assert [int(e["real"].sum()) for e in found] == [6, 8, 7, 5, 6]
        for e in found:
            number, rows = e["observation"][1:][e["real"][1:, 0]].unbind(1)
            assert torch.equal(e["reward"][1:][e["real"][1:]], rows + number)
        assert replay.sample()["reward"].shape == (4, 3, 1)
        assert ReplayBuffer.from_dataset(FOLDERS / name, [1], 4, 4, copy=copy).tasks == [1]
    replay = ReplayBuffer(40, 4, 4, seed=5)
    replay.load(FOLDERS / name)
    if name.startswith("replay"):  # which continues where it was
        assert replay.sample()["observation"].tolist() == NEXT
    replay.save(tmp_path)
    again = ReplayBuffer(40, 4, 4)
    again.load(tmp_path)
    one, two = replay.sample(), again.sample()
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert json.loads((tmp_path / "manifest.json").read_text())["version"] == 3


def test_an_old_saved_folder_is_replaced_by_the_one_format(tmp_path: Path) -> None:
    for file in (FOLDERS / "replay-2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    replay = ReplayBuffer(40, 4, 4)
    replay.load(tmp_path)
    replay.save(tmp_path)
    assert names(tmp_path) == ["episodes-1.safetensors", "manifest.json", "rows-1.bin"]
    again = ReplayBuffer(40, 4, 4)
    again.load(tmp_path)
    assert again.sample()["observation"].tolist() == NEXT


def test_rows_that_were_signed_as_they_are_wrong_are_found_when_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = holding(1.0).episodes()[0]
    wrong["action"][2] = 9.0
    with monkeypatch.context() as patch:
        patch.setattr("pwm_sdk.data.folder.check_rows", lambda *args, **settings: None)
        with FolderWriter(tmp_path, replace=True) as writer:
            writer.append(wrong, torch.tensor([5]))
    replay = holding(2.0)
    for read in (replay.load, lambda f: ReplayBuffer.from_dataset(f, None, 3, 2, copy=True)):
        with pytest.raises(ValueError, match=r"action must lie in \[-1, 1\].* of episode 0 in '"):
            read(tmp_path)
    assert replay.sample()["observation"].unique().tolist() == [2.0]  # what was there stays
