"""What each option of the quick recipe does: the same run with one of them changed at a time.

    python benchmarks/ablate.py --seeds 3 --rounds 35                  # options of the algorithm
    python benchmarks/ablate.py --study regularization --seeds 3       # what regularises the model
    python benchmarks/ablate.py --variants recipe no-penalty --tasks walker-stand

A run that is finished is not run again, and one that was interrupted continues: a study can be run
in parts, a few variants or seeds at a time, into the same folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tqdm import tqdm

from command_line import command
from pwm_sdk.runs import JobPool, cores, markdown, read_csv, write_text
from pwm_sdk.runs.report import spread
from quick.recipe import PRESETS, Preset, split_tasks

PUBLISHED = Path(__file__).parent / "reporting" / "published_ablations.csv"
Rows = Sequence[Mapping[str, Any]]


def _pwm(**changes: Any) -> Callable[[Preset], Preset]:
    return lambda preset: replace(preset, pwm=replace(preset.pwm, **changes))


def _rounds(**changes: Any) -> Callable[[Preset], Preset]:
    return lambda preset: replace(preset, rounds_config=replace(preset.rounds_config, **changes))


def _model(**changes: Any) -> Callable[[Preset], Preset]:
    return lambda preset: replace(preset, world_model=preset.world_model | changes)


def _batch(factor: float) -> Callable[[Preset], Preset]:
    return lambda preset: replace(preset, batch=factor)


STUDIES: dict[str, dict[str, Callable[[Preset], Preset]]] = {
    "options": {
        "recipe": lambda preset: preset,
        "no-variance-weights": _rounds(reward_weight_gain=0.0),
        "no-penalty": _pwm(saturation=0.0),
        "h-step-return": _pwm(actor_lam=None),
        "no-target-critic": _pwm(target_tau=None),
        "whole-episodes": lambda preset: replace(preset, whole_episodes=True),
        "no-decay": _rounds(decay_share=0.0),
        "no-average": lambda preset: replace(_pwm(average_tau=None)(preset), select_episodes=0),
    },
    # The recipe has SiLU, LayerNorm and SimNorm; the published program has Mish for SiLU.
    "regularization": {
        "recipe": lambda preset: preset,
        "mish": _model(activation="mish"),
        "relu": _model(activation="relu"),
        "no-simnorm": _model(simnorm_size=0),
        "mish, no-simnorm": _model(activation="mish", simnorm_size=0),
        "relu, no-simnorm": _model(activation="relu", simnorm_size=0),
        "spectral-norm": _model(simnorm_size=0, spectral_norm=True),
        "batch-x0.25": _batch(0.25),
        "batch-x0.5": _batch(0.5),
        "batch-x2": _batch(2.0),
        "batch-x4": _batch(4.0),
    },
}
VARIANTS = {name: change for study in STUDIES.values() for name, change in study.items()}


@dataclass(frozen=True)
class Arguments:
    """Run the quick recipe with one option changed at a time and print a table per task."""

    study: Literal["options", "regularization"] = "options"
    """options: of algorithm and data. regularization: activation, SimNorm, spectral norm, batch."""
    variants: tuple[str, ...] = ()
    """Which changes to run; by default all of the study."""
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
    """Run the study and print its tables."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    study = STUDIES[arguments.study]
    names = arguments.variants or tuple(study)
    for name in names:
        if name not in study:
            raise SystemExit(f"--variants must be among {list(study)}, got {name!r}")
    preset = replace(
        PRESETS["quick"],
        tasks=arguments.tasks,
        rounds=arguments.rounds,
        readings=2,
        plan_episodes=0,
    )
    pairs = [(name, seed) for seed in range(arguments.seeds) for name in names]
    out, count = arguments.out.expanduser(), arguments.jobs or cores()
    with command(), JobPool(count, errors=out) as pool:
        runs = {
            pool.submit(run, preset, *pair, out, name="{} seed {}".format(*pair)): pair
            for pair in pairs
        }
        for done in tqdm(as_completed(runs), total=len(runs), unit="run"):
            done.result()
        results = {pair: future.result() for future, pair in runs.items()}
        text = tables(names, arguments.tasks, results)
        if arguments.study == "regularization":
            text += "\n" + published_table()
        write_text(out / f"{arguments.study}.md", text)
        print(text)


def run(preset: Preset, name: str, seed: int, out: Path) -> Rows:
    """Run one variant with one seed in this process, suite by suite; the rows of its policies."""
    import torch

    from quick.stages import SeedRun

    torch.set_num_threads(1)
    preset = VARIANTS[name](preset)
    folder = out / f"{name}-{preset.rounds}-{'+'.join(preset.tasks)}" / f"seed{seed}"
    parts, rows = len(split_tasks(preset, 1)), []
    for part in range(parts):
        rows += SeedRun(
            preset,
            seed,
            parts,
            part,
            folder / f"part{part}",
            device="cpu",
            budget=None,
            progress=lambda share, status: None,
        ).run()
    return [row for row in rows if row["method"] == "pwm"]


def tables(
    variants: Sequence[str], tasks: Sequence[str], results: Mapping[tuple[str, int], Rows]
) -> str:
    """Return a table per task as Markdown: mean and deviation of returns, then seed by seed."""
    seeds = sorted({seed for _, seed in results})
    parts = []
    for task in tasks:
        lines = []
        for name in variants:
            values = [
                next(row["return"] for row in results[name, seed] if row["task"] == task)
                for seed in seeds
            ]
            mean = f"**{spread(np.asarray(values), 0)}**"
            lines.append([name, mean, *(f"{value:.0f}" for value in values)])
        head = ["variant", "mean", *(f"seed {seed}" for seed in seeds)]
        parts.append(f"{task}, return:\n\n{markdown(head, lines)}\n")
    return "\n".join(parts)


def published_table(path: Path = PUBLISHED) -> str:
    """Return the published ablations as a table, with the doubts about their files below it.

    Args:
        path: CSV file with variant, task, mean, std and n_seeds, source and note of each figure.
    """
    figures = read_csv(path)
    tasks = list(dict.fromkeys(figure["task"] for figure in figures))
    lines = []
    for name in dict.fromkeys(figure["variant"] for figure in figures):
        mine = {figure["task"]: figure for figure in figures if figure["variant"] == name}
        cells = [_published_cell(mine[task]) if task in mine else "-" for task in tasks]
        lines.append([name, *cells])
    intro = (
        "Published by PWM's authors, not measured here: mean +- standard deviation (seeds) of the "
        "last logged return, on tasks of another simulator.\n"
    )
    notes = [f"- {f['variant']}, {f['task']} (`{f['source']}`): {f['note']}." for f in figures
             if "note" in f]  # fmt: skip
    inferred = (
        "\nThe published recipe has Mish, ours SiLU. Most files of relu and mish name the "
        "activation only; that they are without SimNorm is inferred."
    )
    return (
        "\n".join(
            [
                intro,
                markdown(["variant", *tasks], lines),
                inferred,
                "\nDoubts, marked with *:\n",
                *notes,
            ]
        )
        + "\n"
    )


def _published_cell(figure: Mapping[str, Any]) -> str:
    doubt = "*" * ("note" in figure)
    return f"{figure['mean']:.0f} +- {figure['std']:.0f} ({figure['n_seeds']}){doubt}"


if __name__ == "__main__":
    main()
