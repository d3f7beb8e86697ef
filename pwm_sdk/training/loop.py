"""One update after another: the loop of every agent, with its schedule, hooks and resuming."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk.calls import checked, least, or_nothing, outside
from pwm_sdk.checkpoints.reading import load_state
from pwm_sdk.checkpoints.writing import save_state
from pwm_sdk.checks import file_path, whole
from pwm_sdk.contract.agents import (
    Batches,
    DecayingAgent,
    PlacedAgent,
    SeededBatches,
    TrainableAgent,
    WatchedAgent,
)
from pwm_sdk.generators import random_state, set_random_state
from pwm_sdk.optim import linear_decay

Hook = Callable[[int, Mapping[str, Tensor]], None]
Source: TypeAlias = Batches | Iterable[Any]


@checked(updates=(least(1), or_nothing), save_every=least(1))
def fit(
    agent: TrainableAgent,
    batches: Source | None,
    updates: int | None,
    *,
    schedule: Callable[[float], float] | None = None,
    hooks: Sequence[Hook] = (),
    path: str | os.PathLike[str] | None = None,
    save_every: int = 1000,
) -> dict[str, float]:
    """Update an agent from one batch after another, under a schedule of learning rates.

    Args:
        agent: any algorithm of the package, or an object with its `updates`, `update(batch)`,
            `set_learning_rates(factor)`, `state_dict()` and `load_state_dict(state)`; optionally
            `decay_floor`, `device`, to which batches are moved, and, where losses are read now and
            then only, `check_finite()`.
        batches: where batches come from: `sample()`, as a `ReplayBuffer`, its `starts` or a
            `Prefetcher` have it, or an iterable, as `transitions`, `SAC.replayed` or a collector;
            the loop ends where that ends. None: for an agent that makes its own data, as `SHAC`.
        updates: number of updates in this call, counted from where `path` says that it began. None:
            until an iterable ends, at the learning rates that the agent has.
        schedule: maps the share of the updates that are done, in [0, 1), to the factor of all
            learning rates. None: a straight line to the agent's `decay_floor` (0.02 if it has
            none); see `linear_decay`.
        hooks: each is called after every update, with `agent.updates` and its metrics. After a
            `KeyboardInterrupt` of one `path` is written first.
        path: where everything that the loop changes is kept, with the random numbers of batches
            that have a `generator`; an interrupted call is repeated to continue, to the bit (on a
            GPU: not seen). What iterables have yielded is the caller's. None: nothing is kept.
        save_every: updates between two writes of `path`.

    Returns:
        The metrics of the last update, averaged over the policies of a population that go on; empty
        where there was none.

    Raises:
        ValueError: if there is less than one update, no number of updates for a schedule or for
            batches without an end, a loss is not finite (seen at the latest before the next write
            of `path` and at the end), or the file is damaged, of another version, agent or size, or
            would run code (build the agent again then).
    """
    if updates is None and (schedule is not None or not _ends(batches)):
        raise ValueError("updates must be a number but for an iterable without schedule, got None")
    if schedule is None:
        schedule = partial(linear_decay, floor=_floor_of(agent))
    file = None if path is None else file_path(path=path).absolute()  # a hook may go elsewhere
    begin = agent.updates
    if file is not None and file.exists():
        begin = _restore(file, agent, batches)
    rates = None if updates is None else _rates(schedule, begin, updates)
    metrics = _train(agent, batches, rates, hooks, _File(file, begin, save_every, updates))
    return {name: float(value.nanmean()) for name, value in metrics.items()}


class _File(NamedTuple):
    """Where the state of a loop is kept, and when."""

    path: Path | None
    begin: int
    every: int
    updates: int | None

    @property
    def goal(self) -> int | None:
        """Number of updates at the end; None where the batches say when that is."""
        return None if self.updates is None else self.begin + self.updates


def _train(
    agent: TrainableAgent,
    batches: Source | None,
    rates: Callable[[int], float] | None,
    hooks: Sequence[Hook],
    file: _File,
) -> Mapping[str, Tensor]:
    """Update until the goal or the end of the batches; returns the last metrics."""
    check_finite = agent.check_finite if isinstance(agent, WatchedAgent) else _nothing
    metrics: Mapping[str, Tensor] = {}
    kept, improve = agent.updates, outside(agent.update)  # the first batch is checked
    for batch in _drawn(agent, batches, file.goal):
        if rates is not None:
            agent.set_learning_rates(rates(agent.updates))
        metrics, improve = improve(batch), agent.update
        saving = file.path is not None and agent.updates % file.every == 0
        if saving or agent.updates == file.goal:
            check_finite()
            kept = _keep(file, agent, batches)
        try:
            for hook in hooks:
                outside(hook)(agent.updates, metrics)
        except KeyboardInterrupt:
            _keep(file, agent, batches)
            raise
    if kept != agent.updates:  # the batches ended
        check_finite()
        _keep(file, agent, batches)
    return metrics


def _rates(schedule: Callable[[float], float], begin: int, updates: int) -> Callable[[int], float]:
    """Return what maps the number of updates to the factor of the learning rates."""
    return lambda done: outside(schedule)((done - begin) / updates)


def _nothing() -> None:
    """Do nothing: the agent reads all its losses."""


def _ends(batches: Source | None) -> bool:
    return batches is not None and not isinstance(batches, Batches)


def _floor_of(agent: TrainableAgent) -> float:
    return agent.decay_floor if isinstance(agent, DecayingAgent) else 0.02


def _drawn(agent: TrainableAgent, batches: Source | None, goal: int | None) -> Iterator[Any]:
    """Draw batches on the agent's device until it has done `goal` updates, or they end."""
    device = agent.device if isinstance(agent, PlacedAgent) else None
    sample = batches.sample if isinstance(batches, Batches) else None
    stream = None if batches is None or isinstance(batches, Batches) else iter(batches)
    while goal is None or agent.updates < goal:
        if stream is not None:
            try:
                batch = outside(next)(stream)
            except StopIteration:
                return
        else:
            batch = None if sample is None else sample()
        yield batch if device is None else _moved(batch, device)


def _moved(batch: object, device: torch.device) -> Any:
    if isinstance(batch, (Tensor, TensorDictBase)):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: _moved(value, device) for name, value in batch.items()}
    return batch


def _keep(file: _File, agent: TrainableAgent, batches: Source | None) -> int:
    """Write everything that the loop changes, where there is a file; returns the updates done."""
    if file.path is not None:
        state: dict[str, Any] = {
            "algorithm": agent.state_dict(),
            "begin": file.begin,
            "torch_rng": random_state(),
        }
        if isinstance(batches, SeededBatches) and batches.generator is not None:
            state["replay_rng"] = batches.generator.get_state()
        save_state(file.path, state)
    return agent.updates


def _restore(file: Path, agent: TrainableAgent, batches: Source | None) -> int:
    """Read what `_keep` wrote; returns the updates that were done when the call began."""
    state = load_state(file)
    try:
        agent.load_state_dict(state["algorithm"])
        begin = whole(0, begin=state.get("begin", 0))  # files of before count from none
        whole(begin, updates=agent.updates)
        set_random_state(state["torch_rng"])
        if "replay_rng" in state:
            seeded: Any = batches
            seeded.generator.set_state(state["replay_rng"])
    except Exception as error:  # a state of something else can fail in any way
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"{file} must be a state of this {type(agent).__name__} and its batches, got "
            f"another ({reason}): delete it to start over"
        ) from error
    return begin
