"""What each option of the quick recipe does: the same run with one of them changed at a time.

Run `python benchmarks/ablate.py --seeds 3 --rounds 35`, or a part of it with
`--variants recipe no-penalty --tasks walker-stand`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent))
from mt80 import SETTINGS
from recipe import PRESETS, Preset
from tqdm import tqdm

Rows = Sequence[Mapping[str, Any]]


def _pwm(**changes: Any) -> Callable[[Preset], Preset]:
    return lambda preset: replace(preset, pwm=replace(preset.pwm, **changes))


def _rounds(**changes: Any) -> Callable[[Preset], Preset]:
    return lambda preset: replace(preset, rounds_config=replace(preset.rounds_config, **changes))


VARIANTS: dict[str, Callable[[Preset], Preset]] = {
    "recipe": lambda preset: preset,
    "no-variance-weights": _rounds(reward_weight_gain=0.0),
    "no-penalty": _pwm(saturation=0.0),
    "h-step-return": _pwm(actor_lam=None),
    "no-target-critic": _pwm(target_tau=None),
    "whole-episodes": lambda preset: replace(preset, whole_episodes=True),
    "no-decay": _rounds(decay_share=0.0),
    "no-average": lambda preset: replace(_pwm(average_tau=None)(preset), select_episodes=0),
}


@dataclass(frozen=True)
class Arguments:
    """Run the quick recipe with one option changed at a time and print a table of returns."""

    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which changes to run."""
    tasks: tuple[str, ...] = ("cartpole-swingup", "walker-stand", "cheetah-run")
    """Tasks, learned together; each run takes one core."""
    seeds: int = 3
    """Seeds of each variant."""
    rounds: int = 35
    """Rounds of each run."""
    jobs: int = 0
    """Runs at once; 0: one per core."""
    out: Path = Path("runs/ablate")
    """Folder of the runs; what is finished there is not run again."""


def main() -> None:
    """Run the study and print its table."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    for name in arguments.variants:
        if name not in VARIANTS:
            raise SystemExit(f"--variants must be among {list(VARIANTS)}, got {name!r}")
    preset = replace(
        PRESETS["quick"],
        tasks=arguments.tasks,
        rounds=arguments.rounds,
        readings=2,
        plan_episodes=0,
    )
    os.environ.update({key: os.environ.get(key, value) for key, value in SETTINGS.items()})
    pairs = [(name, seed) for seed in range(arguments.seeds) for name in arguments.variants]
    with ProcessPoolExecutor(
        arguments.jobs or os.cpu_count(), mp_context=multiprocessing.get_context("spawn")
    ) as executor:
        runs = {executor.submit(run, preset, *pair, arguments.out): pair for pair in pairs}
        for _ in tqdm(as_completed(runs), total=len(runs), unit="run"):
            pass
    results = {pair: future.result() for future, pair in runs.items()}
    text = table(arguments.variants, arguments.tasks, results)
    (arguments.out / "report.md").write_text(text)
    print(text)


def run(preset: Preset, name: str, seed: int, out: Path) -> Rows:
    """Run one variant with one seed in this process; the rows of its policies."""
    import torch
    from stages import SeedRun

    torch.set_num_threads(1)
    preset = VARIANTS[name](preset)
    folder = out / f"{name}-{preset.rounds}-{'+'.join(preset.tasks)}" / f"seed{seed}"
    rows = SeedRun(
        preset, seed, 1, 0, folder, device="cpu", budget=None, progress=lambda share, status: None
    ).run()
    return [row for row in rows if row["method"] == "pwm"]


def table(
    variants: Sequence[str], tasks: Sequence[str], results: Mapping[tuple[str, int], Rows]
) -> str:
    """Return the table as Markdown: mean and spread of returns over seeds, then seed by seed."""
    lines = [
        "| variant | " + " | ".join(tasks) + " |",
        "| --- |" + " ---: |" * len(tasks),
    ]
    for name in variants:
        runs = [rows for (variant, _), rows in results.items() if variant == name]
        cells = []
        for task in tasks:
            values = [row["return"] for rows in runs for row in rows if row["task"] == task]
            spread = f" +- {np.std(values, ddof=1):.0f}" if len(values) > 1 else ""
            each = ", ".join(f"{value:.0f}" for value in values)
            cells.append(f"**{np.mean(values):.0f}{spread}** ({each})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
