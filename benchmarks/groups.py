"""The groups of the throughput that need torch, in order: measured, printed and written."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import acting
import machine
import populations
import pretraining
import sampling
import torch
import updates
from bench import Bench
from costs import write_profile
from rows import Row, write_csv


def run(arguments: Any, folder: Path) -> None:
    """Measure the groups that are asked for, or take a profile.

    Args:
        arguments: of the command line.
        folder: of the results.
    """
    if unknown := set(arguments.variants) - updates.VARIANTS.keys():
        raise SystemExit(f"--variants must be of {[*updates.VARIANTS]}, got {sorted(unknown)}")
    torch.set_num_threads(arguments.threads)
    device, head = torch.device(arguments.device), heading(arguments)
    if arguments.profile:
        print(write_profile(folder, arguments.sizes[0], arguments.batches[0], device, head))
        return
    bench = Bench(device, arguments.rounds, arguments.limit)
    measures = {
        updates.GROUP: (
            updates.rows_of_updates,
            arguments.sizes,
            arguments.batches,
            arguments.variants,
        ),
        updates.FACTORS: (updates.rows_of_factors, arguments.sizes, arguments.batches),
        populations.GROUP: (
            populations.rows_of_populations,
            arguments.sizes,
            arguments.batches,
            arguments.populations,
        ),
        pretraining.GROUP: (pretraining.rows_of_training, arguments.sizes, arguments.batches),
        acting.GROUP: (acting.rows_of_actions, arguments.sizes, arguments.observations),
        sampling.GROUP: (sampling.rows_of_sampling, arguments.rows),
    }
    rows: list[Row] = []
    text = f"# Throughput\n\n{head}\n\n{method(arguments)}\n"
    print(text)
    for group, (measure, *what) in measures.items():
        if group.name not in arguments.groups:
            continue
        mine = measure(bench, *what)
        rows += mine
        text += f"\n{group.markdown(mine)}"
        print(group.markdown(mine), flush=True)
        (folder / "throughput.md").write_text(text, encoding="utf-8")
        write_csv(folder / "throughput.csv", rows)


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
