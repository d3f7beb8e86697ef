"""The tables of environment steps per second, in Markdown and as CSV."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import machine
from pwm_sdk import runs
from speed.stepping import VARIANTS, Plan, Reading

SUITES = ("dm_control, stock", "dm_control, custom", "Meta-World")
PACKAGES = ("mujoco", "dm_control", "metaworld", "torchrl")


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
        runs.markdown(("suite", *head), [row for row in rows if row]),
        "",
        runs.markdown(
            ("task", *head[1:]), [(reading.task, *_cells([reading])) for reading in readings]
        ),
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


def write_csv(path: Path, readings: Sequence[Reading]) -> None:
    """Write one line per task."""
    lines = [
        {
            "task": reading.task,
            "suite": reading.suite,
            **{f"{k}_steps_per_s": f"{reading.steps_per_second[k]:.1f}" for k in VARIANTS},
            "reset_ms": f"{reading.reset_ms:.2f}",
        }
        for reading in readings
    ]
    runs.write_csv(path, lines)
