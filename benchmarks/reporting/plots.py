"""The plots of a report: learning curves, performance profile, bars per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from pwm_sdk import MT80, Task, write_atomic
from reporting.aggregates import Row, matrix, methods_of, profile, tasks_of
from reporting.published import METHODS, Published
from reporting.tables import label_of, suites_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Readable with colour-blind eyes (Okabe and Ito).
COLORS = {
    "pwm": "#0072B2",
    "mppi": "#E69F00",
    "cloning": "#009E73",
    "random": "#777777",
    "shac": "#D55E00",
    "tdmpc2": "#E69F00",  # beside mppi in no plot
    "sac": "#CC79A7",
    "ppo": "#56B4E9",
    "dreamerv3": "#009E73",  # beside cloning in no plot
}
OTHERS = ("#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000", "#009E73", "#E69F00")
# Marker and height within a bar, so that equal values stay apart.
MARKS = {"PWM": ("D", -0.24), "TD-MPC2": ("s", 0.0), "DreamerV3(max over training)": ("^", 0.24)}

WHISKER = "worst to best seed"

Curves = dict[str, dict[int, list[tuple[float, float]]]]


def save(figure: Any, folder: Path, name: str) -> None:
    """Write a figure as PNG and SVG, the same bytes for the same figure, and close it."""
    with matplotlib.rc_context({"svg.hashsalt": name}):
        for kind, data in (("png", {}), ("svg", {"metadata": {"Date": None}})):
            write_atomic(
                folder / f"{name}.{kind}",
                lambda part, kind=kind, data=data: figure.savefig(
                    part, dpi=120, format=kind, bbox_inches="tight", **data
                ),
            )
    plt.close(figure)


def colors_of(methods: Sequence[str]) -> dict[str, str]:
    """Return one colour per method, the same in all plots."""
    taken = {COLORS[method] for method in methods if method in COLORS}
    free = [color for color in OTHERS if color not in taken] or list(OTHERS)
    others = iter(free * len(methods))
    return {method: COLORS.get(method) or next(others) for method in methods}


def plot_curves(folder: Path, lines_of: Curves) -> bool:
    """Plot return against learning minutes, one panel per task, one line per seed.

    Args:
        folder: gets curves.png and curves.svg.
        lines_of: task -> seed -> (minutes, return) of each reading; nothing is drawn where empty.
    """
    if not lines_of:
        return False
    seeds = sorted({seed for lines in lines_of.values() for seed in lines})
    shades = plt.get_cmap("viridis")(np.linspace(0.1, 0.8, len(seeds)))
    colors = dict(zip(seeds, shades, strict=True))
    columns = min(4, len(lines_of))
    count = -(-len(lines_of) // columns)
    figure, axes = plt.subplots(
        count, columns, figsize=(3.2 * columns, 2.5 * count + 0.4), squeeze=False, sharex=True
    )
    for axis, (task, lines) in zip(axes.flat, lines_of.items(), strict=False):
        for seed in sorted(lines):
            minutes, returns = zip(*lines[seed], strict=True)
            axis.plot(
                minutes, returns, marker="o", markersize=3, color=colors[seed], label=f"seed {seed}"
            )
        axis.set_title(task, fontsize=10)
        axis.set_ylim(bottom=0.0)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(lines_of) :]:
        axis.set_visible(False)
    # The lowest panel of each column names the axis, also where the last line is not full.
    for column in range(columns):
        lowest = axes[(len(lines_of) - 1 - column) // columns, column]
        lowest.set_xlabel("learning minutes")
        lowest.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("return")
    figure.tight_layout()
    handles = [plt.Line2D([], [], color=colors[s], marker="o", markersize=3) for s in seeds]
    _legend_above(figure, handles, [f"seed {seed}" for seed in seeds])
    save(figure, folder, "curves")
    return True


def plot_profile(folder: Path, rows: Sequence[Row], published: Published) -> bool:
    """Plot, for each method, the share of (seed, task) pairs above each score.

    Args:
        folder: gets profile.png and profile.svg; nothing is drawn where no method has a score for
            every task.
        rows: rows of scores.csv.
        published: its methods that published every task are drawn dashed.
    """
    tasks, methods = tasks_of(rows), methods_of(rows)
    colors, thresholds = colors_of(methods), np.round(np.linspace(0.0, 1.0, 51), 2)
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    for method in methods:
        scores = matrix(rows, method, "score", tasks)
        if not scores.size:
            continue
        mine = profile(scores, thresholds)
        seeds = f"{len(scores)} seed{'s' * (len(scores) > 1)}"
        label = f"{label_of(method)} ({seeds})"
        axis.step(thresholds, mine.share, where="post", color=colors[method], label=label)
        if mine.low is not None and mine.high is not None:
            axis.fill_between(
                thresholds, mine.low, mine.high, step="post", color=colors[method], alpha=0.2, lw=0
            )
    for (source, (label, _)), dashes in zip(METHODS.items(), ("--", ":", "-."), strict=True):
        values = published.values(source, tasks, "score")
        if values is not None:
            share = profile(np.asarray([values]), thresholds).share
            axis.step(
                thresholds, share, where="post", color="black", ls=dashes, lw=1.2, label=label
            )
    if not axis.lines:
        plt.close(figure)
        return False
    axis.set_xlabel("score")
    axis.set_ylabel("share of seeds and tasks above")
    axis.set_xlim(0.0, 1.0)
    axis.set_ylim(0.0, 1.02)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    save(figure, folder, "profile")
    return True


def plot_bars(folder: Path, rows: Sequence[Row], published: Published) -> bool:
    """Plot the score, and the return as a share of its maximum, of each task.

    The first method is a bar with a whisker from the worst to the best seed; the other methods are
    short lines; published values are hollow marks.

    Args:
        folder: gets bars.png and bars.svg; nothing is drawn where no row has a score.
        rows: rows of scores.csv.
        published: drawn as hollow marks.
    """
    if not any("score" in row for row in rows):
        return False
    groups = suites_of(tasks_of(rows))
    places, y = {}, 0.0
    for group in groups:
        places.update({task: y + i for i, task in enumerate(group.tasks)})
        y += len(group.tasks) + 1.0
    panels = [("score", "score")]
    if any(MT80[task].suite == "metaworld" for task in places):  # elsewhere the two are the same
        panels.append(("return", "return / maximum (2000 Meta-World, 1000 dm_control)"))
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(1.0 + 4.5 * len(panels), 1.0 + 0.24 * y),
        sharey=True,
        squeeze=False,
        gridspec_kw={"wspace": 0.06},
    )
    for axis, (column, title) in zip(axes[0], panels, strict=True):
        _draw_bars(axis, rows, column, places)
        _draw_published(axis, published, column, places)
        _dress(axis, title)
    axes[0, 0].set_yticks(list(places.values()), list(places), fontsize=8)
    axes[0, 0].set_ylim(y - 1.4, -0.6)
    entries = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    first = [label for label in (label_of(methods_of(rows)[0]), WHISKER) if label in entries]
    labels = [*first, *(label for label in entries if label not in first)]
    _legend_above(figure, [entries[label] for label in labels], labels)
    save(figure, folder, "bars")
    return True


def _dress(axis: Any, title: str) -> None:
    """Label an axis of bars below and above: with 80 tasks one end is out of sight."""
    axis.set_xlabel(title, fontsize=9)
    axis.set_xlim(-0.02, 1.03)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.tick_params(axis="x", labelsize=8, top=True, labeltop=True)
    axis.tick_params(axis="y", length=0)
    axis.spines["right"].set_visible(False)


def _draw_bars(axis: Any, rows: Sequence[Row], column: str, places: dict[str, float]) -> None:
    methods = methods_of(rows)
    colors = colors_of(methods)
    for method in methods:
        found = {task: matrix(rows, method, column, [task])[:, 0] for task in places}
        found = {t: _share(values, t, column) for t, values in found.items() if len(values)}
        if not found:
            continue
        y = np.asarray([places[task] for task in found])
        means = np.asarray([values.mean() for values in found.values()])
        style = {"color": colors[method], "label": label_of(method)}
        if method != methods[0]:
            axis.scatter(means, y, marker="|", s=70, linewidths=2.0, zorder=3, **style)
            continue
        axis.barh(y, means, height=0.7, alpha=0.55, **style)
        if any(len(values) > 1 for values in found.values()):
            low = [values.mean() - values.min() for values in found.values()]
            high = [values.max() - values.mean() for values in found.values()]
            reach = np.maximum([low, high], 0.0)  # a mean of equals may round below them
            axis.errorbar(
                means, y, xerr=reach, fmt="none", ecolor="#333333", lw=1, zorder=4, label=WHISKER
            )


def _draw_published(axis: Any, published: Published, column: str, places: dict[str, float]) -> None:
    for source, (label, _) in METHODS.items():
        mark, offset = MARKS[source]
        found = {task: published.value(source, task, column) for task in places}
        known = {task: value for task, value in found.items() if value is not None}
        if known:
            axis.scatter(
                [float(_share(np.asarray(v), t, column)) for t, v in known.items()],
                [places[task] + offset for task in known],
                marker=mark,
                s=15,
                facecolors="none",
                edgecolors="black",
                linewidths=0.9,
                zorder=5,
                label=label,
                clip_on=False,
            )


def _share(values: np.ndarray, task: str, column: str) -> np.ndarray:
    return values / largest_return(MT80[task]) if column == "return" else values


def largest_return(task: Task) -> float:
    """Return what the largest reward at every step of an episode adds up to."""
    return task.episode_length * task.reward_scale


def _legend_above(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put one legend above all panels, at a distance in inches whatever the figure's height."""
    lines = -(-len(labels) // max(1, int(figure.get_figwidth() / 1.25)))
    top = max(axis.get_position().y1 for axis in figure.axes)
    above = top + 0.28 / figure.get_figheight()
    figure.legend(
        handles,
        labels,
        loc="lower center",
        bbox_to_anchor=(0.5, above),
        ncols=-(-len(labels) // lines),
        fontsize=8,
        frameon=False,
    )
