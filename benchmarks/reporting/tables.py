"""The tables of a report, in Markdown, from the rows of scores.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pwm_sdk import MT80
from pwm_sdk.runs import markdown
from pwm_sdk.runs.report import (
    Row,
    aggregate,
    interval,
    label_of,
    matrix,
    methods_of,
    spread,
    tasks_of,
)
from reporting.published import METHODS, Published

SUITES = {"metaworld": "Meta-World", "dmcontrol": "dm_control"}
DIGITS = {"return": 0, "return_min": 0}


class Group(NamedTuple):
    """Tasks that are averaged together."""

    label: str
    tasks: list[str]


def suites_of(tasks: Sequence[str]) -> list[Group]:
    """Split the tasks by suite."""
    split = [(label, [t for t in tasks if MT80[t].suite == s]) for s, label in SUITES.items()]
    return [Group(label, mine) for label, mine in split if mine]


def score_table(rows: Sequence[Row], published: Published) -> str:
    """Return the table of scores: one line per task, one per suite."""
    tasks, methods = tasks_of(rows), methods_of(rows)
    columns = [column for column in _columns(rows, methods) if _known(rows, *column[1:])]
    source = next(iter(METHODS))
    shown = any(published.value(source, task, "score") is not None for task in tasks)
    lines = []
    for group in [*(Group(t, [t]) for t in tasks), *_means(tasks)]:
        cells = [_cell(rows, group.tasks, method, name) for _, method, name in columns]
        if shown:
            cells.append(_published(published, source, group.tasks, "score"))
        lines.append([group.label, *cells])
    head = ["task", *(title for title, *_ in columns)]
    return markdown(head + [f"{METHODS[source][0]} score"] * shown, lines)


def _columns(rows: Sequence[Row], methods: Sequence[str]) -> list[tuple[str, str, str]]:
    """Title, method and column of scores.csv: the first method in full, the others in short."""
    main, *others = methods
    columns = [
        ("return", main, "return"),
        ("worst", main, "return_min"),
        ("success any", main, "success_any"),
        ("success last", main, "success_last"),
        ("score", main, "score"),
        ("gap", main, "gap"),
        ("ms/action", main, "ms_per_action"),
    ]
    for other in others:
        columns.append((label_of(other), other, "return"))
        columns.append((f"{label_of(other)} ms/action", other, "ms_per_action"))
    return columns


def _known(rows: Sequence[Row], method: str, column: str) -> bool:
    """Tell whether a column says anything; success does for Meta-World only."""
    if column.startswith("success"):
        rows = [row for row in rows if MT80[row["task"]].suite == "metaworld"]
    return any(row["method"] == method and column in row for row in rows)


def _means(tasks: Sequence[str]) -> list[Group]:
    """Return the suites of several tasks: the mean of one is that task."""
    return [Group(f"mean, {label}", mine) for label, mine in suites_of(tasks) if len(mine) > 1]


def _cell(rows: Sequence[Row], tasks: Sequence[str], method: str, column: str) -> str:
    if column.startswith("success") and MT80[tasks[0]].suite != "metaworld":
        return "-"
    if column in ("return_min", "gap", "ms_per_action"):
        values = matrix(rows, method, column, tasks)
        if not values.size:
            return "-"
        if column == "return_min":
            return f"{values.min():.0f}"
        return f"{values.mean():{'+' if column == 'gap' else ''}.2f}"
    text = _spread(rows, method, column, tasks)
    main = methods_of(rows)[0]
    return f"**{text}**" if (method, column) == (main, "return") and text != "-" else text


def _spread(rows: Sequence[Row], method: str, column: str, tasks: Sequence[str]) -> str:
    """Return "mean +- deviation" over the seeds that have all `tasks`."""
    return spread(matrix(rows, method, column, tasks).mean(axis=1), DIGITS.get(column, 2))


def _published(published: Published, method: str, tasks: Sequence[str], column: str) -> str:
    values = published.values(method, tasks, column)
    return "-" if values is None else f"{sum(values) / len(values):.{DIGITS.get(column, 2)}f}"


def published_table(rows: Sequence[Row], published: Published) -> str:
    """Return measured return and score beside the published ones; "" where nothing is published."""
    tasks, main = tasks_of(rows), methods_of(rows)[0]
    sources = published.methods(tasks)
    if not sources:
        return ""
    head, lines = ["task"], [[g.label] for g in (*(Group(t, [t]) for t in tasks), *_means(tasks))]
    groups = [*([task] for task in tasks), *(group.tasks for group in _means(tasks))]
    for column in ("return", "score"):
        head += [column, *(f"{METHODS[source][0]} {column}" for source in sources)]
        for line, mine in zip(lines, groups, strict=True):
            line.append(_spread(rows, main, column, mine))
            line += [_published(published, source, mine, column) for source in sources]
    return markdown(head, lines)


def aggregate_table(rows: Sequence[Row], published: Published) -> str:
    """Return mean, median and IQM of score, return and success, per method and suite.

    Of two values or one all three are the same: where no method has more there is no line, as the
    tables above have them.
    """
    tasks, methods = tasks_of(rows), methods_of(rows)
    lines = []
    for group, column in _quantities(tasks):
        found = {method: matrix(rows, method, column, group.tasks) for method in methods}
        if all(scores.size <= 2 for scores in found.values()):
            continue
        shown = [(label_of(m), str(len(own)), own) for m, own in found.items() if own.size]
        for source, (label, basis) in METHODS.items():
            values = published.values(source, group.tasks, column)
            if values is not None:
                shown.append((label, basis, np.asarray([values])))
        name = f"{column.replace('_', ' ')}, {group.label}"
        for label, basis, scores in shown:
            cells = [interval(e, DIGITS.get(column, 3)) for e in aggregate(scores).values()]
            lines.append([name, label, basis, *cells])
    head = ["quantity", "method", "seeds", "mean", "median", "IQM"]
    return markdown(head, lines) if lines else ""


def _quantities(tasks: Sequence[str]) -> list[tuple[Group, str]]:
    """Return what is averaged: the score over all tasks, returns and success within a suite."""
    wanted = [(Group(f"{len(tasks)} task{'s' * (len(tasks) > 1)}", list(tasks)), "score")]
    for group in suites_of(tasks):
        wanted.append((group, "return"))
        if MT80[group.tasks[0]].suite == "metaworld":
            wanted += [(group, "success_any"), (group, "success_last")]
    return wanted


def seed_table(rows: Sequence[Row]) -> str:
    """Return the return of every seed, and success at the last step for Meta-World."""
    main = methods_of(rows)[0]
    seeds = sorted({row["seed"] for row in rows})
    mine = {(row["task"], row["seed"]): row for row in rows if row["method"] == main}
    lines = [
        [task, *(_seed_cell(mine.get((task, s), {})) for s in seeds)] for task in tasks_of(rows)
    ]
    return markdown(["task", *(f"seed {seed}" for seed in seeds)], lines)


def _seed_cell(row: Row) -> str:
    if "return" not in row:
        return "-"
    metaworld = MT80[row["task"]].suite == "metaworld" and "success_last" in row
    return f"{row['return']:.0f}" + (f" / {row['success_last']:.2f}" if metaworld else "")


def seconds_table(spent: dict[Path, dict[str, float]]) -> str:
    """Return the seconds of each stage, one line per process."""
    stages = list(dict.fromkeys(name for seconds in spent.values() for name in seconds))
    lines = [
        [f"{path.parent.name}, {path.name}", *(f"{own.get(stage, 0.0):.0f}" for stage in stages)]
        for path, own in spent.items()
    ]
    return markdown(["process", *stages], lines)
