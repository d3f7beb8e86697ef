"""Loaded data pass the checks of added data: a good load, or a ValueError that names the file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensordict import TensorDict

from pwm_sdk import (
    ReplayBuffer,
    Task,
    TaskSet,
    from_tdmpc2_chunks,
    make_episode,
    to_tdmpc2_chunks,
)
from pwm_sdk.data.folder import FolderWriter

TASKS = TaskSet([Task("one", 0, "own", 3, 2, 6), Task("two", 1, "own", 3, 2, 6)])
MUTATIONS = 240
FOLDERS = Path(__file__).parent / "folders"


def episode(task: int, steps: int = 6, ends: bool = False) -> TensorDict:
    ended = [False] * (steps - 1) + [ends]
    parts = torch.rand(steps + 1, 3), torch.rand(steps, 2), torch.rand(steps), task
    return make_episode(*parts, ended, absorbing=2)


def episodes(ends: bool = True) -> list[TensorDict]:
    torch.manual_seed(0)
    return [episode(i % 2, ends=ends and i % 2 == 0) for i in range(4)]


def saved(folder: Path, ends: bool = True) -> Path:
    replay = ReplayBuffer(100, 4, 4, seed=0)
    replay.extend(episodes(ends))
    replay.save(folder)
    return folder


def saved_before(folder: Path) -> Path:
    """What `save` wrote in version 2: the state in one file, without a digest here."""
    state = load_saved(saved(folder.with_name("new"))).state_dict()
    folder.mkdir()
    save_file(state, folder / "tensors-1.safetensors")
    about = {"format": "pwm_sdk.replay", "version": 2, "rows": 32, "episodes": {"0": 2, "1": 2}}
    (folder / "manifest.json").write_text(json.dumps({**about, "tensors": "tensors-1.safetensors"}))
    return folder


def dataset(folder: Path) -> Path:
    with FolderWriter(folder) as writer:
        for one in episodes():
            writer.append(one, torch.tensor([len(one)]))
    return folder


def chunks(folder: Path) -> Path:
    to_tdmpc2_chunks(saved(folder.with_name("source"), ends=False), folder, chunk_episodes=2)
    return folder


def load_saved(folder: Path) -> ReplayBuffer:
    replay = ReplayBuffer(100, 4, 4)
    replay.load(folder)
    return replay


def convert(folder: Path) -> ReplayBuffer:
    out = folder.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    return opened(from_tdmpc2_chunks(folder, out, TASKS))


def opened(folder: Path) -> ReplayBuffer:
    return ReplayBuffer.from_dataset(folder, None, 4, 4, seed=0)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, insert, repeat or overwrite a few bytes."""
    out, kind, at = bytearray(data), rng.randrange(6), rng.randrange(len(data))
    if kind == 0:
        out[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del out[at:]
    elif kind == 2:
        out[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 3:
        del out[at : at + rng.randrange(1, 9)]
    elif kind == 4:
        out[at : at + 4] = rng.randbytes(4)
    else:
        digits = [i for i, byte in enumerate(out) if chr(byte) in "0123456789"] or [at]
        out[rng.choice(digits)] = ord(rng.choice('0123456789-e."[{ntf'))
    return bytes(out)


def copied(folder: Path) -> ReplayBuffer:
    return ReplayBuffer.from_dataset(folder, None, 4, 4, copy=True, seed=0)


def saved_twice(folder: Path) -> Path:
    """Files with a number."""
    return saved(saved(folder))


def of_version(name: str) -> Callable[[Path], Path]:
    """A folder that an earlier version wrote; those of the last ones have digests."""
    return lambda folder: Path(shutil.copytree(FOLDERS / name, folder))


LOADERS = [
    (saved, load_saved), (saved_twice, opened), (saved, copied), (dataset, opened),
    (dataset, copied), (of_version("replay-2"), opened), (of_version("dataset-3"), load_saved),
    (chunks, convert),
]  # fmt: skip
NAMES = ["load", "saved", "copied", "dataset", "copied-dataset", "replay-2", "dataset-3", "chunks"]


@pytest.mark.parametrize(("write", "load"), LOADERS, ids=NAMES)
def test_damaged_files_are_named_or_load_as_they_were(
    tmp_path: Path, write: Callable, load: Callable
) -> None:
    folder = write(tmp_path / "data")
    good = [one.clone() for one in load(folder).episodes()]
    files = sorted(path for path in folder.iterdir() if path.is_file())
    contents, rng, refused = {file: file.read_bytes() for file in files}, random.Random(0), 0
    for number in range(MUTATIONS):
        file = files[number % len(files)]
        file.write_bytes(mutate(contents[file], rng))
        try:
            found = load(folder)
        except ValueError as error:
            assert str(tmp_path) in str(error), error
            refused += 1
        else:
            assert_sound(found)
            if write is not chunks:  # whose bytes nobody has signed
                for one, two in zip(good, found.episodes(), strict=True):
                    for name, value in one.items():
                        assert torch.equal(value.nan_to_num(), two[name].nan_to_num())
        file.write_bytes(contents[file])
    assert refused > MUTATIONS // 4
    load(folder)


def assert_sound(replay: ReplayBuffer) -> None:
    """Whatever loads can be used."""
    batch = replay.sample(50)
    assert all(batch[name].isfinite().all() for name in ("observation", "action", "reward"))
    assert batch["action"].abs().max() <= 1.001
    assert bool((batch["task"] >= 0).all())
    fresh = ReplayBuffer(100, 4, 4)
    for one in replay.episodes():
        fresh.add(one)  # what loads can be added


def change(**entries: Any) -> Callable[[dict[str, Any]], None]:
    def apply(tensors: dict[str, Any]) -> None:
        for name, value in entries.items():
            tensors[name] = value(tensors[name]) if callable(value) else value

    return apply


def put(row: int, number: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def apply(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value[row] = number
        return value

    return apply


SPOILT = [
    (change(observation=put(3, torch.nan)), "observation must be finite, got .* in row 3 of epi"),
    (change(action=put(11, 1e9)), "action must lie in .* in step 1 of episode 1"),
    (change(reward=put(12, torch.inf)), "reward must be finite, got .* in row 3 of episode 1"),
    (change(task=put(2, -5)), "task must be one number of at least 0 an episode, got -5 in row 2"),
    (change(task=put(2, 1)), "task must be one number .* got 1 in row 2 of episode 0"),
    (change(length=torch.tensor([16, 16]), real_length=torch.tensor([16, 16])), "must tell of epi"),
    (change(length=torch.tensor([9, 8, 8, 7])), "action must be finite.* in row 7 of episode 1"),
    (change(length=torch.tensor([9, 7, 9, 9])), "must have 34 rows"),
    (change(reward=lambda v: v.double()), "reward must be torch.float32, got torch.float64"),
    (change(reward=lambda v: v.squeeze(-1)), r"reward must be \[32, 1\], got \[32\]"),
    (change(observation=lambda v: v[:, None]), r"observation must be \[T\+1, O\]"),
    (change(observation=lambda v: v.long()), "observation must be torch.float32, got torch.int64"),
    (change(terminated=put(3, True)), "terminated must be true at the last step only.* step 2"),
    (change(real_length=torch.tensor([9, 7, 9, 7])), "rows that are not real|terminated must"),
    (change(real_length=torch.tensor([1, 7, 7, 7])), "real_length must be 2 to length"),
    (change(generator=torch.zeros(3, dtype=torch.uint8)), "generator must be the state of one"),
    (lambda tensors: tensors.pop("action"), r"state must have the entries \['action'\]"),
    (lambda tensors: tensors.pop("length"), r"length must be \[episodes\] torch.int64"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_wrong_contents_are_named_with_the_folder(
    tmp_path: Path, spoil: Callable, message: str
) -> None:
    folder = saved_before(tmp_path / "data")
    file = folder / json.loads((folder / "manifest.json").read_text())["tensors"]
    tensors = load_file(file)
    spoil(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, file)  # without a digest
    replay = ReplayBuffer(100, 4, 4, seed=0)
    replay.add(episode(0))
    with pytest.raises(ValueError, match=message) as caught:
        replay.load(folder)
    assert str(folder) in str(caught.value)
    assert replay.num_episodes() == 1  # what was there stays
    if "generator" not in message:
        with pytest.raises(ValueError, match=message):
            opened(folder)


OWN = ("tensors", "number", "digest", "entries")  # what one format has


@pytest.mark.parametrize(
    ("entry", "value"),
    [("rows", 7), ("rows", "32"), ("rows", 0), ("episodes", {"0": 1}), ("version", 4),
     ("version", -3), ("version", "1"), ("format", "x"), ("format", ["x"]), ("tensors", 5),
     ("tensors", None), ("tensors", "../tensors-1.safetensors"), ("number", 5), ("number", None),
     ("number", "1/../1"), ("digest", None), ("entries", {})],
)  # fmt: skip
@pytest.mark.parametrize("write", [saved, saved_before, dataset])
def test_manifests_that_do_not_fit_are_named(
    tmp_path: Path, write: Callable, entry: str, value: Any
) -> None:
    if (entry == "tensors") is not (write is saved_before) and entry in OWN:
        return  # of the other format
    manifest = write(tmp_path / "data") / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {entry: value}))
    with pytest.raises(ValueError, match=str(tmp_path)):
        opened(tmp_path / "data")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", "\x00", '{"version": 1e999}', "[" * 99_999]
)
@pytest.mark.parametrize("write", [saved, dataset])
def test_manifests_that_are_none_are_named(tmp_path: Path, write: Callable, text: str) -> None:
    (write(tmp_path / "data") / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=str(tmp_path)):
        opened(tmp_path / "data")


def test_a_dataset_of_version_2_is_read_and_checked(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data")
    about = json.loads((folder / "manifest.json").read_text())
    del about["digest"], about["number"]
    older = {**about, "format": "pwm_sdk.dataset", "version": 2}
    (folder / "manifest.json").write_text(json.dumps(older))
    index = load_file(folder / "episodes.safetensors")
    save_file({k: index[k] for k in ("length", "task")}, folder / "episodes.safetensors")
    for one, two in zip(episodes(), opened(folder).episodes(), strict=True):
        assert torch.equal(one["real"], two["real"])  # found by their values
    rows = bytearray((folder / "rows.bin").read_bytes())
    rows[20:24] = b"\xff\xff\xff\xff"  # of the first row's observation
    (folder / "rows.bin").write_bytes(rows)
    with pytest.raises(ValueError, match=r"must be finite, got .* in '.*data'"):
        opened(folder)
    assert ReplayBuffer.from_dataset(folder, None, 4, 4, verify=False).num_episodes() == 4


@pytest.mark.parametrize("copy", [False, True])
def test_changed_rows_are_found_unless_nobody_asks(tmp_path: Path, copy: bool) -> None:
    folder = dataset(tmp_path / "data")
    rows = bytearray((folder / "rows.bin").read_bytes())
    rows[200] ^= 4
    (folder / "rows.bin").write_bytes(rows)
    with pytest.raises(ValueError, match=r"rows\.bin must hold what was written, got other bytes"):
        ReplayBuffer.from_dataset(folder, None, 4, 4, copy=copy)
    assert ReplayBuffer.from_dataset(folder, None, 4, 4, verify=False).num_episodes() == 4


def test_a_chunk_that_shows_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    """Strides of 0: a file of two kilobytes that would become 10 GB of rows."""
    torch.save(repeated(10**7), tmp_path / "chunk_0.pt")
    with pytest.raises(ValueError, match=r"tensors must not repeat the bytes.*chunk_0\.pt"):
        from_tdmpc2_chunks(tmp_path, tmp_path / "out", TASKS)
    assert not list(tmp_path.glob("out/*"))


def test_lengths_that_overflow_and_ends_that_are_no_flags_are_refused(tmp_path: Path) -> None:
    largest = torch.iinfo(torch.int64).max
    folder = dataset(tmp_path / "data")
    index = load_file(folder / "episodes.safetensors")
    total = int(index["length"].sum())
    wrapped = {"length": torch.tensor([largest, largest, total - 3, 5])}  # adds up to the total
    for change in (wrapped, {"terminated": index["terminated"].long() * 7}):
        save_file({**index, **change}, folder / "episodes.safetensors")
        with pytest.raises(ValueError, match=r"episodes\.safetensors must"):
            opened(folder)
    state = ReplayBuffer(100, 4, 4, seed=0)
    state.extend(episodes())
    held = state.state_dict()
    held["length"] = wrapped["length"].clone()
    with pytest.raises(ValueError, match="state must have"):
        ReplayBuffer(100, 4, 4).load_state_dict(held)


def test_a_chunk_may_repeat_what_is_constant(tmp_path: Path) -> None:
    torch.save(repeated(1000), tmp_path / "chunk_0.pt")
    from_tdmpc2_chunks(tmp_path, tmp_path / "out", TASKS)
    assert opened(tmp_path / "out").num_episodes() == 1000


def repeated(count: int) -> dict[str, Any]:
    """A chunk of equal episodes that takes the room of one."""
    entries: dict[str, Any] = {
        "obs": torch.zeros(1, 7, 3),
        "action": torch.zeros(1, 7, 2),
        "reward": torch.zeros(1, 7),
        "task": torch.zeros(1, 7, dtype=torch.int32),
    }
    return {name: value.expand(count, *value.shape[1:]) for name, value in entries.items()}


def test_actions_of_a_chunk_lie_in_their_range(tmp_path: Path) -> None:
    folder = chunks(tmp_path / "data")
    held = dict(torch.load(folder / "chunk_1.pt", weights_only=False).items())
    held["action"][1, 3, 0] = 7.0
    torch.save(held, folder / "chunk_1.pt")
    with pytest.raises(ValueError, match=r"\[-1, 1\], got .* in row 3 of episode 1 of .*chunk_1"):
        convert(folder)
