"""The plots of the benchmark's report: performance profile, bars per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pwm_sdk import MT80, Task
from pwm_sdk.runs.report import (
    Row,
    colors_of,
    label_of,
    legend_above,
    matrix,
    methods_of,
    profile,
    save_figure,
    subplots,
    tasks_of,
)
from reporting.published import METHODS, Published
from reporting.tables import suites_of

# Marker and height within a bar, so that equal values stay apart.
MARKS = {"PWM": ("D", -0.24), "TD-MPC2": ("s", 0.0), "DreamerV3(max over training)": ("^", 0.24)}

WHISKER = "worst to best seed"


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
    figure, axes = subplots(size=(6.4, 4.2))
    axis = axes[0, 0]
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
        return False
    axis.set_xlabel("score")
    axis.set_ylabel("share of seeds and tasks above")
    axis.set_xlim(0.0, 1.0)
    axis.set_ylim(0.0, 1.02)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    save_figure(figure, folder, "profile")
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
    size = (1.0 + 4.5 * len(panels), 1.0 + 0.24 * y)
    figure, axes = subplots(1, len(panels), size, sharey=True, gridspec_kw={"wspace": 0.06})
    for axis, (column, title) in zip(axes[0], panels, strict=True):
        _draw_bars(axis, rows, column, places)
        _draw_published(axis, published, column, places)
        _dress(axis, title)
    axes[0, 0].set_yticks(list(places.values()), list(places), fontsize=8)
    axes[0, 0].set_ylim(y - 1.4, -0.6)
    entries = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    first = [label for label in (label_of(methods_of(rows)[0]), WHISKER) if label in entries]
    labels = [*first, *(label for label in entries if label not in first)]
    legend_above(figure, [entries[label] for label in labels], labels)
    save_figure(figure, folder, "bars")
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
