"""The table and the curves of a finished run."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from stages import write_atomic

from pwm_sdk import MT80

matplotlib.use("Agg")
import matplotlib.pyplot as plt

METHODS = {"pwm": "PWM", "cloning": "behaviour cloning", "random": "random"}
HEAD = (
    "task",
    "return",
    "worst",
    "success any",
    "success last",
    "score",
    "gap",
    "cloning",
    "random",
)


def write_report(
    folder: Path, rows: Sequence[dict[str, Any]], *, minutes: float, command: str
) -> str:
    """Write scores.csv, curves.png and report.md into `folder`; return the text of the report."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    write_atomic(folder / "scores.csv", lambda part: _write_csv(part, names, rows))
    seeds = sorted({row["seed"] for row in rows})
    plot_curves(folder, seeds)
    text = report_text(folder, rows, seeds, minutes, command)
    write_atomic(folder / "report.md", lambda part: part.write_text(text))
    return text


def _write_csv(path: Path, names: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def report_text(
    folder: Path, rows: Sequence[dict[str, Any]], seeds: Sequence[int], minutes: float, command: str
) -> str:
    """Return the report as Markdown: settings, scores (means, per seed), seconds per stage."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    episodes = int(rows[0]["episodes"])
    lines = [
        f"# {folder.name}: {len(tasks)} tasks, {len(seeds)} seed{'s' * (len(seeds) > 1)}, "
        f"{episodes} episodes each",
        "",
        f"`{command}`, {minutes:.1f} minutes (of this call), {machine()}.",
        "",
        "Mean over seeds, +- standard deviation over seeds. "
        "Mean actions of the final policies in fresh environments.",
        "Score: return / 1000 (dm_control), success at the last step (Meta-World). "
        "Gap: predicted minus real sum of the",
        "next 16 rewards, in units of the largest reward per step.",
        "",
        _line(HEAD),
        _line(["---"] + ["---:"] * (len(HEAD) - 1)),
    ]
    lines += [_line(_task_cells(rows, task)) for task in tasks]
    for suite, label in (("metaworld", "mean, Meta-World"), ("dmcontrol", "mean, dm_control")):
        mine = [task for task in tasks if MT80[task].suite == suite]
        if mine:
            lines.append(_line(_task_cells(rows, *mine, label=label)))
    lines += ["", "Per seed (return, and success at the last step for Meta-World):", ""]
    lines += [
        _line(["task", *(f"seed {s}" for s in seeds)]),
        _line(["---"] + ["---:"] * len(seeds)),
    ]
    for task in tasks:
        mine = {row["seed"]: row for row in rows if row["task"] == task and row["method"] == "pwm"}
        cells = [f"{mine[s]['return']:.0f}" + _success(task, mine[s]) for s in seeds]
        lines.append(_line([task, *cells]))
    lines += ["", "Seconds per stage:", ""]
    spent = {path.parent: json.loads(path.read_text())["seconds"] for path in _curve_files(folder)}
    stages = list(dict.fromkeys(name for seconds in spent.values() for name in seconds))
    lines += [_line(["process", *stages]), _line(["---"] + ["---:"] * len(stages))]
    lines += [
        _line(
            [
                f"{path.parent.name}, {path.name}",
                *(f"{seconds.get(name, 0.0):.0f}" for name in stages),
            ]
        )
        for path, seconds in spent.items()
    ]
    return "\n".join(lines) + "\n"


def _curve_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("seed*/*/curve.json"))


def machine() -> str:
    """Name the machine: cores, processor, torch."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        processor = models[0] if models else processor
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores ({processor}), {device}, torch {torch.__version__}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _success(task: str, row: dict[str, Any]) -> str:
    return f" / {row['success_last']:.2f}" if MT80[task].suite == "metaworld" else ""


def _task_cells(rows: Sequence[dict[str, Any]], *tasks: str, label: str | None = None) -> list[str]:
    def column(method: str, name: str) -> np.ndarray:
        mine = [row for row in rows if row["task"] in tasks and row["method"] == method]
        by_seed: dict[int, list[float]] = {}
        for row in mine:
            by_seed.setdefault(row["seed"], []).append(row[name])
        return np.asarray([np.mean(values) for values in by_seed.values()])

    def spread(method: str, name: str, digits: int = 0) -> str:
        values = column(method, name)
        more = f" +- {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
        return f"{values.mean():.{digits}f}{more}"

    successes = ["-", "-"]
    if MT80[tasks[0]].suite == "metaworld":
        successes = [spread("pwm", "success_any", 2), spread("pwm", "success_last", 2)]
    return [
        label or tasks[0],
        f"**{spread('pwm', 'return')}**",
        f"{column('pwm', 'return_min').min():.0f}",
        *successes,
        spread("pwm", "score", 2),
        f"{column('pwm', 'gap').mean():+.2f}",
        spread("cloning", "return"),
        spread("random", "return"),
    ]


def plot_curves(folder: Path, seeds: Sequence[int]) -> None:
    """Plot return against learning minutes, one panel per task, one line per seed."""
    lines_of: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for path in _curve_files(folder):
        seed = int(path.parent.parent.name.removeprefix("seed"))
        for point in json.loads(path.read_text())["curve"]:
            for task, summary in point["tasks"].items():
                line = lines_of.setdefault(task, {}).setdefault(seed, [])
                line.append((point["seconds"] / 60.0, summary["return"]))
    tasks = list(lines_of)
    colors = dict(
        zip(seeds, plt.get_cmap("viridis")(np.linspace(0.1, 0.8, len(seeds))), strict=True)
    )
    columns = min(4, len(tasks))
    lines = -(-len(tasks) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.2 * columns, 2.6 * lines), squeeze=False, sharex=True
    )
    for axis, task in zip(axes.flat, tasks, strict=False):
        for seed, line in lines_of[task].items():
            minutes, returns = zip(*line, strict=True)
            axis.plot(
                minutes, returns, marker="o", markersize=3, color=colors[seed], label=f"seed {seed}"
            )
        axis.set_title(task, fontsize=10)
        axis.set_ylim(bottom=0.0)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(tasks) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("learning minutes")
    for axis in axes[:, 0]:
        axis.set_ylabel("return")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    write_atomic(folder / "curves.png", lambda part: figure.savefig(part, dpi=120, format="png"))
    plt.close(figure)
