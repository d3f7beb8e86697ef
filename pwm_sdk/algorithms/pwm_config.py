"""The settings of PWM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PWMConfig:
    """Settings of `PWM`; the defaults are the paper's.

    The quirks of the published program are left out (docs/differences.md).

    Attributes:
        horizon: H, imagined steps.
        gamma: discount per step, one number or one per policy.
        lam: lambda of the critic's targets.
        actor_lam: None: the actor climbs the H-step return; a number: the mean of its trajectory's
            lambda-returns.
        actor_lr: Adam's rate for the actor.
        critic_lr: Adam's rate for the critic.
        betas: Adam's betas, for both.
        actor_max_norm: gradient clip of the actor, per policy.
        critic_max_norm: gradient clip of the critic, per policy.
        critic_epochs: passes over the imagined states per update.
        critic_splits: minibatches per pass.
        critic_limit: minibatches used of each pass; None: all.
        saturation: coefficient of the penalty on pre-tanh means beyond 1.
        behaviour: coefficient of the squared distance to the data's actions, a guard for fixed
            data.
        target_tau: rate of a slowly moving critic that bootstraps the targets; None: the critic
            itself.
        average_tau: rate of a slowly moving copy of the actor, kept in `PWM.average`; None: none.
        detach: the policy sees latents without gradient, as published.
    """

    horizon: int = 16
    gamma: float | Sequence[float] = 0.99
    lam: float = 0.95
    actor_lam: float | None = None
    actor_lr: float = 5e-4
    critic_lr: float = 5e-4
    betas: tuple[float, float] = (0.7, 0.95)
    actor_max_norm: float = 1.0
    critic_max_norm: float = 100.0
    critic_epochs: int = 8
    critic_splits: int = 4
    critic_limit: int | None = None
    saturation: float = 0.0
    behaviour: float = 0.0
    target_tau: float | None = None
    average_tau: float | None = None
    detach: bool = False
