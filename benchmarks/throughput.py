"""Measure how fast environments step and print the table.

    python benchmarks/throughput.py                        # all 80 tasks, about four minutes
    python benchmarks/throughput.py --tasks mw-reach cup-spin --steps 50

The tables go to benchmarks/results/<date>_<machine>/ as environments.md and environments.csv.
"""

from __future__ import annotations

import csv
import datetime
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated

import machine
import tyro
from stepping import VARIANTS, Plan, Reading, Workers, measure
from tqdm import tqdm

from pwm_sdk import MT80

SUITES = ("dm_control, stock", "dm_control, custom", "Meta-World")
PACKAGES = ("mujoco", "dm_control", "metaworld", "torchrl")


@dataclass(frozen=True)
class Arguments:
    """Time environment steps against bare physics, in one process and in several."""

    tasks: tuple[str, ...] = ()
    """Tasks by name; all 80 if none is given."""
    steps: int = 100
    """Agent steps of one reading."""
    rounds: int = 3
    """Readings of each variant, interleaved; the table has their medians."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Processes that step at once; one per core by default."""
    out: Path = Path(__file__).resolve().parent / "results"
    """Folder of all results."""


def main() -> None:
    """Measure, print and write."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    plan = Plan(arguments.steps, arguments.rounds, arguments.workers or machine.cores())
    names = _checked(arguments, plan)
    load = machine.load()
    with Workers(plan.workers) as workers:
        progress = tqdm(names, disable=not sys.stderr.isatty())
        readings = [measure(name, plan, workers) for name in progress]
    text = report(readings, plan, load)
    folder = arguments.out / f"{datetime.date.today()}_{machine.slug()}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "environments.md").write_text(text, encoding="utf-8")
    _write_csv(folder / "environments.csv", readings)
    print(text)
    print(f"Written to {folder}")


def _checked(arguments: Arguments, plan: Plan) -> list[str]:
    for name in ("steps", "rounds", "workers"):
        given = getattr(arguments, name)
        if given is not None and given < 1:
            raise SystemExit(f"--{name} must be at least 1, got {given}")
    try:
        return [MT80[name].name for name in arguments.tasks or MT80.names]
    except ValueError as error:
        raise SystemExit(f"--tasks: {error}") from error


def report(readings: Sequence[Reading], plan: Plan, load: str) -> str:
    """The tables as Markdown: one row per suite, then one per task."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    head = ("tasks", "bare physics", "one process", "of bare", "TorchRL")
    head = (*head, f"{plan.workers} workers", "gain", "reset, ms")
    rows = [_suite_row(suite, readings) for suite in SUITES]
    lines = [
        "# Environment steps per second",
        "",
        f"{machine.describe()}, {load} before the run, "
        f"Python {platform.python_version()}, {packages}.",
        "",
        f"Agent steps (two control steps each), random actions, medians of {plan.rounds} readings "
        f"of at most {plan.steps} steps",
        "and, for a suite, over its tasks; resets are not counted. Bare physics replays the same",
        "episode in the engine alone. One process: `make_gym`; TorchRL: `rollout` of `make_env`;",
        "all three per second of processor time. Workers: `make_gym` in several processes at",
        "once, all their steps per second that passed, and their gain over one process; other work",
        "on the machine lowers both.",
        "",
        _line(("suite", *head)),
        _line(["---"] + ["---:"] * len(head)),
        *(_line(row) for row in rows if row),
        "",
        _line(("task", *head[1:])),
        _line(["---"] + ["---:"] * (len(head) - 1)),
        *(_line((reading.task, *_cells([reading]))) for reading in readings),
    ]
    return "\n".join(lines) + "\n"


def _suite_row(suite: str, readings: Sequence[Reading]) -> tuple[str, ...]:
    mine = [reading for reading in readings if reading.suite == suite]
    return (suite, str(len(mine)), *_cells(mine)) if mine else ()


def _cells(readings: Sequence[Reading]) -> tuple[str, ...]:
    """Medians over tasks; ratios are medians of the tasks' ratios."""
    rates = [reading.steps_per_second for reading in readings]
    bare, gym, torchrl, workers = (median(r[kind] for r in rates) for kind in VARIANTS)
    share = median(r["gym"] / r["bare"] for r in rates)
    gain = median(r["workers"] / r["gym"] for r in rates)
    reset = median(reading.reset_ms for reading in readings)
    return (
        f"{bare:,.0f}",
        f"{gym:,.0f}",
        f"{share:.0%}",
        f"{torchrl:,.0f}",
        f"{workers:,.0f}",
        f"x{gain:.2f}",
        f"{reset:.1f}",
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _write_csv(path: Path, readings: Sequence[Reading]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["task", "suite", *(f"{kind}_steps_per_s" for kind in VARIANTS), "reset_ms"]
        )
        for reading in readings:
            rates = [f"{reading.steps_per_second[kind]:.1f}" for kind in VARIANTS]
            writer.writerow([reading.task, reading.suite, *rates, f"{reading.reset_ms:.2f}"])


if __name__ == "__main__":
    main()
