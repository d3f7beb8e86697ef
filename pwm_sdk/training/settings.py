"""The settings of a growing-batch run, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pwm_sdk.calls import checked, has, may_be_infinite
from pwm_sdk.checks import at_least, in_unit, pair, positive, whole
from pwm_sdk.contract.abilities import lacks
from pwm_sdk.contract.memory import has_memory
from pwm_sdk.contract.models import (
    EpisodicModel,
    LossModel,
    SharedStatistics,
    StandardizedModel,
    TrainableModel,
    is_episodic,
    is_standardized,
)
from pwm_sdk.contract.policies import ExploringPolicy, population_of


@checked()
@dataclass(frozen=True)
class Learner:
    """Policies that are improved together, and how much of each update they get.

    Attributes:
        pwm: a `PWM` of one policy, or with a population, one policy per task.
        tasks: task id of each policy.
        starts: imagined starts per policy and update.
        every: improve in every n-th update only.

    Raises:
        ValueError: if the numbers of tasks and policies differ, or a number is below 1.
    """

    pwm: Any
    tasks: Sequence[int]
    starts: int
    every: int = 1

    def __post_init__(self) -> None:
        whole(1, starts=self.starts, every=self.every)
        policies = population_of(self.pwm) or 1
        if len(self.tasks) != policies:
            raise ValueError(
                f"tasks must have one entry per policy ({policies}), got {list(self.tasks)}"
            )
        has("update")(pwm=self.pwm)


@checked(model_max_norm=may_be_infinite)
@dataclass(frozen=True)
class RoundConfig:
    """Settings of `GrowingBatch`.

    Attributes:
        updates: updates per round; small rounds keep the policy from exploiting a stale model.
        first_updates: updates of the first round.
        rho: weight of each open-loop step relative to the one before.
        consistency: coefficient of the latent error.
        reward: coefficient of the reward error.
        model_max_norm: gradient clip of the world model.
        reward_weight_gain: a task's reward error is weighted `min(cap, gain / (var + eps))`; 0:
            all weights 1.
        reward_weight_eps: see above; reward variance, in squared units of the scaled reward.
        reward_weight_cap: see above.
        std: exploration std at the start and at the end, linear over `std_share` of the budget.
        std_share: see above.
        correlation: autoregressive coefficient of the noise in every other episode.
        decay_share: all learning rates fall linearly over this last share of the budget, as what
            is left of it (see `linear_decay`).
        decay_floor: but not below this share of their start.
        statistics_rounds: observation statistics are refreshed in so many first rounds, then
            frozen; None: in 10, where the model has them.
        hold: longest time that a seed action is held.

    Raises:
        ValueError: if settings are out of range.
    """

    updates: int = 100
    first_updates: int = 300
    rho: float = 0.7
    consistency: float = 20.0
    reward: float = 1.0
    model_max_norm: float = 10.0
    reward_weight_gain: float = 0.03
    reward_weight_eps: float = 1e-3
    reward_weight_cap: float = 20.0
    std: tuple[float, float] = (0.6, 0.2)
    std_share: float = 0.5
    correlation: float = 0.8
    decay_share: float = 0.3
    decay_floor: float = 0.02
    statistics_rounds: int | None = None
    hold: int = 19

    def __post_init__(self) -> None:
        whole(0, updates=self.updates, first_updates=self.first_updates)
        if self.statistics_rounds is not None:
            whole(0, statistics_rounds=self.statistics_rounds)
        whole(1, hold=self.hold)
        at_least(0.0, consistency=self.consistency, reward=self.reward)
        at_least(0.0, reward_weight_gain=self.reward_weight_gain)
        pair(std=self.std)
        at_least(0.0, std=self.std)
        positive(rho=self.rho, std_share=self.std_share)
        positive(model_max_norm=self.model_max_norm, reward_weight_eps=self.reward_weight_eps)
        positive(reward_weight_cap=self.reward_weight_cap)
        in_unit(rho=self.rho, std_share=self.std_share, correlation=self.correlation)
        in_unit(decay_share=self.decay_share, decay_floor=self.decay_floor)


@checked()
@dataclass
class RoundReport:
    """What one round did; arrays are per task, in the pool's order.

    Attributes:
        updates: updates of the loop so far.
        train_return: mean return of the episodes collected.
        alarms: warning signs by name, arrays.
        metrics: of the updates, by name.
        train_seconds: spent on learning.
        collect_seconds: spent on collecting.
        left_out: episodes of the round that were shorter than a window; they are not in the replay.
    """

    updates: int
    train_return: np.ndarray
    alarms: dict[str, np.ndarray]
    metrics: dict[str, float]
    train_seconds: float
    collect_seconds: float
    left_out: int = 0

    def row(self, names: Sequence[str]) -> dict[str, float]:
        """Return all as numbers by name, for a table.

        Args:
            names: of the tasks, which end the names of what each has.

        Raises:
            ValueError: if there is not one name per task.
        """
        if len(names) != len(self.train_return):
            raise ValueError(
                f"names must have one entry per task ({len(self.train_return)}), got {len(names)}"
            )
        found = {"updates": self.updates, **self.metrics, "left_out": self.left_out}
        for column, values in {"train_return": self.train_return, **self.alarms}.items():
            pairs = zip(names, values, strict=True)
            found |= {f"{column}/{name}": float(value) for name, value in pairs}
        return found


def check_ids(tasks: Sequence[int], known: int) -> None:
    """Raise ValueError for task ids that a model of `known` tasks does not have."""
    if not known and len(tasks) > 1:
        raise ValueError(f"model must have num_tasks > 0 for several tasks, got tasks {tasks}")
    if known and not all(0 <= task < known for task in tasks):
        raise ValueError(
            f"tasks must be ids in 0..{known - 1}, as the model has num_tasks={known}, got {tasks}"
        )


def check_abilities(
    model: object, learners: Sequence[Learner], *, own_loss: bool, rounds: int | None, shared: bool
) -> None:
    """Raise ValueError, which names what is missing, for parts that a growing batch cannot use.

    Args:
        model: a `LatentModel`.
        learners: their actors are `ExploringPolicy`s.
        own_loss: the model is trained by a loss of its own; otherwise it is a `TrainableModel`,
            without memory, and see `EpisodicModel` where it is episodic.
        rounds: number of rounds that set observation statistics, see `StandardizedModel`; None:
            where the model has them.
        shared: several processes share them, see `SharedStatistics`.
    """
    needed: list[type] = []
    if not own_loss:
        needed += [LossModel] if has_memory(model) else [TrainableModel]
        needed += [EpisodicModel] * is_episodic(model)
    if rounds is not None or is_standardized(model):
        needed += [SharedStatistics if shared else StandardizedModel] * (rounds != 0)
    if missing := lacks(model, *needed):
        raise ValueError(
            f"model must have {', '.join(missing)} to be trained by a growing batch, "
            f"got a {type(model).__name__} without"
        )
    if rounds and not is_standardized(model):
        raise ValueError(
            "model must have observation statistics (standardize=True of a WorldModel), or "
            "statistics_rounds must be 0 or None, got a model without them"
        )
    for actor in (learner.pwm.actor for learner in learners):
        if missing := lacks(actor, ExploringPolicy):
            raise ValueError(
                f"actor must have {', '.join(missing)} to explore, "
                f"got a {type(actor).__name__} without"
            )
