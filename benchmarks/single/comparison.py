"""The report of a comparison on single tasks: tables, aggregates and curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter

from machine import describe
from pwm_sdk.runs import markdown, write_csv, write_text
from pwm_sdk.runs.report import (
    Row,
    aggregate,
    colors_of,
    counted,
    interval,
    label_of,
    matrix,
    save_figure,
    spread,
    subplots,
    tasks_of,
)
from single.jobs import load_result

COSTS = {
    "steps": ("steps", 0),
    "minutes": ("minutes", 1),
    "cpu_minutes": ("CPU minutes", 1),
    "ms_per_action": ("ms per action", 2),
    "memory_mb": ("peak MB", 0),
}
AXES = {"steps": ("environment steps", 1.0), "seconds": ("learning minutes", 60.0)}
POINTS = 101


def write_comparison(folder: Path, about: dict[str, Any]) -> str:
    """Write scores.csv, curves.png and report.md of all finished jobs; return the report.

    Args:
        folder: the run's folder.
        about: "command", "minutes" of the call and "baseline", the method whose best return on a
            task counts as 1.

    Raises:
        ValueError: where no job is finished.
    """
    results = load_results(folder)
    rows = rows_of(results, about["baseline"])
    write_csv(folder / "scores.csv", rows)
    plot_curves(folder, results)
    text = comparison_text(folder.name, rows, {"absent": load_absent(folder), **about})
    write_text(folder / "report.md", text)
    return text


def load_results(folder: Path) -> list[dict[str, Any]]:
    """Read the results of all finished jobs, tasks and methods in alphabetical order."""
    paths = sorted(folder.glob("*/*/seed*/result.json"))
    if not paths:
        raise ValueError(f"folder must hold a finished job, got none: {folder}")
    found = [load_result(path.parent) for path in paths]
    results = [result for result in found if result is not None]
    return sorted(results, key=lambda r: (r["task"], r["method"], r["seed"]))


def load_absent(folder: Path) -> list[str]:
    """Say of each task and method that were asked for in vain why there is no job."""
    lines = []
    for path in sorted(folder.glob("*/*/absent.txt")):
        task, method = path.parts[-3:-1]
        lines.append(f"{label_of(method)} on {task}: {path.read_text()}.")
    return lines


def rows_of(results: Sequence[dict[str, Any]], baseline: str) -> list[Row]:
    """Return one row per job: its last reading, its costs and, where it is defined, its score.

    The score is the return divided by the baseline's best return on the task, over its seeds and
    readings; it is left out where the baseline is not known to have learned anything: where no
    return is above zero and above those of random actions, or random actions were not run.
    """
    best, chance = (_largest(results, method) for method in (baseline, "random"))
    rows = []
    for result in results:
        row = {name: value for name, value in result.items() if name != "curve"}
        row["minutes"], row["cpu_minutes"] = (
            row.pop(name) / 60.0 for name in ("seconds", "cpu_seconds")
        )
        if best.get(row["task"], 0.0) > max(0.0, chance.get(row["task"], np.inf)):
            row["score"] = row["return"] / best[row["task"]]
        rows.append(row)
    return rows


def _largest(results: Sequence[dict[str, Any]], method: str) -> dict[str, float]:
    """Return the largest reading of a method's seeds on each task that it was run on."""
    best: dict[str, float] = {}
    for result in results:
        if result["method"] == method:
            top = max(point["return"] for point in result["curve"])
            best[result["task"]] = max(top, best.get(result["task"], top))
    return best


