"""The report of the diagnostics: tables of gradients and landscapes, and their plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from machine import describe
from pwm_sdk import read_json
from pwm_sdk.runs import markdown, write_text
from pwm_sdk.runs.report import save_figure, shades, subplots

OFFSETS = np.linspace(-0.5, 0.5, 41).tolist()
SHADES = {"SimNorm": "#0072B2", "plain": "#D55E00", "spectral": "#009E73"}
SOURCES = {
    "simulator": ("backpropagation, simulator", "-"),
    "model": ("backpropagation, world model", "--"),
    "score": ("score function, simulator", ":"),
}
PANELS = {
    "norm": ("norm of the mean", "log"),
    "variance": ("variance", "log"),
    "esnr": ("expected signal-to-noise ratio", "symlog"),
    "cosine": ("cosine to the simulator's gradient", "linear"),
}
NOTE = (
    "Median over seeds (lowest to highest). Variance and ESNR are those of one start's estimate, "
    "cosine and norm those of the mean over starts. Gain: what a step of 1 % of the parameters' "
    "norm along the mean adds to the simulator's return, from other starts and with other noise. "
    "Roughness: total variation of a landscape over its range, 1 where it is monotone."
)
Result = dict[str, Any]


def write_report(folder: Path, command: str) -> str:
    """Write report.md and the plots of all finished jobs; return the report.

    Args:
        folder: holds the JSON files of the jobs.
        command: what was run.
    """
    results = [read_json(path, dict) for path in sorted(folder.glob("*-seed*.json"))]
    horizons = read_json(folder / "config.json", dict)["horizons"]
    tasks = list(dict.fromkeys(result["task"] for result in results))
    parts = [f"# Diagnostics\n\n`{command}`, {describe()}. {NOTE}"]
    for task in tasks:
        mine = [result for result in results if result["task"] == task]
        plot_gradients(folder, task, mine, horizons)
        plot_landscapes(folder, task, mine)
        parts += [f"## {task}", about(mine), gradient_table(mine, horizons), landscape_table(mine)]
    text = "\n\n".join(parts) + "\n"
    write_text(folder / "report.md", text)
    return text


def about(results: Sequence[Result]) -> str:
    """Return seeds, minutes and the world models' errors in a sentence."""
    errors = [
        f"{name} {np.mean([r['models'][name]['updates'] for r in results]):.0f} updates, "
        f"{np.mean([r['models'][name]['reward_error'] for r in results]):.4f}"
        for name in results[0]["models"]
    ]
    seeds = ", ".join(str(result["seed"]) for result in results)
    minutes = np.mean([result["minutes"] for result in results])
    return (
        f"Seeds {seeds}; {minutes:.1f} processor minutes each. Updates and reward error over a "
        f"window, in variances of the reward: {'; '.join(errors)}."
    )


def gradient_table(results: Sequence[Result], horizons: Sequence[int]) -> str:
    """Return a row per world model, source and shown horizon."""
    columns, rows = [*PANELS, "gain"], []
    for name in results[0]["models"]:
        for source, (label, _) in SOURCES.items():
            for place in _shown(horizons):
                found = [_values(results, name, source, column)[:, place] for column in columns]
                rows.append([name, label, str(horizons[place]), *map(_cell, found)])
    return markdown(["policy on", "gradient by", "H", *columns], rows)


def landscape_table(results: Sequence[Result]) -> str:
    """Return a row per world model and horizon: roughness, and how real and imagined agree."""
    rows = []
    for name in results[0]["models"]:
        found = [result["models"][name]["landscape"] for result in results]
        for horizon in found[0]["model"]:
            rough = {
                source: [one[source][horizon]["roughness"] for one in found]
                for source in ("simulator", "model")
            }
            curves = [[one[s][horizon]["return"] for s in ("simulator", "model")] for one in found]
            agree = [np.corrcoef(real, imagined)[0, 1] for real, imagined in curves]
            rows.append([name, horizon, *map(_cell, (*rough.values(), agree))])
    head = ["policy on", "H", "roughness, real", "roughness, imagined", "correlation"]
    return markdown(head, rows)


def plot_gradients(
    folder: Path, task: str, results: Sequence[Result], horizons: Sequence[int]
) -> None:
    """Plot norm, variance, signal-to-noise and cosine against the horizon, all seeds.

    Args:
        folder: gets gradients-TASK.png and .svg.
        task: the task.
        results: its results, one per seed.
        horizons: H of each entry.
    """
    figure, axes = subplots(2, 2, (9.0, 6.0))
    for axis, (column, (title, scale)) in zip(axes.flat, PANELS.items(), strict=True):
        for name in results[0]["models"]:
            for source, (label, style) in SOURCES.items():
                if column == "cosine" and source == "simulator":
                    continue
                values = _values(results, name, source, column)
                middle = np.median(values, 0)
                axis.plot(horizons, middle, style, color=SHADES[name], label=f"{name}: {label}")
                axis.fill_between(
                    horizons, values.min(0), values.max(0), color=SHADES[name], alpha=0.12, lw=0
                )
        axis.set_xscale("log", base=2)
        axis.set_xticks(horizons, [str(horizon) for horizon in horizons])
        axis.set_yscale(scale, **({"linthresh": 0.01} if scale == "symlog" else {}))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("horizon", fontsize=9)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2,
                  fontsize=8, frameon=False)  # fmt: skip
    save_figure(figure, folder, f"gradients-{task}")


def plot_landscapes(folder: Path, task: str, results: Sequence[Result]) -> None:
    """Plot real and imagined returns along a random line, a panel per world model and horizon.

    Args:
        folder: gets landscape-TASK.png and .svg.
        task: the task.
        results: its results, one per seed.
    """
    models = list(results[0]["models"])
    horizons = list(results[0]["models"][models[0]]["landscape"]["model"])
    size = (4.5 * len(models), 2.8 * len(horizons))
    figure, axes = subplots(len(horizons), len(models), size, sharex=True, sharey="row")
    for row, horizon in zip(axes, horizons, strict=True):
        for axis, name in zip(row, models, strict=True):
            for result, shade in zip(results, shades(len(results)), strict=True):
                for source, style in (("simulator", "-"), ("model", "--")):
                    values = result["models"][name]["landscape"][source][horizon]["return"]
                    label = f"seed {result['seed']}, {'real' if style == '-' else 'imagined'}"
                    axis.plot(OFFSETS, values, style, color=shade, lw=1.2, label=label)
            axis.set_title(f"{name}, H = {horizon}", fontsize=10)
            axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("step along a random direction / norm of the parameters")
    for axis in axes[:, 0]:
        axis.set_ylabel("return")
    figure.tight_layout()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                  ncols=len(results), fontsize=8, frameon=False)  # fmt: skip
    save_figure(figure, folder, f"landscape-{task}")


def _shown(horizons: Sequence[int]) -> list[int]:
    """Places of the horizons in the table: every second one, the last among them."""
    return list(range(len(horizons)))[::-2][::-1]


def _values(results: Sequence[Result], name: str, source: str, column: str) -> np.ndarray:
    """One column of the statistics, `[seeds, horizons]`."""
    return np.asarray([r["models"][name]["gradients"][source][column] for r in results])


def _cell(values: Any) -> str:
    """The median of the seeds, and their range where there are several."""
    low, middle, high = (_short(value) for value in np.quantile(values, (0.0, 0.5, 1.0)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def _short(value: float) -> str:
    return f"{value:.2g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
