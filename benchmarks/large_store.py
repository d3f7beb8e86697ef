"""Watches the memory of a process that draws from a dataset far larger than it may become.

    python benchmarks/large_store.py                    # 20 GiB
    python benchmarks/large_store.py --rows 20000000

The dataset is a few real rows and a hole behind them: it takes no room on the disk and no time of
it, but what is read of it takes memory as in any file.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from safetensors.torch import load_file, save_file
from tqdm import tqdm

import machine
from command_line import check_counts
from pwm_sdk import MT80, ReplayBuffer, from_tdmpc2_chunks, make_episode, to_tdmpc2_chunks

EPISODES, ROWS = 20, 101  # of the dataset that is enlarged


@dataclass(frozen=True)
class Arguments:
    """Draw windows and starts from a large dataset; print how much memory that takes."""

    rows: int = 107_400_000
    """Rows of MT80's size, 200 bytes each; rounded up to copies of the first 2020."""
    batches: int = 1000
    """Batches of each kind."""


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    check_counts(arguments, "rows", "batches")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "data"
        make_small(path)
        size = enlarge(path, math.ceil(arguments.rows / (EPISODES * ROWS)))
        replay = ReplayBuffer.from_dataset(path, slice_len=17, batch_size=512, seed=0)
        before, most = resident(), (0.0, 0.0)
        starts = replay.starts(MT80["walker-run"].index, 512, 0)
        for _ in tqdm(range(arguments.batches), disable=not sys.stderr.isatty()):
            for sample in (replay.sample, starts.sample):
                sample()
                most = max(most, resident(), key=sum)
    touched = arguments.batches * 512 * 17 * size / len(replay)
    count = arguments.batches
    print(f"{len(replay):,} rows, {size / 2**30:.1f} GiB. {count} batches of 512 windows")
    print(f"of 17 rows, {touched / 2**30:.1f} GiB in all, and as many of starts.")
    print(f"Resident before: {before[0]:.0f} MiB of files, {before[1]:.0f} of everything else.")
    print(f"Resident at most: {most[0]:.0f} MiB of files, {most[1]:.0f} of everything else;")
    print(f"at any moment since the start: {_mib('VmHWM'):.0f} MiB.")


def make_small(path: Path) -> None:
    """Write a dataset of 2020 rows of two tasks, by the way of chunks."""
    replay = ReplayBuffer(EPISODES * ROWS, 2, 2)
    for i in range(EPISODES):
        task = MT80["walker-run" if i % 2 else "mw-reach"]
        observation, action = torch.randn(ROWS, MT80.observation_dim), torch.rand(ROWS - 1, 6)
        replay.add(make_episode(observation, action, torch.rand(ROWS - 1), task))
    to_tdmpc2_chunks(replay, path.with_suffix(".chunks"))
    from_tdmpc2_chunks(path.with_suffix(".chunks"), path, tasks=MT80)


def enlarge(path: Path, times: int) -> int:
    """Repeat the episodes of a dataset, with holes for rows; returns its size in bytes."""
    about = json.loads((path / "manifest.json").read_text())
    about["rows"] *= times
    about["episodes"] = {task: times * count for task, count in about["episodes"].items()}
    (path / "manifest.json").write_text(json.dumps(about))
    index = load_file(path / "episodes.safetensors")
    save_file({name: value.repeat(times) for name, value in index.items()},
              path / "episodes.safetensors")  # fmt: skip
    file = path / "rows.bin"
    size = times * file.stat().st_size
    os.truncate(file, size)
    return size


def resident() -> tuple[float, float]:
    """MiB of files, libraries included, and of everything else, in this process's memory; Linux."""
    return _mib("RssFile"), _mib("RssAnon")


def _mib(field: str) -> float:
    held = machine.memory(field)
    if held is None:
        raise SystemExit("resident memory is measured on Linux only")
    return held / 2**20


if __name__ == "__main__":
    main()
