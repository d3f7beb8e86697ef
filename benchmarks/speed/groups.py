"""The groups of the throughput that need torch, in order: measured, printed and written."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import machine
from speed import acting, populations, pretraining, sampling, updates
from speed.bench import Bench
from speed.costs import write_profile
from speed.rows import Group, Row, write_csv


def run(arguments: Any, folder: Path) -> None:
    """Measure the groups that are asked for, or take a profile.

    Args:
        arguments: of the command line.
        folder: of the results.
    """
    if unknown := set(arguments.variants) - updates.VARIANTS.keys():
        raise SystemExit(f"--variants must be of {[*updates.VARIANTS]}, got {sorted(unknown)}")
    torch.set_num_threads(arguments.threads)
    device, given = torch.device(arguments.device), arguments
    if arguments.profile:
        head = heading(arguments)
        print(write_profile(folder, given.sizes[0], given.batches[0], device, head))
        return
    bench = Bench(device, arguments.rounds, arguments.limit)
    scale = bench, given.sizes, given.batches
    measures: dict[Group, Callable[[], list[Row]]] = {
        updates.GROUP: lambda: updates.rows_of_updates(*scale, given.variants),
        updates.FACTORS: lambda: updates.rows_of_factors(*scale),
        populations.GROUP: lambda: populations.rows_of_populations(*scale, given.populations),
        pretraining.GROUP: lambda: pretraining.rows_of_training(*scale),
        acting.GROUP: lambda: acting.rows_of_actions(bench, given.sizes, given.observations),
        sampling.GROUP: lambda: sampling.rows_of_sampling(bench, given.rows),
    }
    for group, measure in measures.items():
        if group.name in arguments.groups:
            about = f"{heading(arguments)}\n\n{method(arguments)}"
            rows = measure()
            text = group.markdown(rows, about)
            (folder / f"{group.name}.md").write_text(text, encoding="utf-8")
            write_csv(folder / f"{group.name}.csv", rows)
            print(text, flush=True)


def heading(arguments: Any) -> str:
    """What the numbers belong to."""
    return (
        f"{machine.describe()}, {machine.load()} before the run, Python "
        f"{platform.python_version()}.\nModels on {arguments.device}, torch threads: "
        f"{arguments.threads}."
    )


def method(arguments: Any) -> str:
    """How the numbers were taken."""
    single = arguments.threads == 1 and torch.device(arguments.device).type == "cpu"
    return (
        f"Medians of {arguments.rounds} readings with quartiles, variants interleaved, in "
        f"milliseconds {'of processor time' if single else 'that passed'}.\n`x ...`: how many "
        "times as fast. Peak: one large product of matrices, in the same rounds."
    )
