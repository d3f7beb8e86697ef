"""Replays as objects: arrays in, whole lists, pickles, workers, other default devices and types."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch.utils.data import DataLoader, IterableDataset

from pwm_sdk import MT80, Prefetcher, ReplayBuffer, make_episode
from pwm_sdk.data.folder import FolderWriter, open_folder


def episode(first: int, steps: int, task: int = 0, ends: bool = False) -> TensorDict:
    rows = first + np.arange(steps + 1.0)[:, None]
    ended = [False] * (steps - 1) + [ends]
    return make_episode(rows, rows[1:] / 1e4, rows[1:], task, ended, absorbing=2)


def filled(capacity: int = 60) -> ReplayBuffer:
    """A ring that has turned, with episodes that ended and others that did not."""
    replay = ReplayBuffer(capacity, 4, 6, seed=0, recent=0.5)
    for i in range(12):
        replay.add(episode(100 * i, 4 + i % 5, i % 2, ends=i % 3 == 0))
    return replay


def on_disk(folder: Path) -> ReplayBuffer:
    with FolderWriter(folder) as writer:
        for one in filled().episodes():
            writer.append(one, torch.tensor([len(one)], device="cpu"))
    return ReplayBuffer.from_dataset(folder, None, 4, 6, seed=0)


def make(kind: str, folder: Path) -> Any:
    replay = on_disk(folder / "data") if kind.startswith("disk") else filled()
    if kind.endswith("starts"):
        return replay.starts([0, 1], 5, [3, 4])
    return Prefetcher(replay, depth=2) if kind.endswith("ahead") else replay


KINDS = [
    f"{place} {what}" for place in ("memory", "disk") for what in ("windows", "starts", "ahead")
]
WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda source: pickle.loads(pickle.dumps(source))}


def same(left: TensorDict, right: TensorDict) -> bool:
    return left.keys() == right.keys() and bool((left == right).all())


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_continue_to_the_bit(kind: str, way: Callable, tmp_path: Path) -> None:
    source = make(kind, tmp_path)
    source.sample()
    other = way(source)
    for _ in range(3):
        assert same(source.sample(), other.sample())
    for one in (source, other):
        getattr(one, "close", lambda: None)()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_copy_takes_in_episodes_of_its_own(way: Callable) -> None:
    replay = filled()
    other, starts = way((replay, replay.starts(1, 5, 0)))[0], way(replay.starts(1, 5, 0))
    before = [one.clone() for one in replay.episodes()]
    other.add(episode(5000, 30, task=1))
    assert [len(e) for e in before] == [len(e) for e in replay.episodes()]
    assert all(
        torch.equal(a["observation"], b["observation"])
        for a, b in zip(before, replay.episodes(), strict=True)
    )
    assert starts.sample().shape == (5,)
    replay.add(episode(5000, 30, task=1))
    assert same(replay.sample(), other.sample())  # both rings turn alike


def test_starts_and_replay_stay_together_in_one_pickle() -> None:
    replay = filled()
    replay, starts = pickle.loads(pickle.dumps((replay, replay.starts(1, 400, 0))))
    replay.add(episode(7000, 20, task=1))
    assert (starts.sample()["observation"] >= 7000).any()


def test_a_pickle_of_rows_on_the_disk_finds_them_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    on_disk(Path("data"))
    replay = ReplayBuffer.from_dataset("data", None, 4, 6, seed=0)
    kept, rows = pickle.dumps(replay), pickle.dumps(open_folder("data"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert same(pickle.loads(kept).sample(), replay.sample())
    assert len(pickle.loads(rows).episodes) == replay.num_episodes()


def test_home_folders_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    filled().save("~/kept")
    assert len(ReplayBuffer.from_dataset("~/kept", None, 4, 6)) == len(filled())
    with FolderWriter("~/rows") as writer:
        writer.append(episode(0, 4), torch.tensor([5]))
    assert len(ReplayBuffer.from_dataset("~/rows", None, 4, 6)) == 5
    assert sorted(os.listdir(tmp_path)) == ["kept", "rows"]


class Batches(IterableDataset):
    """What a user writes around a source of batches."""

    def __init__(self, source: Any, count: int) -> None:
        self.source, self.count = source, count

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self.source.sample()["observation"].clone() for _ in range(self.count))


@pytest.mark.parametrize("kind", ["memory windows", "disk starts"])
@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_draw_different_batches(kind: str, context: str, tmp_path: Path) -> None:
    source = make(kind, tmp_path)
    inside = make(kind, tmp_path / "again").sample()["observation"]

    def run(seed: int) -> list[torch.Tensor]:
        loader = DataLoader(
            Batches(source, 2),
            batch_size=None,
            num_workers=2,
            multiprocessing_context=context,
            generator=torch.Generator().manual_seed(seed),
        )
        return list(loader)

    first = run(0)
    assert len({tuple(batch.flatten().tolist()) for batch in [*first, inside]}) == 5
    if context == "fork":  # the same again with the same seed, others with another one
        assert all(torch.equal(a, b) for a, b in zip(first, run(0), strict=True))
        assert not torch.equal(first[0], run(1)[0])
    assert torch.equal(source.sample()["observation"], inside)  # here nothing has been drawn


def test_many_at_once_are_as_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    lengths = [rng.integers(3, 12, rng.integers(1, 9)).tolist() for _ in range(30)]
    left, right = (ReplayBuffer(60, 4, 6, seed=0, recent=0.3) for _ in range(2))
    for number, steps in enumerate(lengths):
        made = [episode(100 * number + i, n, i % 2, i % 3 == 0) for i, n in enumerate(steps)]
        left.extend(iter(made))
        for one in made:
            right.add(one)
        assert [len(e) for e in left.episodes()] == [len(e) for e in right.episodes()]
        assert same(left.sample(), right.sample())
        assert same(left.sample_starts([0], 9), right.sample_starts([0], 9))
    left.extend([])
    assert len(left) == len(right)


def test_one_bad_episode_keeps_all_out() -> None:
    replay, good = ReplayBuffer(60, 4, 6), episode(0, 5)
    bad = good.clone()
    bad["reward"][2] = torch.nan
    for wrong, message in (
        (bad, "reward must be finite, got .*nan.* in row 2 of episode 1"),
        (episode(0, 2), "slice_len=4 rows, got 3 .* in episode 1"),
        (episode(0, 80), "capacity must hold 81 rows, got 60 in episode 1"),
        ({"observation": 1}, "must have the entries .* in episode 1"),
        (make_episode(torch.zeros(6, 2), torch.zeros(5, 1), torch.zeros(5), 0), "one size in all"),
    ):
        with pytest.raises(ValueError, match=message):
            replay.extend([good, wrong])
    assert len(replay) == 0


def test_one_write_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from pwm_sdk.data import ring

    writes, write = [], ring._write_round
    monkeypatch.setattr(ring, "_write_round", lambda *args: writes.append(1) or write(*args))
    ReplayBuffer(500, 4, 6).extend(episode(i, 5) for i in range(40))
    assert len(writes) == 5  # one for each entry of a row


def arrays(kind: str) -> dict[str, Any]:
    """The same episode, in what a user may have at hand."""
    made = {key: value.numpy().copy() for key, value in episode(0, 5).items()}
    made["task"] = {"float64": np.int64(0), "lists": 0, "task": MT80[0]}.get(kind, made["task"])
    if kind == "float64":
        made |= {key: made[key].astype(np.float64) for key in ("observation", "action", "reward")}
    if kind == "read-only":
        for value in made.values():
            value.setflags(write=False)
    if kind == "lists":
        made |= {key: list(made[key]) for key in ("observation", "action", "reward")}
        made |= {key: made[key].tolist() for key in ("terminated", "real")}
    return made


@pytest.mark.parametrize("kind", ["arrays", "float64", "read-only", "lists", "task"])
def test_arrays_and_lists_are_taken_and_copied(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given, replay = arrays(kind), ReplayBuffer(60, 4, 6, seed=0)
        replay.add(given)
        replay.extend([arrays(kind)])
    expected = episode(0, 5)
    for value in given.values():
        if isinstance(value, np.ndarray) and value.flags.writeable:
            value[...] = 1
    for found in replay.episodes():
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, equal_nan=True)


@pytest.mark.parametrize("kind", ["tensors", "arrays", "read-only", "lists", "nested"])
def test_make_episode_copies_whatever_it_is_given(kind: str) -> None:
    def wrap(values: Any, dtype: Any) -> Any:
        array = np.asarray(values, dtype)
        if kind == "tensors":
            return torch.from_numpy(array)
        if kind == "read-only":
            array.setflags(write=False)
        return {"lists": list(array), "nested": array.tolist()}.get(kind, array)

    parts = [
        wrap([[0, 1], [2, 3], [4, 5]], np.float32), wrap([[0.5], [-0.5]], np.float32),
        wrap([1, 2], np.float32), 3, wrap([False, True], bool),
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = make_episode(*parts)
    for part in parts:
        if kind in ("tensors", "arrays") and not isinstance(part, int):
            part[...] = 1
    assert made["observation"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert made["action"][1:].tolist() == [[0.5], [-0.5]]
    assert made["reward"][1:].tolist() == [[1], [2]]
    assert made["terminated"].tolist() == [[False], [False], [True]]


@pytest.mark.parametrize("wrong", [None, "text", [[1], [1, 2]], object(), 1j, [["a"], ["b"]], {}])
@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "terminated"])
def test_anything_else_is_named(name: str, wrong: Any) -> None:
    parts = {"observations": np.zeros((3, 1)), "actions": np.zeros((2, 1)), "rewards": [0, 0]}
    if name == "terminated" and wrong is None:
        return  # where no step did
    with pytest.raises(ValueError, match=rf"{name} must "):
        make_episode(**{**parts, "task": 0, name: wrong})
    key = {"terminated": "terminated"}.get(name, name[:-1])
    with pytest.raises(ValueError, match=rf"{key} must "):
        ReplayBuffer(10, 2, 1).add({**make_episode(**parts, task=0), key: wrong})


def test_tensors_move_to_the_replays_device() -> None:
    replay = ReplayBuffer(60, 4, 6, device="meta")
    replay.add(episode(0, 5))
    replay.extend([episode(0, 5), episode(0, 6, ends=True)])
    assert replay.num_episodes() == 3
    batch = replay.sample()
    assert {value.device.type for value in batch.values()} == {"meta"}
    assert replay.sample_starts([0], 3)["action"].shape == (1, 3, 1)
    assert replay.starts(0, 3, 0).sample()["observation"].device.type == "meta"


@pytest.mark.parametrize("way", ["device", "dtype"])
def test_defaults_of_torch_change_nothing(way: str, tmp_path: Path) -> None:
    def use(folder: Path) -> list[Any]:
        replay = filled()
        replay.extend([arrays("arrays"), arrays("lists")])
        replay.save(folder / "kept")
        found: list[Any] = [replay.statistics(1)]
        sources = [replay, ReplayBuffer.from_dataset(folder / "kept", [0, 1], 4, 6, seed=0)]
        sources += [on_disk(folder / "rows"), pickle.loads(pickle.dumps(replay))]
        for source in sources:
            found += [source.sample(), source.sample_starts([0, 1], 3)]
            found += [source.starts([0, 1], 3, [0, 1]).sample(), *map(_zeros, source.episodes())]
        return found

    expected = use(tmp_path / "plain")
    try:
        if way == "device":
            torch.set_default_device("meta")  # whatever is made without a device is useless
        else:
            torch.set_default_dtype(torch.float64)
        found = use(tmp_path / "other")
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    for one, two in zip(expected, found, strict=True):
        for name in one.keys():  # noqa: SIM118
            assert one[name].dtype == two[name].dtype
            assert torch.equal(one[name], two[name]), name


def _zeros(one: TensorDict) -> TensorDict:
    """An episode without the NaN of row 0."""
    return one.apply(lambda value: value.nan_to_num() if value.is_floating_point() else value)


def test_a_copy_in_a_forked_process_is_its_own() -> None:
    replay = filled()
    before = replay.sample_starts([0, 1], 4)["observation"].shape
    context = multiprocessing.get_context("fork")
    process = context.Process(target=replay.add, args=(episode(9000, 20),))
    process.start()
    process.join(20)
    assert process.exitcode == 0
    assert not any((e["observation"] >= 9000).any() for e in replay.episodes())
    assert before == (2, 4, 1)
