"""Times pools of environments that step in lockstep, in this process and in workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from pwm_sdk import MT80, EnvPool, make_gym
from pwm_sdk.runs import markdown
from speed.stepping import Plan, Reading, steps_of, suite_of

MOST = 8  # environments of a pool


@dataclass(frozen=True)
class PoolReading:
    """Medians over the rounds for one suite.

    Args:
        suite: of the environments.
        count: number of environments.
        here: agent steps of all of them per second that passed, in this process.
        there: the same in workers.
    """

    suite: str
    count: int
    here: float
    there: float


def measure_pools(names: Sequence[str], plan: Plan) -> list[PoolReading]:
    """Step the first tasks of each suite together."""
    suites: dict[str, list[str]] = {}
    for name in names:
        suites.setdefault(suite_of(name), []).append(name)
    return [_measure(suite, mine[:MOST], plan) for suite, mine in suites.items()]


def _measure(suite: str, names: Sequence[str], plan: Plan) -> PoolReading:
    makers = [partial(make_gym, name, seed=i, padded=True) for i, name in enumerate(names)]
    steps = min(steps_of(name, plan) for name in names)
    shape = (steps, len(names), MT80.action_dim)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
    pools = EnvPool(makers), EnvPool(makers, plan.workers)
    rates: list[list[float]] = [[], []]
    for _ in range(plan.rounds):
        for pool, mine in zip(pools, rates, strict=True):
            pool.reset_many(range(len(names)))
            begin = time.perf_counter()
            for action in actions:
                pool.step_many(range(len(names)), action)
            mine.append(steps * len(names) / (time.perf_counter() - begin))
    for pool in pools:
        pool.close()
    return PoolReading(suite, len(names), *map(median, rates))


def pool_table(pools: Sequence[PoolReading], readings: Sequence[Reading], plan: Plan) -> str:
    """The table of pools, beside what workers reach that do not wait for each other."""
    head = ("suite", "environments", "in this process", f"in {plan.workers} workers", "gain")
    lines = []
    for pool in pools:
        free = median(r.steps_per_second["workers"] for r in readings if r.suite == pool.suite)
        rates = f"{pool.here:,.0f}", f"{pool.there:,.0f}", f"x{pool.there / pool.here:.2f}"
        lines.append((pool.suite, str(pool.count), *rates, f"{pool.there / free:.0%}"))
    return (
        "\nPools: environments of several tasks in lockstep, `EnvPool(..)` against "
        f"`EnvPool(.., workers={plan.workers})`: steps of all\nper second that passed, and as a "
        "share of those of workers that do not wait for each other.\n\n"
        + markdown((*head, "of free workers"), lines)
        + "\n"
    )
