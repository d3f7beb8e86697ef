"""The group `population`: P policies learned at once against one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from pwm_sdk import MT80, PWM, Critic, FirstOrderActor, Population, PWMConfig, WorldModel
from speed.bench import Bench, Variant
from speed.rows import Group, Quartiles, Row
from speed.timing import Meter, Reader, added_bytes, operations

ALONE = "one at a time"
GROUP = Group(
    "population",
    "An update of each of P policies",
    "By the published settings, in one frozen model. One at a time: P times an update of one "
    "policy. Policies per\nhour, of 10,000 updates each: 360 P / ms. MB: tensors held beyond those "
    "before the update.",
    count="starts of each",
    baseline=ALONE,
)


def rows_of_populations(
    bench: Bench, sizes: Sequence[int], batches: Sequence[int], populations: Sequence[int]
) -> list[Row]:
    """Time updates of every size, batch and number of policies, until they take too long."""
    rows: list[Row] = []
    for size in sizes:
        torch.manual_seed(0)
        model = WorldModel.from_size(size, MT80).requires_grad_(False).to(bench.device)
        mine = [single(bench, size, Updates(model, None, min(batches)))]
        for batch in sorted(batches):
            alone = Updates(model, None, batch)
            for count in sorted(populations):
                if note := bench.forecast(mine, count * batch):
                    what = f"{count} policies"
                    rows.append(Row(GROUP.name, what, size, batch, "all", note=note))
                    continue
                variants = [(ALONE, alone), ("at once", Updates(model, count, batch))]
                made = [variant(*each, count, bench.device) for each in variants]
                found = bench.measure(GROUP, size, batch, made)
                mine = [replace(row, count=count * batch) for row in found]  # starts of all
                rows += found
    return rows


def single(bench: Bench, size: int, updates: Updates) -> Row:
    """A first reading of one policy's update, from which those of more are foreseen."""
    updates()  # the first one builds the optimizers' state
    begin = bench.seconds()
    updates()
    ms = 1e3 * (bench.seconds() - begin)
    count = updates.batch["observation"].shape[0]
    return Row(GROUP.name, "1 policy", size, count, ALONE, ms=Quartiles(ms, ms, ms))


class Updates:
    """Policies in a model with a batch; a call updates each once.

    Args:
        model: frozen.
        population: number of policies; None: a single one.
        batch: starts of each.
    """

    def __init__(self, model: WorldModel, population: int | None, batch: int) -> None:
        device = next(model.parameters()).device
        actor = FirstOrderActor.published(model.latent_dim, model.action_dim, population=population)
        critic = Critic.published(model.latent_dim, population=population)
        parts: Any = model, actor.to(device), critic.to(device), PWMConfig.published()
        self.population = population
        self.pwm, shape = PWM(*parts), (batch,)
        if population is not None:
            self.pwm, shape = Population(*parts, seeds=range(population)), (population, batch)
        self.batch: Any = {
            "observation": torch.randn(*shape, model.observation_dim, device=device),
            "task": torch.zeros(shape, dtype=torch.int64, device=device),
        }

    def __call__(self) -> None:
        """Update."""
        self.pwm.update(self.batch)


def variant(name: str, updates: Updates, count: int, device: torch.device) -> Variant:
    """Say how updates of `count` policies are read; of a single one its time is multiplied."""
    times = count if updates.population is None else 1

    def read(meter: Meter) -> dict[str, float]:
        begin = meter()
        updates()
        return {f"{count} policies": times * (meter() - begin)}

    reader: Reader = read
    updates()  # the first one builds the optimizers' state
    held = added_bytes(updates, device) / 1e6
    return Variant(name, reader, flop=operations(reader), megabytes=held)
