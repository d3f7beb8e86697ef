"""Measures sampling from datasets of growing size: neither time nor memory may grow with them.

    python benchmarks/large_store.py                          # 0.2, 2 and 20 million rows
    python benchmarks/large_store.py --rows 111000000       # 20 GiB

The datasets are a few real rows and holes behind them: they take no room on the disk, and no time
of it. What is read of them takes memory as in any file.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from machine import cores, load, processor
from safetensors.torch import load_file, save_file

from pwm_sdk import MT80, ReplayBuffer, from_tdmpc2_chunks, make_episode, to_tdmpc2_chunks

EPISODES, ROWS = 20, 101  # of the dataset that is enlarged


@dataclass(frozen=True)
class Arguments:
    """Time batches of windows and of starts, and watch how much memory reading takes."""

    rows: tuple[int, ...] = (200_000, 2_000_000, 20_000_000)
    """Sizes of the datasets, rounded up to whole copies of the first 2020 rows."""
    batch: int = 512
    """Windows, or starts, of a batch."""
    window: int = 17
    """Rows of a window."""
    rounds: int = 50
    """Batches of each kind and size, interleaved."""


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    torch.set_num_threads(1)
    print(f"{cores()} cores ({processor()}), {load()}, torch {torch.__version__}, one thread\n")
    with tempfile.TemporaryDirectory() as folder:
        stores = [Store(Path(folder), rows, arguments) for rows in arguments.rows]
        for _ in range(arguments.rounds):
            for store in stores:
                store.draw()
    head = ("rows", "size, GB", "opened, ms", "windows, ms", "starts, ms", "files resident, MB")
    print("| " + " | ".join((*head, "rest resident, MB")) + " |")
    print("|" + " ---: |" * (len(head) + 1))
    for store in stores:
        print("| " + " | ".join(store.cells()) + " |")
    print(
        f"\nMilliseconds of processor time: medians of {arguments.rounds} batches of "
        f"{arguments.batch} windows of {arguments.window} rows,\nor of as many starts. Resident: "
        "the most after any batch, of the whole process with all datasets open."
    )


class Store:
    """A dataset of one size, and what was measured on it."""

    def __init__(self, folder: Path, rows: int, arguments: Arguments) -> None:
        path = folder / str(rows)
        make_small(path)
        self.bytes = enlarge(path, math.ceil(rows / (EPISODES * ROWS)))
        begin = time.process_time()
        self.replay = ReplayBuffer.from_dataset(
            path, slice_len=arguments.window, batch_size=arguments.batch, seed=0
        )
        self.starts = self.replay.starts(MT80["walker-run"].index, arguments.batch, 0)
        self.starts.sample()  # builds the tables
        self.opened = 1e3 * (time.process_time() - begin)
        self.times: dict[str, list[float]] = {"windows": [], "starts": []}
        self.resident = (0.0, 0.0)

    def draw(self) -> None:
        """Draw a batch of each kind."""
        draws: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("windows", self.replay.sample),
            ("starts", self.starts.sample),
        )
        for name, sample in draws:
            begin = time.process_time()
            sample()
            self.times[name].append(1e3 * (time.process_time() - begin))
            self.resident = tuple(map(max, self.resident, resident()))

    def cells(self) -> list[str]:
        """Return the row of the table."""
        size, ms = f"{self.bytes / 1e9:.2f}", [f"{median(t):.2f}" for t in self.times.values()]
        memory = [f"{part:,.0f}" for part in self.resident]
        return [f"{len(self.replay):,}", size, f"{self.opened:.0f}", *ms, *memory]


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
    size = 0
    for name in about["entries"]:
        file = path / f"{name}.bin"
        size += times * file.stat().st_size
        os.truncate(file, times * file.stat().st_size)
    return size


def resident() -> tuple[float, float]:
    """Megabytes of files, and of everything else, in this process's memory; Linux."""
    status = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status)
    files, rest = (int(fields[name].split()[0]) / 1e3 for name in ("RssFile", "RssAnon"))
    return files, rest


if __name__ == "__main__":
    main()
