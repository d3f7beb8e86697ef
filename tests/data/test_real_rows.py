"""Absorbing rows are no data: they change no statistic, no start, no export, nothing to clone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pwm_sdk import (
    BehaviourCloning,
    ReplayBuffer,
    Task,
    TaskSet,
    from_tdmpc2_chunks,
    make_episode,
    to_tdmpc2_chunks,
)
from pwm_sdk.data.folder import FolderWriter
from pwm_sdk.data.minari_files import minari_episodes

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import guards
from quick import final

SLICE, ROWS = 4, 7  # of a window, and absorbing ones: more than it takes
LENGTHS = (6, 9, 4, 12, 5, 7, 8, 4, 10, 6)
TASK = Task("own", 0, "own", 2, 1, 4)


def episode(number: int, steps: int, absorbing: int, ends: bool) -> Any:
    """Observations tell episode and row, actions and rewards follow from them."""
    rows = torch.stack([torch.full((steps + 1,), float(number)), torch.arange(steps + 1.0)], 1)
    ended = [False] * (steps - 1) + [ends]
    actions, rewards = rows[:-1, 1:] / 20 + 0.1, rows[1:, 1] + number
    return make_episode(rows, actions, rewards, number % 2, ended, absorbing=absorbing)


def episodes(absorbing: int) -> list[Any]:
    """Nine that terminated, three in a row, among others that were cut."""
    return [episode(i, steps, absorbing, i % 4 != 1) for i, steps in enumerate(LENGTHS)]


def added(absorbing: int, **settings: Any) -> ReplayBuffer:
    replay = ReplayBuffer(**{"capacity": 400, "slice_len": SLICE, "batch_size": 8} | settings)
    for one in episodes(absorbing):
        replay.add(one)
    return replay


def extended(absorbing: int, folder: Path) -> ReplayBuffer:
    replay = ReplayBuffer(400, SLICE, 8, seed=0)
    replay.extend(episodes(absorbing))
    return replay


def evicted(absorbing: int, folder: Path) -> ReplayBuffer:
    """A ring that has turned and holds the last three episodes of `episodes` alone."""
    room = sum(len(one) for one in episodes(absorbing)[-3:])
    replay = ReplayBuffer(room, SLICE, 8, seed=0)
    for _ in range(3):
        for one in episodes(absorbing):
            replay.add(one)
    assert replay.num_episodes() == 3
    return replay


def in_state(absorbing: int, folder: Path) -> ReplayBuffer:
    replay = ReplayBuffer(400, SLICE, 8)
    replay.load_state_dict(added(absorbing, seed=0).state_dict())
    return replay


def loaded(absorbing: int, folder: Path) -> ReplayBuffer:
    added(absorbing, seed=0).save(folder / str(absorbing))
    replay = ReplayBuffer(400, SLICE, 8)
    replay.load(folder / str(absorbing))
    return replay


def opened(absorbing: int, folder: Path) -> ReplayBuffer:
    added(absorbing).save(folder / str(absorbing))
    return ReplayBuffer.from_dataset(folder / str(absorbing), None, SLICE, 8, seed=0)


def opened_tasks(absorbing: int, folder: Path) -> ReplayBuffer:
    added(absorbing).save(folder / str(absorbing))
    return ReplayBuffer.from_dataset(folder / str(absorbing), [1, 0], SLICE, 8, seed=0)


def older(absorbing: int, folder: Path) -> ReplayBuffer:
    """A folder of version 1, whose rows have no marks."""
    path, replay = folder / str(absorbing), added(absorbing, seed=0)
    path.mkdir(parents=True)
    state = replay.state_dict()
    del state["real_length"]
    save_file(state, path / "tensors-1.safetensors")
    counts = {str(task): replay.num_episodes(task) for task in replay.tasks}
    about = {"format": "pwm_sdk.replay", "version": 1, "rows": len(replay), "episodes": counts}
    (path / "manifest.json").write_text(json.dumps({**about, "tensors": "tensors-1.safetensors"}))
    return ReplayBuffer.from_dataset(path, None, SLICE, 8, seed=0)


def on_disk(absorbing: int, folder: Path, copy: bool = False) -> ReplayBuffer:
    with FolderWriter(folder / str(absorbing)) as writer:
        for one in episodes(absorbing):
            writer.append(one, torch.tensor([len(one)]))
    return ReplayBuffer.from_dataset(folder / str(absorbing), None, SLICE, 8, copy=copy, seed=0)


def copied(absorbing: int, folder: Path) -> ReplayBuffer:
    return on_disk(absorbing, folder, copy=True)


def merged(absorbing: int, folder: Path) -> ReplayBuffer:
    """Episodes of one replay added to another, as they come out."""
    replay = ReplayBuffer(400, SLICE, 8, seed=0)
    for one in added(absorbing).episodes():
        replay.add(one)
    return replay


WAYS = [
    lambda absorbing, folder: added(absorbing, seed=0),
    extended, evicted, in_state, loaded, opened, opened_tasks, older, on_disk, copied, merged,
]  # fmt: skip
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: getattr(way, "__name__", "way"))


def readings(replay: ReplayBuffer) -> Iterator[tuple[str, Tensor]]:
    """What every public reader but windows finds."""
    for task in replay.tasks:
        yield "episodes", torch.tensor(replay.num_episodes(task))
        for name, value in replay.statistics(task).items():
            yield f"{name} of {task}", value
    starts = replay.sample_starts(replay.tasks, 500)
    many, one = replay.starts([0, 1], 500, seeds=[0, 1]), replay.starts(0, 500, seeds=3)
    for source, batch in (("rows", starts), ("starts", many.sample()), ("alone", one.sample())):
        yield from ((f"{name} of {source}", value) for name, value in sorted(batch.items()))
    for found in minari_episodes(replay.iter_episodes(0), TASK):
        yield from ((f"minari's {name}", torch.from_numpy(v)) for name, v in found.items())


@each_way
def test_absorbing_rows_change_nothing_that_is_read(way: Callable, tmp_path: Path) -> None:
    without, having = readings(way(0, tmp_path)), readings(way(ROWS, tmp_path))
    for (name, one), (other, two) in zip(without, having, strict=True):
        assert name == other
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True, msg=name)


@each_way
def test_windows_show_ends_at_every_step_and_say_which_steps_are_real(
    way: Callable, tmp_path: Path
) -> None:
    batch = way(ROWS, tmp_path).sample(3000)
    real, ended = batch["real"][..., 0], batch["terminated"][..., 0]
    assert real.shape == (3000, SLICE - 1)
    assert real[:, 0].all()  # no window begins where an episode is over
    assert bool((real.int().diff(dim=1) <= 0).all())
    for step in range(SLICE - 1):  # the end is the last real step, and nothing happens after it
        first = ended[:, step] & real[:, step]
        assert first.any()
        assert not real[first, step + 1 :].any()
        assert ended[first, step:].all()
    moved = batch["observation"].diff(dim=1).abs().sum(-1) > 0
    assert torch.equal(moved, real)
    assert (batch["reward"][..., 0] != 0).equal(real)


@each_way
def test_starts_have_the_action_that_was_taken_there(way: Callable, tmp_path: Path) -> None:
    replay = way(ROWS, tmp_path)
    for batch in (replay.sample_starts([0, 1], 500), replay.starts([0, 1], 500, [0, 1]).sample()):
        number, row = batch["observation"].unbind(-1)
        steps = torch.tensor(LENGTHS)[number.long()]
        real = batch["real"][..., 0]
        assert torch.equal(real, row < steps)
        assert bool((number[~real] % 4 == 1).all())  # where an episode was cut, no action is known
        expected = torch.where(real, row / 20 + 0.1, 0.0)
        torch.testing.assert_close(batch["action"][..., 0], expected)


def test_what_is_cloned_is_the_same(tmp_path: Path) -> None:
    """Windows of both replays that begin at the same rows have the same pairs to clone."""
    losses = []
    for absorbing in (SLICE - 2, 0):
        torch.manual_seed(0)
        cloning = BehaviourCloning(nn.Linear(2, 1))
        replay = ReplayBuffer(100, SLICE, 1, seed=0)
        replay.add(episode(0, SLICE - 1, absorbing, ends=True))
        seen: dict[float, float] = {}
        for _ in range(20):
            batch = replay.sample()
            taken = batch["real"][0, :, 0].sum()
            whole = batch.exclude("real")
            whole["observation"] = batch["observation"][:, : taken + 1]
            whole["action"] = batch["action"][:, :taken]
            first = float(batch["observation"][0, 0, 1])
            cloning = BehaviourCloning(nn.Linear(2, 1))
            state = {k: v.clone() for k, v in cloning.actor.state_dict().items()}
            marked = cloning.update(batch)["loss"]
            cloning.actor.load_state_dict(state)
            torch.testing.assert_close(marked, cloning.update(whole)["loss"])
            seen[first] = float(marked)
        losses.append(set(seen))
    assert losses == [{0.0, 1.0, 2.0}, {0.0}]


def test_pairs_of_the_benchmarks_are_real() -> None:
    found = []
    for absorbing in (0, ROWS):
        data = added(absorbing).episodes()
        found.append(final._pairs(data, 200, np.random.default_rng(0)) + guards._pairs(data))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_chunks_are_the_same(tmp_path: Path) -> None:
    tasks = TaskSet([TASK, Task("two", 1, "own", 2, 1, 4)])
    for absorbing in (0, ROWS):
        replay = ReplayBuffer(400, SLICE, 8, seed=0)
        replay.extend(episode(i, steps, absorbing, False) for i, steps in enumerate(LENGTHS))
        replay.add(episode(2, 9, absorbing, True))  # ends in the step that is left over
        to_tdmpc2_chunks(replay, tmp_path / f"in{absorbing}", episode_length=4)
        from_tdmpc2_chunks(tmp_path / f"in{absorbing}", tmp_path / f"out{absorbing}", tasks)
    for name in ("rows.bin", "episodes.safetensors"):
        one, two = (tmp_path / f"out{absorbing}" / name for absorbing in (0, ROWS))
        assert one.read_bytes() == two.read_bytes()


def test_episodes_come_out_as_they_went_in(tmp_path: Path) -> None:
    for way in WAYS:
        if way is evicted:
            continue
        found = way(ROWS, tmp_path / way.__name__).episodes()
        for one, two in zip(episodes(ROWS), found, strict=True):
            for name, value in one.items():
                torch.testing.assert_close(value, two[name], rtol=0, atol=0, equal_nan=True)


def test_a_long_window_of_a_short_episode_has_one_start() -> None:
    replay = ReplayBuffer(100, 6, 4, seed=0)
    replay.add(episode(0, 2, 4, ends=True))
    assert replay.starts(0, 50, 0).sample()["observation"][:, 1].unique().tolist() == [0.0]
    rows = replay.sample_starts([0], 200)["observation"][0, :, 1]
    assert rows.unique().tolist() == [0.0, 1.0]  # not where it ended


@pytest.mark.parametrize("at", [0, 2])
def test_an_episode_that_goes_on_after_an_end_is_refused(at: int, tmp_path: Path) -> None:
    ended = [False] * 5
    ended[at] = True
    parts = torch.rand(6, 2), torch.rand(5, 1), torch.rand(5), 0
    message = f"terminated must be true at the last step only, got an end at step {at}"
    with pytest.raises(ValueError, match=f"{message} and {4 - at} steps after it"):
        make_episode(*parts, ended)
    wrong = make_episode(*parts)
    wrong["terminated"][at + 1] = True
    replay = ReplayBuffer(100, 3, 2)
    with pytest.raises(ValueError, match=message):
        replay.add(wrong)
    with pytest.raises(ValueError, match=f"{message} of episode 1"):
        replay.extend([make_episode(*parts), wrong])
    assert len(replay) == 0
    replay.add(make_episode(*parts))
    state = replay.state_dict()
    state["terminated"][at + 1] = True
    with pytest.raises(ValueError, match=message):
        replay.load_state_dict(state)
    with pytest.raises(ValueError, match=message), FolderWriter(tmp_path) as writer:
        writer.append(wrong, torch.tensor([6]))
    del state["real_length"]  # as in older files, where the rows after an end must be copies of it
    with pytest.raises(ValueError, match="must stay where the episode terminated"):
        replay.load_state_dict(state)
    assert replay.num_episodes() == 1
