"""A dataset folder: complete or not there, read in place or copied, and small in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tensordict import TensorDict

from pwm_sdk import ReplayBuffer, make_episode
from pwm_sdk.data.folder import FolderWriter, open_folder
from pwm_sdk.data.storage import record_type

ENTRIES = {"observation": (39,), "action": (6,), "reward": (1,), "terminated": (1,), "task": ()}
TYPES = {"terminated": "bool", "task": "int64"}


def numbered(first: int, rows: int, task: int) -> TensorDict:
    count = first + torch.arange(float(rows))[:, None]
    return make_episode(count, count[1:] / 1e4, 10 * count[1:], task)


def written(folder: Path) -> Path:
    """Rows 0..9 of task 3, 20..24 of task 1 and 40..49 of task 3, in two blocks."""
    first, second, third = numbered(0, 10, 3), numbered(20, 5, 1), numbered(40, 10, 3)
    with FolderWriter(folder) as writer:
        writer.append(torch.cat([first, second]), torch.tensor([10, 5]))
        writer.append(third, torch.tensor([10]))
    return folder


def test_blocks_come_back_as_episodes(tmp_path: Path) -> None:
    stored, episodes, _ = open_folder(written(tmp_path))
    rows = stored.between(0, 25)
    assert episodes.tolist() == [[0, 10, 3, 10, 10], [10, 5, 1, 5, 5], [15, 10, 3, 10, 10]]
    assert rows["observation"].flatten().tolist() == [*range(10), *range(20, 25), *range(40, 50)]
    assert rows["task"].dtype == torch.int64
    assert json.loads((tmp_path / "manifest.json").read_text())["episodes"] == {"1": 1, "3": 2}
    assert open_folder(tmp_path).of_tasks([3]).episodes[:, :3].tolist() == [[0, 10, 3], [15, 10, 3]]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("copy", [False, True])
def test_a_replay_samples_the_tasks_asked_for(tmp_path: Path, copy: bool) -> None:
    folder = written(tmp_path)
    replay = ReplayBuffer.from_dataset(folder, [3], 4, 2, copy=copy, seed=0, recent=0.5)
    assert (len(replay), replay.tasks, replay.num_episodes()) == (20, [3], 2)
    batch = replay.sample(500)
    observation = batch["observation"][..., 0]
    assert (observation.diff(dim=1) == 1).all()
    assert torch.equal(batch["reward"][..., 0], observation[:, 1:] * 10)
    assert set(observation[:, 0].tolist()) == {*range(7), *range(40, 47)}
    assert set(replay.sample_starts([3], 500)["observation"].flatten().tolist()) == {
        *range(10),
        *range(40, 50),
    }
    assert replay.statistics(3)["observation_mean"].item() == pytest.approx(24.5)
    assert [e["observation"][0].item() for e in replay.episodes(3)] == [0, 40]


def test_rows_on_the_disk_and_copied_ones_give_the_same_batches(tmp_path: Path) -> None:
    folder = written(tmp_path)
    left, right = (
        ReplayBuffer.from_dataset(folder, None, 4, 2, copy=copy, seed=1) for copy in (True, False)
    )
    for _ in range(3):
        one, other = left.sample(), right.sample()
        assert all(torch.equal(one[name], other[name]) for name in one.keys())  # noqa: SIM118


def test_rows_on_the_disk_take_in_nothing_and_copied_ones_do(tmp_path: Path) -> None:
    folder = written(tmp_path)
    stored = ReplayBuffer.from_dataset(folder, None, 4, 2)
    with pytest.raises(ValueError, match="replay must own its rows to take in episodes"):
        stored.add(numbered(0, 5, 0))
    with pytest.raises(ValueError, match="replay must own its rows"):
        stored.load_state_dict(stored.state_dict())
    with pytest.raises(ValueError, match="capacity must be left out without copy=True, got 30"):
        ReplayBuffer.from_dataset(folder, None, 4, 2, capacity=30)
    copied = ReplayBuffer.from_dataset(folder, None, 4, 2, copy=True, capacity=30)
    copied.add(numbered(100, 5, 0))
    assert copied.num_episodes() == 4
    with pytest.raises(ValueError, match="capacity must hold 25 rows, got 20"):
        ReplayBuffer.from_dataset(folder, None, 4, 2, copy=True, capacity=20)


def test_writing_into_episodes_changes_no_file(tmp_path: Path) -> None:
    replay = ReplayBuffer.from_dataset(written(tmp_path), None, 4, 2)
    replay.episodes()[0]["observation"][:] = 7.0
    assert open_folder(tmp_path).rows.between(0, 1)["observation"].item() == 0.0


def test_a_replay_of_a_dataset_can_be_saved_as_its_own(tmp_path: Path) -> None:
    ReplayBuffer.from_dataset(written(tmp_path / "a"), [1], 4, 2).save(tmp_path / "b")
    assert len(ReplayBuffer.from_dataset(tmp_path / "b", None, 4, 2)) == 5
    with pytest.raises(ValueError, match="must not hold another kind of data"):
        ReplayBuffer.from_dataset(tmp_path / "b", None, 4, 2).save(tmp_path / "a")


def test_an_interrupted_folder_does_not_open_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="power cut"), FolderWriter(tmp_path) as writer:
        writer.append(numbered(0, 5, 0), torch.tensor([5]))
        raise OSError("power cut")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        ReplayBuffer.from_dataset(tmp_path)


def test_a_folder_with_data_is_not_overwritten(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(ValueError, match="out must be a folder without data"):
        FolderWriter(tmp_path)
    assert len(open_folder(tmp_path).episodes) == 3


def test_two_writers_do_not_mix_and_none_writes_into_finished_data(tmp_path: Path) -> None:
    block = numbered(0, 5, 0), torch.tensor([5])
    first, second = FolderWriter(tmp_path), FolderWriter(tmp_path)
    with pytest.raises(ValueError, match="writer must be used in a with block"):
        first.append(*block)
    with first:
        first.append(*block)
        with pytest.raises(ValueError, match="must have one writer at a time"), second:
            pass
        first.append(*block)
    before = (tmp_path / "rows.bin").read_bytes()
    for late in (first, second):
        with pytest.raises(ValueError, match="out must be a folder without data"), late:
            pass
    assert (tmp_path / "rows.bin").read_bytes() == before
    assert len(open_folder(tmp_path, verify=True).episodes) == 2


def test_a_relative_folder_stays_where_it_was_begun(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with FolderWriter("data") as writer:
        monkeypatch.chdir(tmp_path / "elsewhere")
        writer.append(numbered(0, 5, 0), torch.tensor([5]))
    assert len(open_folder(tmp_path / "data").episodes) == 1


def test_bad_blocks_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one episode"), FolderWriter(tmp_path):
        pass
    rows, length = numbered(0, 5, 0), torch.tensor([5])
    with FolderWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match="rows must have the entries"):
            writer.append(rows.exclude("task"), length)
        writer.append(rows, length)
        wide = make_episode(torch.zeros(5, 2), torch.zeros(4, 1), torch.zeros(4), 0)
        with pytest.raises(ValueError, match="rows must be laid out as"):
            writer.append(wide, length)
    assert len(open_folder(tmp_path).episodes) == 1


def damage(folder: Path, kind: str) -> None:
    """Spoil a folder."""
    manifest = folder / "manifest.json"
    about = json.loads(manifest.read_text())
    if kind == "cut":
        os.truncate(folder / "rows.bin", 10)
    elif kind == "gone":
        (folder / "rows.bin").unlink()
    elif kind == "index cut":
        os.truncate(folder / "episodes.safetensors", 10)
    elif kind == "index":
        index = {"length": torch.tensor([24]), "task": torch.tensor([0])}
        save_file(index, folder / "episodes.safetensors")
    elif kind in ("1", "99"):
        manifest.write_text(json.dumps({**about, "version": int(kind)}))
    elif kind == "old":
        manifest.write_text(json.dumps({**about, "format": "pwm_sdk.dataset", "version": 1}))
    elif kind == "number":
        manifest.write_text(json.dumps({**about, "number": "1/../.."}))
    elif kind == "dtype":
        about["entries"]["task"]["dtype"] = "load"
        manifest.write_text(json.dumps(about))
    elif kind == "entry":
        about["entries"]["../x"] = about["entries"].pop("task")
        manifest.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", r"rows\.bin must have 600 bytes, got 10 "),
        ("gone", r"rows\.bin must have 600 bytes, got 0 "),
        ("index cut", r"undamaged episodes\.safetensors"),
        ("index", r"episodes\.safetensors must describe 25 rows, got 24"),
        ("1", "version <= 3, got 'pwm_sdk.episodes' version 1"),
        ("old", "version <= 3, got 'pwm_sdk.dataset' version 1 in .*: convert its chunks again"),
        ("99", "version <= 3, got 'pwm_sdk.episodes' version 99"),
        (
            "number",
            r"number of manifest\.json must be .*, got '1/\.\./\.\.' in .*manifest\.json",
        ),
        ("dtype", "dtype of task must be 'int64', got"),
        ("entry", "entries must be"),
    ],
)
def test_damaged_folders_are_named(tmp_path: Path, kind: str, message: str) -> None:
    damage(written(tmp_path), kind)
    with pytest.raises(ValueError, match=message):
        ReplayBuffer.from_dataset(tmp_path, None, 4, 2)


def test_short_episodes_and_strange_tasks_are_named(tmp_path: Path) -> None:
    written(tmp_path)
    for copy in (False, True):
        longer = ReplayBuffer.from_dataset(tmp_path, slice_len=6, copy=copy)
        assert (longer.num_episodes(), longer.left_out) == (2, 1)  # one has five rows
    with pytest.raises(ValueError, match=r"slice_len=11 rows, got 5 \(3 of 3 are too short\)"):
        ReplayBuffer.from_dataset(tmp_path, slice_len=11)
    with pytest.raises(ValueError, match=r"tasks must be among \[1, 3\], got \[0\]"):
        ReplayBuffer.from_dataset(tmp_path, [0], 4)


def own_memory() -> int:
    """Bytes of this process that are not pages of files."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in x)
    return 1024 * int(line.split()[1])


def test_gigabytes_are_sampled_in_little_memory(tmp_path: Path) -> None:
    episodes, length = 50_000, 101  # about 1 GB, all holes, so no disk is taken
    entries = {
        name: {"dtype": TYPES.get(name, "float32"), "shape": list(shape)}
        for name, shape in ENTRIES.items()
    }
    with (tmp_path / "rows.bin").open("wb") as file:
        file.truncate(record_type(entries).itemsize * episodes * length)
    index = {"length": torch.full((episodes,), length), "task": torch.arange(episodes) % 80}
    save_file(index, tmp_path / "episodes.safetensors")
    about = {"format": "pwm_sdk.dataset", "version": 2, "rows": episodes * length}
    (tmp_path / "manifest.json").write_text(json.dumps({**about, "entries": entries}))
    before = own_memory()
    replay = ReplayBuffer.from_dataset(tmp_path, range(80), 17, 128)
    assert len(replay) == episodes * length
    for _ in range(5):
        assert replay.sample()["observation"].shape == (128, 17, 39)
    assert own_memory() - before < 64e6