def comparison_text(name: str, rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    tasks, methods = tasks_of(rows), order(rows)
    seeds, base = len({row["seed"] for row in rows}), label_of(about["baseline"])
    sizes = [counted(len(methods), "method"), counted(len(tasks), "task"), counted(seeds, "seed")]
    head = ["task", *map(label_of, methods)]
    parts = [
        f"# {name}: {', '.join(sizes)}",
        f"`{about['command']}`, {about['minutes']:.1f} minutes (of this call), {describe()}.",
        "Last evaluation of each job, mean over its seeds, +- standard deviation over seeds.",
        "## Return",
        markdown(head, _per_task(rows, tasks, methods, "return", 0)),
        *(["Not run: " + " ".join(about["absent"])] if about.get("absent") else []),
        *_left_out(rows),
    ]
    scored = list(dict.fromkeys(row["task"] for row in rows if "score" in row))
    parts.append(f"## Share of the best return of {base}")
    if scored:
        parts.append(markdown(head, _per_task(rows, tasks, methods, "score", 2)))
        if any(row.get("score", 0.0) < 0.0 for row in rows):
            parts.append("A share below 0 is a return below 0, as where rewards are costs.")
    if len(scored) < len(tasks):
        parts.append(_unscored(rows, [task for task in tasks if task not in scored], base))
    parts += [
        "## Over all tasks",
        f"Interquartile mean (IQM) and mean of the shares above ({counted(len(scored), 'task')}), "
        "and of the scaled returns (return over that of a very good policy, `Task.score_scale`; "
        f"{counted(len(tasks), 'task')}). 95 % "
        "stratified bootstrap intervals over seeds; only seeds that have every task.",
        markdown(
            ["method", "seeds", "share: IQM", "mean", "scaled: IQM", "mean"],
            _aggregates(rows, {"score": scored, "scaled": tasks}, methods),
        ),
    ]
    costs = [[label_of(m), *_costs(rows, m)] for m in methods]
    parts += [
        "## Cost",
        "Mean over jobs. Minutes are those of learning, without evaluation; where CPU minutes are "
        "fewer, the machine was shared or a GPU worked. Memory is that of the job's process.",
        markdown(["method", *(label for label, _ in COSTS.values())], costs),
        "![curves](curves.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _unscored(rows: Sequence[Row], tasks: Sequence[str], base: str) -> str:
    """Say why there is no share on some tasks."""
    played = {row["task"] for row in rows if row["method"] == "random"}
    reasons = {
        f"the method random was not run, so that {base} is not known to beat it": [
            task for task in tasks if task not in played
        ],
        f"no return of {base} is above zero and above those of random": [
            task for task in tasks if task in played
        ],
    }
    return " ".join(
        f"No share on {', '.join(found)}: {why}." for why, found in reasons.items() if found
    )


def _left_out(rows: Sequence[Row]) -> list[str]:
    """Say how many training episodes were too short for a method's windows."""
    found = [
        f"{row['left_out']:.0f} by {label_of(row['method'])} on {row['task']} (seed {row['seed']})"
        for row in rows
        if row.get("left_out")
    ]
    return ["Left out, being shorter than a window: " + ", ".join(found) + "."] if found else []


def order(rows: Sequence[Row]) -> list[str]:
    """Return the methods: PWM first, random last, the others by name."""
    names = sorted({row["method"] for row in rows})
    return sorted(names, key=lambda name: (name == "random") - (name == "pwm"))


def _per_task(
    rows: Sequence[Row], tasks: Sequence[str], methods: Sequence[str], column: str, digits: int
) -> list[list[str]]:
    cells = [[matrix(rows, m, column, [task])[:, 0] for m in methods] for task in tasks]
    return [
        [task, *(spread(values, digits) for values in line)]
        for task, line in zip(tasks, cells, strict=True)
    ]


def _aggregates(
    rows: Sequence[Row], columns: dict[str, Sequence[str]], methods: Sequence[str]
) -> list[list[str]]:
    lines = []
    for method in methods:
        cells, seeds = [], 0
        for column, tasks in columns.items():
            values = matrix(rows, method, column, tasks) if tasks else np.zeros((0, 0))
            found = aggregate(values) if values.size else {}
            cells += [interval(found[name]) if found else "-" for name in ("IQM", "mean")]
            seeds = max(seeds, len(values))
        lines.append([label_of(method), str(seeds), *cells])
    return lines


def _costs(rows: Sequence[Row], method: str) -> list[str]:
    mine = [row for row in rows if row["method"] == method]
    return [
        f"{np.mean([row[name] for row in mine]):.{digits}f}" for name, (_, digits) in COSTS.items()
    ]


def plot_curves(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """Plot return against environment steps, and below against learning minutes, a task a column.

    Lines are means over seeds, as far as every seed goes; bands reach from the worst to the best.
    """
    tasks = list(dict.fromkeys(result["task"] for result in results))
    methods = order(results)
    colors = colors_of(methods)
    size = (3.4 * len(tasks) + 1.0, 5.6)
    figure, axes = subplots(len(AXES), len(tasks), size)
    for line, (axis_name, (label, unit)) in zip(axes, AXES.items(), strict=True):
        for axis, task in zip(line, tasks, strict=True):
            for method in methods:
                mine = [r for r in results if r["task"] == task and r["method"] == method]
                if mine:
                    _draw(axis, mine, axis_name, unit, colors[method])
            _spread_out(axis)
            axis.set_xlabel(label)
            axis.grid(alpha=0.3)
        line[0].set_ylabel("return")
    for axis, task in zip(axes[0], tasks, strict=True):
        axis.set_title(task, fontsize=10)
    entries: dict[str, Any] = {}
    for axis in axes.flat:
        entries.update(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        ncols=len(entries),
        fontsize=8,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
    )
    figure.tight_layout()
    save_figure(figure, folder, "curves")


def _draw(axis: Any, mine: Sequence[dict[str, Any]], column: str, unit: float, color: str) -> None:
    """Draw the seeds of a method: a curve with its band, or a level where no step was taken."""
    style = {"color": color, "label": label_of(mine[0]["method"])}
    if not any(result["steps"] for result in mine):
        axis.axhline(np.mean([result["return"] for result in mine]), ls=":", lw=1.2, **style)
        return
    x, returns = common_grid([result["curve"] for result in mine], column, unit)
    axis.plot(x, returns.mean(0), lw=1.5, **style)
    axis.fill_between(x, returns.min(0), returns.max(0), color=color, alpha=0.15, lw=0)


def _spread_out(axis: Any) -> None:
    """Begin the x axis at 0; make it logarithmic where the shortest curve would not be seen."""
    ends = [x[-1] for x in (line.get_xdata() for line in axis.lines) if len(x) == POINTS]
    if ends and max(ends) > 20.0 * min(ends):
        axis.set_xscale("symlog", linthresh=10.0 ** np.floor(np.log10(min(ends) / 4.0)))
    elif ends and max(ends) >= 1000.0:
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 20k
    axis.set_xlim(left=0.0)


def common_grid(
    curves: Sequence[Sequence[dict[str, float]]], column: str, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the curves of several seeds over one x axis.

    Args:
        curves: of each seed, its readings in order.
        column: "steps" or "seconds".
        unit: x is divided by it.

    Returns:
        x [n] from 0 to where the shortest curve ends, and returns [seeds, n], interpolated; n is 1
        where a curve has no extent.
    """
    ends = [curve[-1][column] / unit for curve in curves]
    moved = all(len(curve) > 1 and end > 0.0 for curve, end in zip(curves, ends, strict=True))
    x = np.linspace(0.0, min(ends), POINTS) if moved else np.zeros(1)
    values = [
        np.interp(x, [p[column] / unit for p in curve], [p["return"] for p in curve])
        for curve in curves
    ]
    return x, np.asarray(values)
