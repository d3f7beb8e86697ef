"""Measure what a step of each simulator costs, and its gradient, on one core.

    python benchmarks/simulator_costs.py                            # all single tasks
    python benchmarks/simulator_costs.py --tasks dog-run swimmer-38
    python benchmarks/simulator_costs.py --tasks soft-body          # with the extra newton

Milliseconds of processor time per row and agent step; the gradient is that of the reward and the
next state by the action and the state.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import tyro

import machine
from command_line import check_counts
from pwm_sdk import SINGLE_TASKS, make_simulator


@dataclass(frozen=True)
class Arguments:
    """Time steps of simulators with and without their gradient."""

    tasks: tuple[str, ...] = ()
    """Names of `make_simulator`; all single tasks if none is given."""
    rows: int = 4
    """Rows of the batch."""
    rounds: int = 3
    """Readings, interleaved; the table has their medians."""


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    check_counts(arguments, "rows", "rounds")
    try:
        simulators = {
            name: make_simulator(name, threads=1) for name in arguments.tasks or SINGLE_TASKS.names
        }
    except (ImportError, ValueError) as error:
        raise SystemExit(f"--tasks: {error}") from None
    torch.set_num_threads(1)
    print(f"{machine.processor()}, one thread, {machine.load()}, torch {torch.__version__}\n")
    print("| task | actions | step, ms | with gradient, ms | ratio | steps/s with gradient |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, simulator in simulators.items():
        print(row(name, simulator, arguments.rows, arguments.rounds))
        sys.stdout.flush()


def row(name: str, simulator: Any, rows: int, rounds: int) -> str:
    """Measure a simulator; return its row of the table."""
    state = simulator.reset(rows, torch.Generator().manual_seed(0))
    action = torch.zeros(rows, simulator.action_dim)
    with torch.no_grad():  # get into motion
        for _ in range(3):
            state = simulator.step(state, action)[0]

    def step() -> None:
        with torch.no_grad():
            simulator.step(state, action)

    def differentiate() -> None:
        given = action.clone().requires_grad_(), state.clone().requires_grad_()
        following, reward, *_ = simulator.step(given[1], given[0])
        (following.sum() + reward.sum()).backward()

    plain, whole = _times(step, differentiate, rounds=rounds)
    plain, whole = 1000.0 * plain / rows, 1000.0 * whole / rows
    cells = name, f"{simulator.action_dim}", f"{plain:.2f}", f"{whole:.1f}"
    return f"| {' | '.join(cells)} | {whole / plain:.0f} | {1000.0 / whole:.0f} |"


def _times(*calls: Callable[[], Any], rounds: int) -> list[float]:
    """Median seconds of processor time of each call."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, mine in zip(calls, found, strict=True):
            begin = time.process_time()
            call()
            mine.append(time.process_time() - begin)
    return [median(times) for times in found]


if __name__ == "__main__":
    main()
