"""Published scores of other programs: figures that were taken over, not measured here."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pwm_sdk import MT80

FILE = Path(__file__).with_name("published_scores.csv")
BENCHMARKS = ("MT30", "MT80")
SINGLE_TASK = "DMC-single-task"
COLUMNS = ("benchmark", "task", "method", "metric", "mean", "std", "n_seeds", "source")
METRICS = ("reward", "success", "score")
# Name in the file -> name in reports, what one value is a mean over.
METHODS = {
    "PWM": ("published PWM", "1 seed, 10 episodes"),
    "TD-MPC2": ("published TD-MPC2", "1 model, 10 episodes"),
    "DreamerV3(max over training)": ("published DreamerV3", "5 seeds"),
}


class Figure(NamedTuple):
    """One published figure; a task such as `_MEAN_` is an aggregate over the benchmark."""

    benchmark: str
    task: str
    method: str
    metric: str
    value: float
    source: str


def load_published(path: Path = FILE) -> list[Figure]:
    """Read the published figures and check each of them.

    Args:
        path: CSV file with the columns of `COLUMNS`.

    Returns:
        The figures, in the order of the file.

    Raises:
        ValueError: for other columns, an unknown benchmark, method, metric or task, a value out of
            range, a figure without source, or one that is there twice.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"columns of {path} must be {COLUMNS}, got {reader.fieldnames}")
        figures = [_figure(row, f"{path.name} line {reader.line_num}") for row in reader]
    seen = set()
    for figure in figures:
        if figure[:4] in seen:
            raise ValueError(f"figures must be there once, got {figure[:4]} twice")
        seen.add(figure[:4])
    return figures


def _figure(row: dict[str, str], place: str) -> Figure:
    for column, allowed in (
        ("benchmark", (*BENCHMARKS, SINGLE_TASK)),
        ("method", tuple(METHODS)),
        ("metric", METRICS),
    ):
        if row[column] not in allowed:
            raise ValueError(f"{column} must be one of {allowed}, got {row[column]!r} in {place}")
    if not row["task"].startswith("_") and row["task"] not in MT80.names:
        raise ValueError(f"task must be one of MT80, got {row['task']!r} in {place}")
    if not row["source"]:
        raise ValueError(f"source must name where the figure is from, got none in {place}")
    try:
        value = float(row["mean"])
    except ValueError:
        value = math.nan
    highest = 2000.0 if row["metric"] == "reward" else 1.0
    if not 0.0 <= value <= highest:
        raise ValueError(f"mean must be in 0..{highest:.0f}, got {row['mean']!r} in {place}")
    return Figure(row["benchmark"], row["task"], row["method"], row["metric"], value, row["source"])


class Published:
    """The published values that belong beside a run on one benchmark.

    Args:
        benchmark: "MT30" or "MT80": which of the two multi-task models is compared with. DreamerV3
            has one agent per task and is the same for both.
        figures: the figures; those of the file by default.

    Raises:
        ValueError: for another benchmark.
    """

    def __init__(self, benchmark: str = "MT80", figures: Sequence[Figure] | None = None) -> None:
        if benchmark not in BENCHMARKS:
            raise ValueError(f"benchmark must be one of {BENCHMARKS}, got {benchmark!r}")
        self.benchmark = benchmark
        figures = load_published() if figures is None else figures
        self._figures = [f for f in figures if f.benchmark in (benchmark, SINGLE_TASK)]
        self._values = {(f.method, f.task, f.metric): f.value for f in self._figures}
        self._sources = {(f.method, f.task, f.metric): f.source for f in self._figures}

    def value(self, method: str, task: str, column: str) -> float | None:
        """Return a task's published value.

        Args:
            method: a key of `METHODS`.
            task: name of a task.
            column: "return", "success_last" or "score" as in scores.csv. The score is derived by
                `Task.score`, as everywhere.

        Returns:
            The value, None where nothing was published.
        """
        if column == "score":
            known = MT80[task]
            value = self.value(
                method, task, "success_last" if known.score_scale is None else "return"
            )
            return None if value is None else known.score(value, value)  # it reads one of the two
        metric = {"return": "reward", "success_last": "success"}.get(column, "")
        return self._values.get((method, task, metric))

    def values(self, method: str, tasks: Sequence[str], column: str) -> list[float] | None:
        """Return the values of all `tasks`, None where one of them was not published."""
        found = [self.value(method, task, column) for task in tasks]
        values = [value for value in found if value is not None]
        return values if values and len(values) == len(found) else None

    def methods(self, tasks: Sequence[str]) -> list[str]:
        """Return the methods that published at least one of `tasks`."""
        return [
            method
            for method in METHODS
            if any(self.value(method, task, "return") is not None for task in tasks)
        ]

    def aggregate(self, method: str, name: str) -> float | None:
        """Return the mean ("_MEAN_") or IQM ("_IQM_") of the score over the whole benchmark."""
        return self._values.get((method, name, "score"))

    def is_single_task(self, method: str) -> bool:
        """Tell whether a method has one agent per task."""
        return any(f.method == method and f.benchmark == SINGLE_TASK for f in self._figures)

    def basis(self, method: str) -> str:
        """Return what the aggregates of a method are over."""
        own = [f for f in self._figures if f.method == method and not f.task.startswith("_")]
        over = "one agent per task" if self.is_single_task(method) else self.benchmark
        return f"{len({f.task for f in own})} tasks ({over})"

    def sources(self, tasks: Sequence[str]) -> list[str]:
        """Return which files the values of `tasks` are from, each once."""
        files = {
            source.split(" (")[0] for (_, task, _), source in self._sources.items() if task in tasks
        }
        return sorted(files)
