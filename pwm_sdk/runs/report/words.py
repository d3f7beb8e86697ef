"""How a report names methods and writes numbers, and what it says first."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from pwm_sdk.runs.report.aggregates import Estimate, Row, matrix, methods_of, tasks_of

__all__ = ["counted", "fill", "interval", "label_of", "spread", "verdict"]

LABELS = {
    "pwm": "PWM",
    "mppi": "MPPI",
    "shac": "SHAC",
    "tdmpc2": "TD-MPC2",
    "sac": "SAC",
    "ppo": "PPO",
    "dreamerv3": "DreamerV3",
}
LEARNED = 0.1  # of the score, beyond the baseline's


def label_of(method: str) -> str:
    """Return a method's name in tables and plots."""
    return LABELS.get(method, method)


def fill(text: str) -> str:
    """Break a paragraph into lines."""
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not 1."""
    return f"{number} {noun}{'s' * (number != 1)}"


def spread(values: np.ndarray, digits: int = 2) -> str:
    """Return "mean +- deviation" of values of several seeds; "-" where there are none."""
    if not len(values):
        return "-"
    more = f" +- {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{more}"


def interval(estimate: Estimate, digits: int = 2) -> str:
    """Return a value with its interval in brackets, where it has one."""
    text = f"{estimate.value:.{digits}f}"
    if estimate.low is None:
        return text
    return f"{text} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def verdict(rows: Sequence[Row], baseline: str = "random", named: int = 4) -> str:
    """Say in a sentence which tasks the first method has learned, beside a baseline.

    A task counts as learned where the mean score is at least 0.1 above the baseline's; where a task
    has no score, where the return of each seed is above all of the baseline's.

    Args:
        rows: one per seed, task and method, with "return" and, where it is defined, "score".
        baseline: the method that has learned nothing.
        named: so many tasks of each kind are named at most.

    Returns:
        The sentence; "" where no task has both.
    """
    method = next((m for m in methods_of(rows) if m != baseline), baseline)
    learned, not_learned = [], []
    for task in tasks_of(rows):
        scored = all(len(matrix(rows, m, "score", [task])) for m in (method, baseline))
        column, digits = ("score", 2) if scored else ("return", 0)
        mine, base = (matrix(rows, m, column, [task]) for m in (method, baseline))
        if not len(mine) or not len(base) or method == baseline:
            continue
        fine = mine.mean() >= base.mean() + LEARNED if scored else mine.min() > base.max()
        said = f"{task} {mine.mean():.{digits}f} ({baseline} {base.mean():.{digits}f})"
        (learned if fine else not_learned).append(said)
    if not learned and not not_learned:
        return ""
    tasks = counted(len(learned) + len(not_learned), "task")
    parts = [f"{label_of(method)} learned {len(learned) or 'none'} of {tasks}"]
    parts += [_named(learned, named)] * bool(learned)
    text = ": ".join(parts)
    return f"{text}; not learned: {_named(not_learned, named)}." if not_learned else f"{text}."


def _named(parts: Sequence[str], most: int) -> str:
    more = [f"{len(parts) - most} more"] if len(parts) > most else []
    return ", ".join([*parts[:most], *more])
