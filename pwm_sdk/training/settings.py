"""What a growing-batch run is told and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Learner:
    """Policies that are improved together, and how much of each update they get.

    Attributes:
        pwm: a `PWM` with a population, one policy per task.
        tasks: task id of each policy.
        starts: imagined starts per policy and update.
        every: improve in every n-th update only.
    """

    pwm: Any
    tasks: Sequence[int]
    starts: int
    every: int = 1


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
        decay_share: all learning rates fall linearly over this last share of the budget.
        decay_floor: to this share of their start.
        statistics_rounds: observation statistics are refreshed in so many first rounds, then
            frozen.
        hold: longest time that a seed action is held.
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
    decay_share: float = 0.25
    decay_floor: float = 0.1
    statistics_rounds: int = 10
    hold: int = 19


@dataclass
class RoundReport:
    """What one round did; arrays are per task, in the pool's order."""

    updates: int
    train_return: np.ndarray
    alarms: dict[str, np.ndarray]
    metrics: dict[str, float]
    train_seconds: float
    collect_seconds: float
