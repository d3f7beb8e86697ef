"""Times simulators that step a batch at once against single environments of the same task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from pwm_sdk import EnvPool, Pool, RandomBehaviour, make_gym, make_pool, transitions
from pwm_sdk.runs import markdown

TASKS = ("mass-spring", "hopper-forward", "swimmer-152")
BATCH = 64


@dataclass(frozen=True)
class SimulatorReading:
    """Medians over the rounds for one task, in agent steps per second of processor time.

    Args:
        task: name of the task.
        single: of a pool of one environment.
        batch: of a pool of `BATCH` that steps at once.
        collected: the same as `transitions` collects them, random actions and packing included.
    """

    task: str
    single: float
    batch: float
    collected: float


def measure_simulators(
    steps: int, rounds: int, tasks: Sequence[str] = TASKS
) -> list[SimulatorReading]:
    """Step every task in turns, in one process and one thread."""
    torch.set_num_threads(1)
    return [_measure(name, steps, rounds) for name in tasks]


def simulator_table(readings: Sequence[SimulatorReading]) -> str:
    """The table of simulators."""
    head = ("task", "single", f"{BATCH} at once", "gain", "by `transitions`")
    lines = [
        (r.task, f"{r.single:,.0f}", f"{r.batch:,.0f}", f"x{r.batch / r.single:.1f}",
         f"{r.collected:,.0f}")
        for r in readings
    ]  # fmt: skip
    return (
        "Agent steps per second of processor time: a pool of one environment, and "
        f"`make_pool(task, batch={BATCH})`.\n\n" + markdown(head, lines) + "\n"
    )


def _measure(name: str, steps: int, rounds: int) -> SimulatorReading:
    alone, batch = EnvPool([make_gym(name, seed=0)]), make_pool(name, BATCH, seed=0)
    width = batch.action_dims[0]
    stream = transitions(batch, RandomBehaviour(BATCH, width, 0), max(1, steps // 4))
    rates: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        rates[0].append(_rate(alone, steps))
        rates[1].append(_rate(batch, max(1, steps // 4)))
        begin = time.process_time()
        rows = next(stream).numel()
        rates[2].append(rows / (time.process_time() - begin))
    return SimulatorReading(name, *map(median, rates))


def _rate(pool: Pool, steps: int) -> float:
    """Agent steps of all rows per second of processor time, without resets."""
    rows, rng = list(range(len(pool))), np.random.default_rng(0)
    shape = (steps, len(rows), pool.action_dims[0])
    actions = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    pool.reset_many(rows)
    spent = 0.0
    for action in actions:
        begin = time.process_time()
        ended = pool.step_many(rows, action)
        spent += time.process_time() - begin
        again = [
            i for i, step in zip(rows, ended, strict=True) if step.terminated or step.truncated
        ]
        pool.reset_many(again)
    return steps * len(rows) / spent
