"""Chunks of TD-MPC2: what is wrong with one is named, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pwm_sdk import (
    MT80,
    ReplayBuffer,
    Task,
    TaskSet,
    from_tdmpc2_chunks,
    make_episode,
    to_tdmpc2_chunks,
)

TASKS = TaskSet([Task("one", 0, "own", 3, 1, 4), Task("two", 1, "own", 2, 2, 6)])


def chunk(*tasks: int, steps: int = 4, first: float = 0.0) -> dict[str, Tensor]:
    """Episodes of random numbers; the first entry of every observation counts from `first`."""
    shape = (len(tasks), steps + 1)
    found = {
        "obs": torch.rand(*shape, 3),
        "action": torch.rand(*shape, 2),
        "reward": torch.rand(shape),
        "task": torch.tensor(tasks, dtype=torch.int32)[:, None].expand(shape).clone(),
    }
    found["obs"][..., 0] = first + torch.arange(shape[0] * shape[1]).reshape(shape)
    return found


def saved(folder: Path, **chunks: dict[str, Tensor]) -> list[Path]:
    """Write chunks by the names of their files."""
    folder.mkdir(exist_ok=True)
    for name, contents in chunks.items():
        torch.save(contents, folder / f"{name}.pt")
    return [folder / f"{name}.pt" for name in chunks]


def numbers(folder: Path) -> list[float]:
    """First number of every episode of a converted folder."""
    replay = ReplayBuffer.from_dataset(folder, slice_len=2, batch_size=1)
    return [float(episode["observation"][0, 0]) for episode in replay.iter_episodes()]


def test_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    chunks = {f"chunk_{i}": chunk(0, first=100.0 * i) for i in (2, 10, 1)}
    files = saved(tmp_path / "in", **chunks)
    for i, paths in enumerate((files, files[::-1], sorted(files), tmp_path / "in")):
        folder = from_tdmpc2_chunks(paths, tmp_path / f"out{i}", TASKS)
        assert numbers(folder) == [100.0, 200.0, 1000.0]


def test_one_file_and_episodes_of_another_length(tmp_path: Path) -> None:
    (file,) = saved(tmp_path, chunk_0=chunk(1, 0, steps=7))
    folder = from_tdmpc2_chunks(file, tmp_path / "out", TASKS, episode_length=7)
    assert numbers(folder) == [0.0, 8.0]


@pytest.mark.parametrize("filler", [torch.nan, 0.0, 1e30])
def test_row_0_is_dropped_by_position(tmp_path: Path, filler: float) -> None:
    contents = chunk(1, 0)
    contents["action"][:, 0] = filler
    contents["reward"][:, 0] = filler
    (file,) = saved(tmp_path, chunk_0=contents)
    replay = ReplayBuffer.from_dataset(
        from_tdmpc2_chunks(file, tmp_path / "out", TASKS), slice_len=5, batch_size=8
    )
    for i, episode in enumerate(replay.episodes()):
        assert episode["action"][0].isnan().all()
        assert episode["reward"][0].isnan().all()
        assert torch.equal(episode["reward"][1:, 0], contents["reward"][i, 1:])
    assert replay.sample()["action"].isfinite().all()


def spoil(name: str, index: tuple, value: float) -> Callable[[dict[str, Tensor]], None]:
    """Change one number."""

    def change(contents: dict[str, Tensor]) -> None:
        contents[name][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(chunk(0, 1, steps=3)), r"obs must be \[2, 5, 3\] for episodes"),
        (lambda c: c.pop("reward"), r"must have the entries \['reward'\], got \['obs', 'action'"),
        (lambda c: c.update(reward=c["reward"][..., None]), r"reward must be \[2, 5\]"),
        (lambda c: c.update(action=c["action"][..., :1]), r"action must be \[2, 5, 2\]"),
        (lambda c: c.update(task=c["task"][:1]), r"task must be \[2, 5\] .* got \[1, 5\]"),
        (lambda c: c.update({k: v[:0] for k, v in c.items()}), r"obs must be .* got \[0, 5, 3\]"),
        (lambda c: c.update(task=c["task"].float()), "task must hold integers, got torch.float32"),
        (lambda c: c.update(obs=c["obs"].long()), "obs must hold floating-point numbers"),
        (lambda c: c.update(task=3), "task must be a tensor, got <class 'int'>"),
        (spoil("task", (1,), 2), r"index of one of the 2 tasks, got 2 in episode 1"),
        (spoil("task", (0,), -1), r"index of one of the 2 tasks, got -1 in episode 0"),
        (spoil("task", (1, 3), 0), r"one number an episode, got \[0, 1\] in episode 1"),
        (spoil("obs", (1, 0, 2), torch.nan), "obs must be finite, got .* in row 0 of episode 1"),
        (spoil("reward", (1, 3), torch.nan), "reward must be finite, got nan in row 3 of episode"),
        (spoil("action", (0, 1, 1), torch.inf), "action must be finite, got .* in row 1 of episod"),
    ],
)
def test_bad_chunks_are_named(tmp_path: Path, change: Callable, message: str) -> None:
    bad = chunk(0, 1)
    change(bad)
    files = saved(tmp_path / "in", chunk_0=chunk(0, 1), chunk_1=bad)
    with pytest.raises(ValueError, match=message + r".* .*chunk_1\.pt"):
        from_tdmpc2_chunks(files, tmp_path / "out", TASKS)
    assert not list(tmp_path.glob("out/*"))


def test_truncated_missing_and_repeated_files_are_named(tmp_path: Path) -> None:
    (file,) = saved(tmp_path, chunk_0=chunk(0, 1))
    with pytest.raises(ValueError, match=r"paths must name each chunk once"):
        from_tdmpc2_chunks([file, tmp_path / "." / "chunk_0.pt"], tmp_path / "out", TASKS)
    with pytest.raises(FileNotFoundError, match=r"chunk_7\.pt"):
        from_tdmpc2_chunks([file, tmp_path / "chunk_7.pt"], tmp_path / "out", TASKS)
    with pytest.raises(ValueError, match="at least one chunk"):
        from_tdmpc2_chunks([], tmp_path / "out", TASKS)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"complete file .*chunk_0\.pt"):
        from_tdmpc2_chunks(file, tmp_path / "out", TASKS)


def test_chunks_of_other_contents_are_named(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "chunk_0.pt")
    with pytest.raises(ValueError, match=r"must have the entries .* got \['list'\]"):
        from_tdmpc2_chunks(tmp_path, tmp_path / "out", TASKS)
    (file,) = saved(tmp_path, chunk_1=chunk(0))
    with pytest.raises(ValueError, match=r"obs must be \[1, 101, 39\].*got \[1, 5, 3\]"):
        from_tdmpc2_chunks(file, tmp_path / "out", MT80)


def test_blocks_smaller_than_a_chunk_change_nothing(tmp_path: Path, monkeypatch) -> None:
    files = saved(tmp_path, chunk_0=chunk(0, 1, 1), chunk_1=chunk(1, 0, first=50.0))
    whole = from_tdmpc2_chunks(files, tmp_path / "whole", TASKS)
    monkeypatch.setattr("pwm_sdk.data.tdmpc2_files._BLOCK_ROWS", 10)  # two episodes
    pieces = from_tdmpc2_chunks(files, tmp_path / "pieces", TASKS)
    for name in ("rows.bin", "episodes.safetensors", "manifest.json"):
        assert (whole / name).read_bytes() == (pieces / name).read_bytes()
    torch.save({**chunk(0), "task": torch.full((1, 5), 9)}, files[1])
    with pytest.raises(ValueError, match=r"got 9 in episode 0 of .*chunk_1"):
        from_tdmpc2_chunks(files, tmp_path / "bad", TASKS)
    assert list((tmp_path / "bad").iterdir()) == []


def filled(terminated: bool = False, rows: int = 5) -> ReplayBuffer:
    """Three episodes of 5 rows, or the last of another length or with an end."""
    replay = ReplayBuffer(100, 2, 1)
    for task, length in ((0, 5), (1, 5), (0, rows)):
        steps = length - 1
        ends = [False] * (steps - 1) + [terminated] if task == 0 else None
        actions = torch.rand(steps, 2)
        replay.add(make_episode(torch.rand(length, 3), actions, torch.rand(steps), task, ends))
    return replay


def test_a_replay_as_chunks_and_back(tmp_path: Path) -> None:
    replay = filled()
    files = to_tdmpc2_chunks(replay, tmp_path / "chunks", chunk_episodes=2)
    shapes = [torch.load(file, weights_only=False).batch_size for file in files]
    assert shapes == [(2, 5), (1, 5)]
    folder = from_tdmpc2_chunks(tmp_path / "chunks", tmp_path / "data", TASKS)
    again = ReplayBuffer.from_dataset(folder, slice_len=2, batch_size=1)
    for left, right in zip(replay.episodes(), again.episodes(), strict=True):
        for name in ("observation", "action", "reward", "task", "terminated"):
            torch.testing.assert_close(left[name], right[name], rtol=0, atol=0, equal_nan=True)


def test_long_episodes_are_cut_into_pieces(tmp_path: Path) -> None:
    """Nine steps as pieces of four share the row between them; the ninth step is left out."""
    replay = ReplayBuffer(100, 2, 1)
    rewards = torch.arange(1.0, 10.0)
    replay.add(make_episode(torch.rand(10, 3), torch.rand(9, 2), rewards, 0))
    replay.add(make_episode(torch.rand(5, 3), torch.rand(4, 2), 10 * rewards[:4], 1))
    (file,) = to_tdmpc2_chunks(replay, tmp_path / "chunks", episode_length=4)
    written = torch.load(file, weights_only=False)
    assert written["reward"][:, 1:].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [10, 20, 30, 40]]
    assert written["reward"][:, 0].isnan().all() and written["action"][:, 0].isnan().all()
    assert written["task"][:, 0].tolist() == [0, 0, 1]
    long = next(iter(replay.episodes()))
    assert torch.equal(written["obs"][0, 4], written["obs"][1, 0])
    assert torch.equal(written["obs"][1], long["observation"][4:9])
    assert torch.equal(written["action"][1, 1:], long["action"][5:9])
    with pytest.raises(ValueError, match="at least episode_length 5 steps, got 4 in one of task 1"):
        to_tdmpc2_chunks(replay, tmp_path / "longer", episode_length=5)
    with pytest.raises(ValueError, match="episode_length must be at least 1, got 0"):
        to_tdmpc2_chunks(replay, tmp_path / "none", episode_length=0)


def test_some_tasks_as_chunks(tmp_path: Path) -> None:
    filled().save(tmp_path / "data")
    (file,) = to_tdmpc2_chunks(tmp_path / "data", tmp_path / "chunks", tasks=[TASKS["one"]])
    assert torch.load(file, weights_only=False)["task"].tolist() == [[0] * 5] * 2


def test_what_chunks_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one length in rows, got \[5, 6\]"):
        to_tdmpc2_chunks(filled(rows=6), tmp_path)
    with pytest.raises(ValueError, match="got a terminated step"):
        to_tdmpc2_chunks(filled(terminated=True), tmp_path)
    with pytest.raises(ValueError, match="source must hold at least one episode"):
        to_tdmpc2_chunks(filled(), tmp_path, tasks=[5])
    with pytest.raises(ValueError, match="chunk_episodes must be at least 1, got 0"):
        to_tdmpc2_chunks(filled(), tmp_path, chunk_episodes=0)
    to_tdmpc2_chunks(filled(), tmp_path)
    with pytest.raises(ValueError, match=r"out must be a folder without chunks, got .*chunk_0\.pt"):
        to_tdmpc2_chunks(filled(), tmp_path)


def test_an_export_that_fails_leaves_no_chunk(tmp_path: Path) -> None:
    replay = ReplayBuffer(100, 4, 4, seed=0)
    for end in (False, False, True):
        parts = torch.rand(7, 3), torch.rand(6, 2), torch.rand(6), 0
        replay.add(make_episode(*parts, [False] * 5 + [end], absorbing=2))
    with pytest.raises(ValueError, match="got a terminated step"):
        to_tdmpc2_chunks(replay, tmp_path / "out", chunk_episodes=1)
    assert list((tmp_path / "out").iterdir()) == []
