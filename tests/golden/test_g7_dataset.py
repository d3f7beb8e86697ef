"""Published dataset chunks: their windows, their round trip, whatever the order of the files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from vectors import load, path

from pwm_sdk import MT80, ReplayBuffer, from_tdmpc2_chunks, to_tdmpc2_chunks

FILES = [path(f"g7_chunk_{i}.pt") for i in (0, 1)]
PLAIN = [path(f"g7_chunk_{i}_plain.pt") for i in (0, 1)]
EXPECTED = load("g7_dataset_expected.npz")
HORIZON = int(EXPECTED["cfg/horizon"])


def opened(folder: Path, **settings) -> ReplayBuffer:
    return ReplayBuffer.from_dataset(folder, slice_len=HORIZON + 1, batch_size=64, **settings)


def windows(replay: ReplayBuffer, batch: int) -> dict[str, Tensor]:
    """The windows that a published batch was cut from, time first."""
    episodes = replay.episodes()
    pairs = zip(EXPECTED[f"in/{batch}/episode"], EXPECTED[f"in/{batch}/start"], strict=True)
    rows = torch.stack([episodes[e][int(s) : int(s) + HORIZON + 1] for e, s in pairs], dim=1)
    return {
        "obs": rows["observation"],
        "action": rows["action"][1:],
        "reward": rows["reward"][1:],
        "task": rows["task"][0],
    }


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("files", [FILES, PLAIN, FILES[::-1]], ids=["pickled", "plain", "reversed"])
def test_windows_of_the_published_batches(tmp_path: Path, files: list[Path], copy: bool) -> None:
    replay = opened(from_tdmpc2_chunks(files, tmp_path / "data", MT80), copy=copy)
    assert replay.num_episodes() == int(EXPECTED["out/num_episodes"])
    for batch in range(sum(key.endswith("/episode") for key in EXPECTED)):
        for name, value in windows(replay, batch).items():
            assert torch.equal(value, EXPECTED[f"out/{batch}/{name}"].to(value.dtype)), name


def test_sampled_windows_are_rows_of_the_chunks_without_row_0(tmp_path: Path) -> None:
    replay = opened(from_tdmpc2_chunks(FILES, tmp_path, MT80), seed=0)
    chunks = [torch.load(file, weights_only=True) for file in PLAIN]
    joined = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
    batch = replay.sample(1000)
    same = (joined["obs"].flatten(0, 1) == batch["observation"][:, :1]).all(-1)
    rows = same.int().argmax(1)  # where in the chunks each window starts
    assert same.any(1).all()
    steps = rows[:, None] + torch.arange(1, HORIZON + 1)
    assert torch.equal(batch["action"], joined["action"].flatten(0, 1)[steps])
    assert torch.equal(batch["reward"][..., 0], joined["reward"].flatten()[steps])
    assert torch.equal(batch["task"], joined["task"].flatten()[rows].long())
    length = joined["obs"].shape[1]
    assert set((rows % length).tolist()) == set(range(length - HORIZON))  # from 0 to T - H


def test_one_task_of_several(tmp_path: Path) -> None:
    folder = from_tdmpc2_chunks(FILES, tmp_path, MT80)
    tasks = [int(t) for f in PLAIN for t in torch.load(f, weights_only=True)["task"][:, 0]]
    replay = opened(folder, tasks=[MT80[tasks[0]]])
    assert replay.tasks == [tasks[0]]
    assert replay.num_episodes() == tasks.count(tasks[0])
    assert set(replay.sample()["task"].tolist()) == {tasks[0]}


def test_chunk_to_store_to_chunk_is_the_same(tmp_path: Path) -> None:
    folder = from_tdmpc2_chunks(FILES, tmp_path / "data", MT80)
    count = len(torch.load(PLAIN[0], weights_only=True)["task"])
    written = to_tdmpc2_chunks(folder, tmp_path / "chunks", chunk_episodes=count)
    assert [file.name for file in written] == ["chunk_0.pt", "chunk_1.pt"]
    for file, plain in zip(written, PLAIN, strict=True):
        ours, theirs = torch.load(file, weights_only=False), torch.load(plain, weights_only=True)
        assert ours.batch_size == theirs["reward"].shape
        assert set(ours.keys()) == set(theirs)
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype
            assert torch.equal(ours[name][:, 1:], value[:, 1:])
        assert torch.equal(ours["obs"], theirs["obs"])
        assert ours["action"][:, 0].isnan().all()  # whatever stood there
        assert ours["reward"][:, 0].isnan().all()
    again = from_tdmpc2_chunks(tmp_path / "chunks", tmp_path / "again", MT80)
    assert (again / "rows.bin").read_bytes() == (folder / "rows.bin").read_bytes()
