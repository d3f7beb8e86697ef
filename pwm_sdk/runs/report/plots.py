"""Learning curves, and what all figures share: colours, legends, files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.runs.report.words import label_of

__all__ = [
    "Curves",
    "colors_of",
    "legend_above",
    "plot_curves",
    "save_figure",
    "shades",
    "subplots",
]

# of matplotlib, which is imported when needed
Axes: TypeAlias = Any
Figure: TypeAlias = Any

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

Lines = dict[str, dict[int, list[tuple[float, float]]]]
"""method -> seed -> (x, return) of each reading."""

Curves = dict[str, Lines]
"""task -> method -> seed -> (x, return) of each reading."""


def subplots(
    rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None, **more: object
) -> tuple[Any, Any]:
    """Return a figure of matplotlib that no window shows, with its axes `[rows, columns]`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Made
    except ImportError as error:
        message = 'matplotlib must be installed: pip install "pwm-sdk[report]"'
        raise ImportError(message) from error
    figure: Figure = Made(figsize=size)
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and SVG, the same bytes for the same figure."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name}):
        for kind, data in (("png", {}), ("svg", {"metadata": {"Date": None}})):
            write_atomic(
                folder / f"{name}.{kind}",
                lambda part, kind=kind, data=data: figure.savefig(
                    part, dpi=120, format=kind, bbox_inches="tight", **data
                ),
            )


def colors_of(methods: Sequence[str]) -> dict[str, str]:
    """Return one colour per method, the same in all plots."""
    taken = {COLORS[method] for method in methods if method in COLORS}
    free = [color for color in OTHERS if color not in taken] or list(OTHERS)
    others = iter(free * len(methods))
    return {method: COLORS.get(method) or next(others) for method in methods}


def shades(count: int) -> Any:
    """Return colours from dark to light, `[count, 4]`."""
    import matplotlib

    return matplotlib.colormaps["viridis"](np.linspace(0.1, 0.8, count))


def legend_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
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


def plot_curves(folder: Path, curves: Curves, label: str = "learning minutes") -> bool:
    """Plot return against what was spent, one panel per task, one line per method and seed.

    Seeds of one method alone differ in shade; several methods by colour, with a thick line
    for the mean of their seeds as far as all of them go.

    Args:
        folder: gets curves.png and curves.svg.
        curves: task -> method -> seed -> (x, return) of each reading; nothing is drawn where empty.
        label: what x is.

    Returns:
        Whether anything was drawn.
    """
    if not curves:
        return False
    methods = list(dict.fromkeys(method for lines in curves.values() for method in lines))
    columns = min(4, len(curves))
    count = -(-len(curves) // columns)
    size = (3.2 * columns, 2.5 * count + 0.4)
    figure, axes = subplots(count, columns, size, sharex=True)
    draw = _draw_seeds if len(methods) == 1 else _draw_methods
    entries: dict[str, Any] = {}
    for axis, (task, lines) in zip(axes.flat, curves.items(), strict=False):
        entries.update(draw(axis, lines, curves))
        axis.set_title(task, fontsize=10)
        if all(y >= 0.0 for seeds in lines.values() for line in seeds.values() for _, y in line):
            axis.set_ylim(bottom=0.0)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    # The lowest panel of each column names the axis, also where the last line is not full.
    for column in range(columns):
        lowest = axes[(len(curves) - 1 - column) // columns, column]
        lowest.set_xlabel(label)
        lowest.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("return")
    _shorten(axes[0, 0])
    figure.tight_layout()
    legend_above(figure, list(entries.values()), list(entries))
    save_figure(figure, folder, "curves")
    return True


def _shorten(axis: Axes) -> None:
    """Write 20000 as 20k on an axis that all panels share."""
    from matplotlib.ticker import EngFormatter

    if axis.get_xlim()[1] >= 1000.0:
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_seeds(axis: Axes, lines: Lines, curves: Curves) -> dict[str, Any]:
    """Draw the seeds of the only method; returns the legend's entries."""
    own = [by_seed for methods in curves.values() for by_seed in methods.values()]
    seeds = sorted({seed for by_seed in own for seed in by_seed})
    colors = dict(zip(seeds, shades(len(seeds)), strict=True))
    entries = {}
    for by_seed in lines.values():
        for seed in sorted(by_seed):
            x, y = zip(*by_seed[seed], strict=True)
            style = {"marker": "o", "markersize": 3, "color": colors[seed]}
            (entries[f"seed {seed}"],) = axis.plot(x, y, label=f"seed {seed}", **style)
    return dict(sorted(entries.items(), key=lambda entry: int(entry[0].split()[1])))


def _draw_methods(axis: Axes, lines: Lines, curves: Curves) -> dict[str, Any]:
    """Draw several methods, each with its seeds and their mean; returns the legend's entries."""
    colors = colors_of(list(dict.fromkeys(m for methods in curves.values() for m in methods)))
    entries = {}
    for method, by_seed in lines.items():
        for line in by_seed.values():
            axis.plot(*zip(*line, strict=True), color=colors[method], lw=0.8, alpha=0.4)
        end = min(line[-1][0] for line in by_seed.values())
        x = np.linspace(min(line[0][0] for line in by_seed.values()), end, 101)
        points = [np.asarray(line).T for line in by_seed.values()]
        mean = np.mean([np.interp(x, own[0], own[1]) for own in points], axis=0)
        (entries[label_of(method)],) = axis.plot(x, mean, color=colors[method], lw=2.0)
    return entries
