"""Measure how fast everything is, in one process with variants interleaved, and print the tables.

    python benchmarks/throughput.py                            # all groups but factors
    python benchmarks/throughput.py --groups update --limit 60 # also updates of up to a minute
    python benchmarks/throughput.py --groups environments --tasks mw-reach cup-spin --steps 50
    python benchmarks/throughput.py --groups simulators        # 64 states at once against one
    python benchmarks/throughput.py --profile                  # a trace and the ten largest costs

Everything goes to benchmarks/results/<date>_<machine>/ as Markdown and CSV.
"""

from __future__ import annotations

import datetime
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro
from tqdm import tqdm

import machine
from command_line import check_counts, refused
from pwm_sdk import MT80
from speed import stepping_report
from speed.lockstep import measure_pools, pool_table
from speed.stepping import Plan, Workers, measure

Name = Literal[
    "update", "factors", "population", "model", "action", "sampling", "environments", "simulators"
]
COUNTS = ("batches", "populations", "observations", "rows", "rounds", "threads", "steps", "workers")


@dataclass(frozen=True)
class Arguments:
    """Time updates of policies and models, actions, sampling and environment steps."""

    groups: tuple[Name, ...] = tuple(name for name in get_args(Name) if name != "factors")
    """What to time. factors: the baseline of the updates with one change at a time."""
    sizes: tuple[int, ...] = (5, 48)
    """Published sizes, in millions of parameters."""
    batches: tuple[int, ...] = (64, 512)
    """Starts of an update, windows of a training step."""
    populations: tuple[int, ...] = (8,)
    """Policies learned at once."""
    variants: tuple[str, ...] = ()
    """Executions of our update, for example ours and ours-compiled; all if none is given."""
    observations: tuple[int, ...] = (1, 16, 128)
    """Observations that actions are chosen for at once."""
    rows: tuple[int, ...] = (200_000, 2_000_000, 20_000_000)
    """Rows of the datasets to sample from; they take 190 bytes each in the temporary folder."""
    rounds: int = 5
    """Readings of each variant, interleaved; the tables have medians and quartiles."""
    limit: float = 5.0
    """Seconds; what would take longer for a single call is named and not measured."""
    device: str = "cpu"
    """Where models run."""
    threads: int = 1
    """Threads of torch; with one, seconds are those of the processor."""
    tasks: tuple[str, ...] = ()
    """Environments by task; all 80 if none is given."""
    steps: int = 50
    """Agent steps of one reading of an environment."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Processes that step environments at once; one per core by default."""
    profile: bool = False
    """Only write a trace and the ten largest costs, of the first size and batch."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Folder of the results; by default benchmarks/results/<date>_<machine>."""


def main() -> None:
    """Measure, print and write."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    names = _checked(arguments)
    folder = arguments.out or _folder()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.profile or set(arguments.groups) != {"environments"}:
        # With torch, which processes that step environments would import in vain.
        from speed import groups

        groups.run(arguments, folder)
    if "environments" in arguments.groups and not arguments.profile:
        _environments(arguments, names, folder)
    if "simulators" in arguments.groups and not arguments.profile:
        from speed.simulators import measure_simulators, simulator_table

        text = simulator_table(measure_simulators(arguments.steps, arguments.rounds))
        (folder / "simulators.md").write_text(text, encoding="utf-8")
        print(text)
    print(f"Written to {folder}")


def _environments(arguments: Arguments, names: list[str], folder: Path) -> None:
    plan = Plan(arguments.steps, arguments.rounds, arguments.workers or machine.cores())
    load = machine.load()
    with Workers(plan.workers) as workers:
        progress = tqdm(names, disable=not sys.stderr.isatty())
        readings = [measure(name, plan, workers) for name in progress]
    pools = pool_table(measure_pools(names, plan), readings, plan)
    text = stepping_report.report(readings, plan, load) + pools
    (folder / "environments.md").write_text(text, encoding="utf-8")
    stepping_report.write_csv(folder / "environments.csv", readings)
    print(text)


def _folder() -> Path:
    results = Path(__file__).resolve().parent / "results"
    return results / f"{datetime.date.today()}_{machine.slug()}"


def _checked(arguments: Arguments) -> list[str]:
    """Names of the environments, once every argument makes sense."""
    check_counts(arguments, *COUNTS)
    with refused("--tasks"):
        return [MT80[name].name for name in arguments.tasks or MT80.names]


if __name__ == "__main__":
    main()
