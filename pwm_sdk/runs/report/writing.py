"""The report of whatever runs lie in a folder: scores.csv, curves.png and report.md."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pwm_sdk.calls import checked
from pwm_sdk.checkpoints.reading import read_json
from pwm_sdk.checks import file_path, positive
from pwm_sdk.keys import TASK
from pwm_sdk.runs.report.aggregates import RESAMPLES, Row, aggregate, matrix, methods_of, tasks_of
from pwm_sdk.runs.report.plots import Curves, plot_curves
from pwm_sdk.runs.report.words import counted, fill, interval, label_of, spread, verdict
from pwm_sdk.runs.tables import markdown, write_csv, write_text
from pwm_sdk.tasks import BUILT_IN

__all__ = ["read_curves", "write_report"]

CURVE = "curve.json"
START = "before learning"
UNITS = {"steps": ("environment steps", 1.0), "seconds": ("learning minutes", 60.0)}
HOW = (
    "Mean of the last reading of each run, +- standard deviation over seeds. Learned means a score "
    "at least 0.1 above that before learning or, without a score, a return above it in each seed."
)
SCORE = (
    "Score: the return divided by that of a very good policy, or success at the last step where "
    "the task says so (`Task.score`)."
)
NEGATIVE = "A score below 0 is a return below 0, as where rewards are costs."
AGGREGATES = (
    "Mean and median are over the tasks' means; IQM is the mean of the middle half of all seeds "
    "and tasks. Brackets: 95 % stratified bootstrap over seeds within each task "
    f"(rliable, {RESAMPLES} resamples, fixed seed)."
)


@checked()
def write_report(
    folder: str | os.PathLike[str],
    *,
    scale: Mapping[str, float] | None = None,
    against: str | None = None,
) -> str:
    """Write report.md, curves.png and scores.csv of the runs in a folder; needs `[report]`.

    Each `curve.json` below the folder, as a `Run` writes it, is a run. A folder of its path that is
    called `seed0`, `seed1`, ... says its seed, the others its method: `ppo/seed3` or, for a run
    alone, the folder's own name.

    Args:
        folder: where the runs lie.
        scale: return that scores 1, by task; without, a task of the package has its own score and
            any other none.
        against: "steps" or "seconds": what the curves are drawn against; None: steps, where all
            runs counted them.

    Returns:
        The report, in Markdown.

    Raises:
        ValueError: if there is no run with a reading, a file is damaged, or a scale not positive.
        ImportError: if matplotlib or rliable is not installed.
    """
    place = file_path(folder=folder).expanduser().absolute()
    if against is not None and against not in UNITS:
        raise ValueError(f"against must be one of {', '.join(UNITS)}, got {against!r}")
    if scale:
        positive(scale=list(scale.values()))
    runs = read_curves(place)
    rows = [row for run in runs for row in _rows(*run, scale or {}, -1)]
    first = [row for run in runs for row in _rows(*run, scale or {}, 0)]
    counted_all = all("steps" in point for *_, points in runs for point in points)
    column = against or ("steps" if counted_all else "seconds")
    label, unit = UNITS[column]
    drawn: Curves = {}
    for method, seed, points in runs:
        for point in points:
            for task, reading in point["tasks"].items():
                line = drawn.setdefault(task, {}).setdefault(method, {}).setdefault(seed, [])
                line.append((point[column] / unit, reading["return"]))
    plot_curves(place, drawn, label)
    write_csv(place / "scores.csv", rows)
    text = _text(place.name, rows, first)
    write_text(place / "report.md", text)
    return text


def read_curves(folder: Path) -> list[tuple[str, int, list[dict[str, Any]]]]:
    """Return method, seed and readings of each run below a folder.

    Raises:
        ValueError: if there is none, or a file is damaged.
    """
    found = []
    for path in sorted(folder.rglob(CURVE)):
        parts = path.parent.relative_to(folder).parts
        seeds = [part for part in parts if re.fullmatch(r"seed\d+", part)]
        method = "/".join(part for part in parts if part not in seeds) or folder.name
        points = read_json(path, dict).get("curve", [])
        if points:
            found.append((method, int(seeds[-1][4:]) if seeds else 0, points))
    if not found:
        raise ValueError(f"folder must hold a run with readings ({CURVE}), got none in {folder}")
    return found


def _rows(
    method: str, seed: int, points: Sequence[Mapping[str, Any]], scale: Mapping[str, float], at: int
) -> list[Row]:
    """Return the rows of one reading, with scores where they are defined."""
    point = points[at]
    spent = {name: point[name] for name in ("updates", "steps") if name in point}
    spent["minutes"] = point["seconds"] / 60.0
    rows = []
    for task, reading in point["tasks"].items():
        row: Row = {"seed": seed, "task": task, "method": method, **reading, **spent}
        if task in scale:
            row["score"] = reading["return"] / scale[task]
        elif task in BUILT_IN.names:
            known = BUILT_IN[task]
            if known.score_scale is not None or "success_last" in reading:
                row["score"] = known.score(reading["return"], reading.get("success_last", 0.0))
        rows.append(row)
    return rows


def _text(name: str, rows: Sequence[Row], first: Sequence[Row]) -> str:
    tasks, methods = tasks_of(rows), methods_of(rows)
    seeds = {row["seed"] for row in rows}
    sizes = [counted(len(tasks), "task"), counted(len(seeds), "seed")]
    sizes = [counted(len(methods), "method")] * (len(methods) > 1) + sizes
    parts = [f"# {name}: {', '.join(sizes)}"]
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        start = [{**row, "method": START} for row in first if row["method"] == method]
        said = verdict([*mine, *start], START)
        parts += [f"**{fill(said)}**"] * bool(said)
    parts += [fill(HOW), markdown(["task", *map(label_of, methods)], _cells(rows, "return", 0))]
    scored = [task for task in tasks if any(r[TASK] == task and "score" in r for r in rows)]
    if scored:
        shown = [row for row in rows if row[TASK] in scored]
        negative = any(row.get("score", 0.0) < 0.0 for row in rows)
        parts += ["## Score", fill(SCORE + f" {NEGATIVE}" * negative)]
        parts += [markdown(["task", *map(label_of, methods)], _cells(shown, "score", 2))]
        parts += _aggregates(shown, scored, methods)
    parts.append("![curves](curves.png)")
    return "\n\n".join(parts) + "\n"


def _cells(rows: Sequence[Row], column: str, digits: int) -> list[list[str]]:
    methods = methods_of(rows)
    return [
        [task, *(spread(matrix(rows, m, column, [task])[:, 0], digits) for m in methods)]
        for task in tasks_of(rows)
    ]


def _aggregates(rows: Sequence[Row], tasks: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Aggregates over tasks and seeds, where they say more than the table above."""
    lines = []
    for method in methods:
        scores = matrix(rows, method, "score", tasks)
        if scores.size > 2:
            cells = [interval(estimate, 3) for estimate in aggregate(scores).values()]
            lines.append([label_of(method), str(len(scores)), *cells])
    if not lines:
        return []
    head = ["method", "seeds", "mean", "median", "IQM"]
    return ["## Over all tasks", markdown(head, lines), fill(AGGREGATES)]
