"""The contract of an agent, as a checker for users' own algorithms."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.calls import checked
from pwm_sdk.contract.abilities import lacks
from pwm_sdk.contract.agents import ActingPolicy, Agent
from pwm_sdk.contract.policies import population_of


@checked()
def check_agent(
    agent: object, batch: TensorDictBase | None, *, observation: Tensor | None = None
) -> None:
    """Check that `agent` is an `Agent`, by a few updates, and leave it as it was.

    Args:
        agent: the algorithm to check.
        batch: what its `update` takes; None for one that makes its own data.
        observation: a few observations `[N, O]` to act for, N at least 2, or P for P policies;
            None: rows of the batch.

    Raises:
        ValueError: naming the first point where the contract is broken: members, a count of updates
            that does not go up by one, metrics that are no detached tensors, a state that does not
            bring everything back, a policy or explorer that does not act for one and for several
            environments within their bounds, or weights that change at a learning rate of 0.
    """
    if missing := lacks(agent, Agent):
        raise ValueError(f"agent must have {', '.join(missing)}, got {type(agent).__name__}")
    if observation is not None and not bool(observation.isfinite().all()):
        raise ValueError(f"observation must be finite, got {observation}")
    own: Any = agent
    if not isinstance(own.updates, int):
        raise ValueError(f"agent.updates must be an int, got {own.updates!r}")
    begun = copy.deepcopy(own.state_dict())
    try:
        _check_update(own, batch)
        _check_state(own, batch)
        seen = _observations(batch, population_of(own)) if observation is None else observation
        task = None if batch is None else batch.get(keys.TASK, None)
        for name in ("policy", "explorer"):
            _check_policy(name, getattr(own, name)(), seen, _tasks(task, len(seen)))
        _check_rates(own, batch)
    finally:
        own.load_state_dict(begun)


def _check_update(agent: Agent, batch: TensorDictBase | None) -> None:
    before = agent.updates
    metrics = agent.update(batch)
    if agent.updates != before + 1:
        raise ValueError(
            f"agent.updates must go up by one in each update, from {before}, got {agent.updates}"
        )
    if not isinstance(metrics, Mapping):
        raise ValueError(f"update must return metrics by name, got {type(metrics).__name__}")
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or value.requires_grad:
            what = "one with a graph" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"metrics must be detached tensors, got {what} in {name!r}")


def _check_state(agent: Agent, batch: TensorDictBase | None) -> None:
    """Check that a state brings everything back: what comes after it is the same again."""
    saved = copy.deepcopy(agent.state_dict())
    once = _copied(agent.update(batch))
    after = copy.deepcopy(agent.state_dict())
    agent.load_state_dict(copy.deepcopy(saved))
    if different := _differences(saved, agent.state_dict()):
        raise ValueError(
            f"load_state_dict must restore what state_dict returned, got others in {different[:8]}"
        )
    again = _copied(agent.update(batch))
    if different := _differences(once, again) + _differences(after, agent.state_dict()):
        raise ValueError(
            "state_dict must hold everything that update changes, so that the next update is the "
            f"same again, got others in {different[:8]}"
        )


def _check_policy(name: str, policy: ActingPolicy, seen: Tensor, tasks: Tensor | None) -> None:
    if missing := lacks(policy, ActingPolicy):
        raise ValueError(f"{name}() must have {', '.join(missing)}, got {type(policy).__name__}")
    count = len(seen)
    several = policy.act(seen, tasks)
    if not isinstance(several, Tensor) or several.dim() != 2 or len(several) != count:
        raise ValueError(
            f"{name}() must return actions [{count}, A] for observations {list(seen.shape)}, "
            f"got {list(np.shape(several))}"
        )
    policy.reset()
    array = policy.act(seen.cpu().numpy(), tasks)
    if not isinstance(array, np.ndarray) or array.shape != tuple(several.shape):
        raise ValueError(f"{name}() must return arrays for arrays, got {type(array).__name__}")
    policy.reset()
    if population_of(policy) is None:
        alone = policy.act(seen[0], None if tasks is None else tasks[0])
        if not isinstance(alone, Tensor) or alone.shape != several.shape[1:]:
            raise ValueError(
                f"{name}() must return an action {list(several.shape[1:])} for one observation, "
                f"got {list(np.shape(alone))}"
            )
        policy.reset()
    if not bool((several.abs() <= 1.0).all()):
        raise ValueError(f"{name}() must return actions in [-1, 1], got {several}")
    acting = policy.behaviour([None] * count if tasks is None else tasks.tolist())
    for index in range(count):
        acting.start(index)
    moved = acting(seen.cpu().numpy())
    if not isinstance(moved, np.ndarray) or moved.shape != tuple(several.shape):
        raise ValueError(
            f"{name}().behaviour must return arrays {list(several.shape)}, "
            f"got {list(np.shape(moved))}"
        )


def _check_rates(agent: Agent, batch: TensorDictBase | None) -> None:
    """Check that nothing is learned at a rate of 0."""
    parts = [part for part in vars(agent).values() if isinstance(part, nn.Module)]
    weights = [p for part in parts for p in part.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in weights]
    agent.set_learning_rates(0.0)
    try:
        agent.update(batch)
    finally:
        agent.set_learning_rates(1.0)
    pairs = zip(before, weights, strict=True)
    if changed := [list(new.shape) for old, new in pairs if not torch.equal(old, new)]:
        raise ValueError(
            f"set_learning_rates(0) must leave all weights as they are, got others of {changed[:8]}"
        )


def _observations(batch: TensorDictBase | None, population: int | None) -> Tensor:
    """Return a few observations `[N, O]` of a batch."""
    if batch is None:
        raise ValueError("observation must be given where there is no batch, got None")
    seen: Any = batch[keys.OBSERVATION]
    count = population or 2
    rows = seen.reshape(-1, seen.shape[-1])
    if len(rows) < count:
        raise ValueError(f"batch must hold at least {count} observations, got {len(rows)}")
    return rows[:count]


def _tasks(task: Tensor | None, count: int) -> Tensor | None:
    """Return `count` task ids of a batch; None where it has none."""
    return None if task is None else task.reshape(-1)[:1].expand(count)


def _copied(metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in metrics.items()}


def _differences(first: object, second: object, name: str = "") -> list[str]:
    """Return the names of entries in which two states differ."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if other := [f"{name}.{key}" for key in set(first) ^ set(second)]:
            return sorted(other)
        return [d for key in first for d in _differences(first[key], second[key], f"{name}.{key}")]
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            return [name]
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in _differences(a, b, f"{name}.{i}")]
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        same = first.shape == second.shape and torch.allclose(
            first.double(), second.double(), rtol=1e-5, atol=1e-7, equal_nan=True
        )
        return [] if same else [name]
    return [] if bool(first == second) else [name]
