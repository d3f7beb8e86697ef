"""Aggregates over seeds and tasks, with rliable's stratified bootstrap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from pwm_sdk.keys import TASK

__all__ = [
    "RESAMPLES",
    "Estimate",
    "Profile",
    "Row",
    "aggregate",
    "matrix",
    "methods_of",
    "profile",
    "tasks_of",
]

Row = dict[str, Any]
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A value and its 95 % interval; no interval where there is one seed only."""

    value: float
    low: float | None = None
    high: float | None = None


class Profile(NamedTuple):
    """Share of (seed, task) pairs whose score is above each threshold, with its 95 % band."""

    share: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def tasks_of(rows: Sequence[Row]) -> list[str]:
    """Return the tasks, in order of appearance."""
    return list(dict.fromkeys(row[TASK] for row in rows))


def methods_of(rows: Sequence[Row]) -> list[str]:
    """Return the methods: PWM first, then the planner on its model, then the others in order."""
    found = list(dict.fromkeys(row["method"] for row in rows))
    first = [method for method in ("pwm", "mppi") if method in found]
    return first + [method for method in found if method not in first]


def matrix(rows: Sequence[Row], method: str, column: str, tasks: Sequence[str]) -> np.ndarray:
    """Arrange a column of one method as [seeds, tasks].

    Args:
        rows: rows of scores.csv.
        method: the method.
        column: the column.
        tasks: the tasks, in the order of the columns of the result.

    Returns:
        Values of the seeds that have all `tasks`; [0, tasks] where no seed has.
    """
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["method"] == method and row[TASK] in tasks and column in row:
            found.setdefault(row["seed"], {})[row[TASK]] = row[column]
    complete = [found[seed] for seed in sorted(found) if len(found[seed]) == len(tasks)]
    values = [[mine[task] for task in tasks] for mine in complete]
    return np.asarray(values, dtype=np.float64).reshape(len(values), len(tasks))


def aggregate(scores: np.ndarray) -> dict[str, Estimate]:
    """Return mean, median and interquartile mean with 95 % intervals.

    The mean and the median are taken over the tasks' means. The interquartile mean (IQM) is the
    mean of the middle half of all values. Intervals: stratified bootstrap, which resamples seeds
    within each task.

    Args:
        scores: [seeds, tasks], at least one of each.

    Returns:
        "mean", "median" and "IQM".

    Raises:
        ValueError: if the matrix has another shape or is empty, or values are not finite.

    Source: Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice".
    """
    _check(scores)
    library, metrics = _rliable()
    names = ("mean", "median", "IQM")
    functions = (metrics.aggregate_mean, metrics.aggregate_median, metrics.aggregate_iqm)

    def all_of(values: np.ndarray) -> np.ndarray:
        return np.asarray([function(values) for function in functions])

    points = all_of(scores)
    if len(scores) == 1:
        return {name: Estimate(float(point)) for name, point in zip(names, points, strict=True)}
    with _seeded():
        _, intervals = library.get_interval_estimates({"": scores}, all_of, reps=RESAMPLES)
    columns = zip(names, points, *intervals[""], strict=True)
    return {
        name: Estimate(float(point), float(low), float(high)) for name, point, low, high in columns
    }


def profile(scores: np.ndarray, thresholds: np.ndarray) -> Profile:
    """Return the performance profile: the share of values above each threshold.

    Args:
        scores: [seeds, tasks], at least one of each.
        thresholds: [n], rising.

    Returns:
        Shares [n] in 0..1, with a 95 % band where there are several seeds.

    Raises:
        ValueError: if the matrix has another shape or is empty, or values are not finite.
    """
    _check(scores)
    library, _ = _rliable()
    if len(scores) == 1:
        return Profile(library.score_distributions(scores, thresholds))
    with _seeded():
        shares, bands = library.create_performance_profile({"": scores}, thresholds, reps=RESAMPLES)
    return Profile(shares[""], *bands[""])


def _rliable() -> tuple[Any, Any]:
    try:
        from rliable import library, metrics
    except ImportError as error:
        message = 'rliable must be installed: pip install "pwm-sdk[report]"'
        raise ImportError(message) from error
    return library, metrics


def _check(scores: np.ndarray) -> None:
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"scores must be a filled [seeds, tasks] matrix, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, got {scores}")


@contextmanager
def _seeded(seed: int = 0) -> Iterator[None]:
    """Fix NumPy's global stream for a while: rliable draws from it, whatever it is handed."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
