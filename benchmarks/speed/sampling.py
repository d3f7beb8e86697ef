"""The group `sampling`: batches from datasets on the disk, of ever more rows."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tensordict import TensorDict

from pwm_sdk import MT80, ReplayBuffer, TaskSet, from_tdmpc2_chunks
from speed.bench import Bench, Variant
from speed.rows import Group, Row
from speed.timing import repeated

GROUP = Group(
    "sampling",
    "Sampling from a dataset on the disk",
    "Folders of `from_tdmpc2_chunks`, opened by `ReplayBuffer.from_dataset`; just written, and so "
    "in the system's\ncache.",
    count="windows or starts",
    baseline="smallest",
)
WINDOWS, STARTS = "windows of 17 rows", "starts of a policy"
BATCH, SLICE = 512, 17
TASK = MT80["mw-reach"]
EPISODE = TASK.episode_length + 1
ROW_BYTES = 8 + 4 * (TASK.observation_dim + TASK.action_dim + 1) + 1  # task, float32, ended


def rows_of_sampling(bench: Bench, counts: Sequence[int]) -> list[Row]:
    """Time batches from datasets of about `counts` rows, which are removed afterwards."""
    counts = sorted(counts)
    with tempfile.TemporaryDirectory() as name:
        needed, free = ROW_BYTES * (sum(counts) + counts[0]), shutil.disk_usage(name).free
        if free < needed:
            note = f"{needed / 1e9:.1f} GB needed for temporary files, {free / 1e9:.1f} free"
            return [Row(GROUP.name, WINDOWS, 0, BATCH, f"{n:,} rows", note=note) for n in counts]
        folders = [Path(name) / str(count) for count in counts]
        replays = [dataset(folder, counts[0], int(folder.name)) for folder in folders]
        rows = []
        for what in (WINDOWS, STARTS):
            variants = []
            for replay in replays:
                drawn = replay if what == WINDOWS else replay.starts(TASK.index, BATCH, seeds=0)
                read = repeated(what, drawn.sample, bench.seconds)
                variants.append(Variant(f"{len(replay):,} rows", read))
            rows += bench.measure(GROUP, 0, BATCH, variants)
        return rows


def dataset(folder: Path, smallest: int, count: int) -> ReplayBuffer:
    """Write about `count` rows: the same chunk of about `smallest`, as often as it takes."""
    folder.mkdir()
    episodes = max(1, round(smallest / EPISODE))
    first = folder / "chunk_0.pt"
    torch.save(_chunk(episodes), first)
    for number in range(1, round(count / (episodes * EPISODE))):
        os.link(first, folder / f"chunk_{number}.pt")
    opened = from_tdmpc2_chunks(folder, folder / "rows", TaskSet([TASK]))
    for chunk in folder.glob("chunk_*.pt"):
        chunk.unlink()
    return ReplayBuffer.from_dataset(opened, slice_len=SLICE, batch_size=BATCH, seed=0)


def _chunk(episodes: int) -> TensorDict:
    """Random episodes, as TD-MPC2 keeps them."""
    shape = (episodes, EPISODE)
    entries = {
        "obs": torch.randn(*shape, TASK.observation_dim),
        "action": torch.rand(*shape, TASK.action_dim),
        "reward": torch.rand(shape),
        "task": torch.full(shape, TASK.index, dtype=torch.int32),
    }
    return TensorDict(entries, batch_size=shape)
