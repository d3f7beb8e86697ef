"""Shares policies out over populations, as few as memory allows."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence

from paper.extraction import OfflinePreset, Place, Policy, updates_done
from paper.memory import footprint, free_bytes
from pwm_sdk import Execution, WorldModel

USED = 0.8  # of the free memory


def share_out(
    policies: Sequence[Policy],
    preset: OfflinePreset,
    place: Place,
    model: WorldModel,
    jobs: int,
    population: int | None,
) -> list[list[Policy]]:
    """Group the policies that are not finished; say on stderr how and why.

    Args:
        policies: all of the run.
        preset: what to run.
        place: where they are kept.
        model: their world model.
        jobs: processes that learn at once and share the free memory.
        population: largest number in a group; None: as many as fit.

    Returns:
        Groups of equally many updates and about equal sizes.
    """
    pending = [policy for policy in policies if place.read(policy, "scores.json") is None]
    if not pending:
        return []
    need, free = footprint(model, preset), free_bytes(place.device)
    fits = max(1, int(USED * free / jobs / need.total))
    largest = min(population or fits, math.ceil(len(pending) / jobs))
    groups = grouped(pending, [updates_done(policy, place) for policy in pending], largest)
    asked = "" if population is None or population <= fits else f", {fits} would fit"
    print(
        f"policies to learn: {len(pending)}; populations: {len(groups)} of at most {largest} "
        f"(about {need.total / 1e6:,.0f} MB a policy, {free / 1e9:,.1f} GB free, "
        f"{jobs} at once{asked}); updates in {_words(place.execution)}",
        file=sys.stderr,
    )
    return groups


def _words(execution: Execution) -> str:
    compiled, graphs = execution.compile, execution.cuda_graphs
    return f"{execution.precision}{', compiled' * compiled}{', as CUDA graphs' * graphs}"


def grouped(policies: Sequence[Policy], done: Sequence[int], largest: int) -> list[list[Policy]]:
    """Split policies into groups of equally many updates done, at most `largest` in each."""
    alike: dict[int, list[Policy]] = defaultdict(list)
    for policy, updates in zip(policies, done, strict=True):
        alike[updates].append(policy)
    groups = []
    for mine in alike.values():
        count = math.ceil(len(mine) / largest)
        groups += [
            mine[i * len(mine) // count : (i + 1) * len(mine) // count] for i in range(count)
        ]
    return groups
