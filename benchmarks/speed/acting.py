"""The group `action`: choosing actions, by the policy and by planning, for one or many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from pwm_sdk import MPPI, MT80, Critic, FirstOrderActor, WorldModel
from speed.bench import Bench, Variant
from speed.rows import Group, Row
from speed.timing import operations, repeated
from speed.transcription import PublishedUpdate
from speed.updates import BASELINE, TASK, published_agent, same_weights

GROUP = Group(
    "action",
    "Choosing actions",
    "From observations to mean actions, all at once. MPPI: 512 candidates, 6 iterations, 3 steps, "
    "in the same world model\nwith the same actor and critic, a fresh plan for every call.",
    count="observations",
    baseline=BASELINE,
)
POLICY, PLAN = "policy", "MPPI"


def rows_of_actions(bench: Bench, sizes: Sequence[int], counts: Sequence[int]) -> list[Row]:
    """Time policy and planner of every size for every number of observations."""
    rows: list[Row] = []
    for size in sizes:
        published = published_agent(size, bench.device)
        model, actor, critic = same_weights(published)
        for what, variants in (
            (POLICY, {BASELINE: published_policy(published), "ours": policy(model, actor)}),
            (PLAN, {"ours": planner(model, actor, critic)}),
        ):
            rows += _series(bench, what, size, sorted(counts), variants)
    return rows


def _series(
    bench: Bench,
    what: str,
    size: int,
    counts: Sequence[int],
    variants: dict[str, Callable[[Tensor], Tensor]],
) -> list[Row]:
    """Rows of ever more observations, until they take too long."""
    rows: list[Row] = []
    mine: list[Row] = []
    for count in counts:
        if note := bench.forecast(mine, count):
            rows.append(Row(GROUP.name, what, size, count, "ours", note=note))
            continue
        observation = torch.randn(count, MT80.observation_dim, device=bench.device)
        found = []
        for name, act in variants.items():
            read = repeated(what, partial(act, observation), bench.seconds)
            found.append(Variant(name, read, operations(read)))
        mine = bench.measure(GROUP, size, count, found)
        rows += mine
    return rows


def published_policy(agent: PublishedUpdate) -> Callable[[Tensor], Tensor]:
    """The published program's, which records a graph."""
    return lambda observation: agent.actor(agent.model.encode(observation, TASK))


def policy(model: WorldModel, actor: FirstOrderActor) -> Callable[[Tensor], Tensor]:
    """Ours, without a graph."""

    @torch.inference_mode()
    def act(observation: Tensor) -> Tensor:
        task = torch.full((len(observation),), TASK, device=observation.device)
        return actor(model.encode(observation, task))

    return act


def planner(
    model: WorldModel, actor: FirstOrderActor, critic: Critic
) -> Callable[[Tensor], Tensor]:
    """MPPI, forgetting its plan before every call."""
    mppi = MPPI(model, actor, critic)

    def plan(observation: Tensor) -> Tensor:
        mppi.reset()
        return mppi.plan(observation, TASK)

    return plan
