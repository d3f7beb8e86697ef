"""The settings of PWM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pwm_sdk.calls import checked, may_be_infinite
from pwm_sdk.checks import at_least, in_unit, pair, positive, whole


@checked(actor_max_norm=may_be_infinite, critic_max_norm=may_be_infinite)
@dataclass(frozen=True)
class PWMConfig:
    """Settings of `PWM`; the defaults are those that were measured to learn.

    The mean of all lambda-returns, a penalty on saturation, a slow actor and a target critic keep
    the policies of falling bodies from freezing early (docs/experiments.md). `PWMConfig.paper()`
    has the numbers of the paper's appendix, `PWMConfig.published()` those and the quirks of the
    published program, one setting each (docs/differences.md).

    Attributes:
        horizon: H, imagined steps.
        gamma: discount per step, one number or one per policy.
        lam: lambda of the critic's targets.
        actor_lam: None: the actor climbs the H-step return, as in the paper; a number: the mean of
            its trajectory's lambda-returns.
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
        extra_discount: the last value of an H-step return gets gamma^(H+1), as published.
        symlog_reward: imagine rewards in symlog units, not brought back to raw ones, as published.
        mask_actions: False: actions that a task does not have reach the model, as published.
        shuffle: False: the critic's minibatches are contiguous blocks of time steps, as published.
        return_scale: what returns are divided by: their moving range, "range" (a `ReturnScale`);
            the running standard deviation of all returns so far, "deviation", as published; or
            nothing, "none". A `return_scale` that `PWM` is given takes its place.

    Raises:
        ValueError: if settings are out of range.
    """

    horizon: int = 12
    gamma: float | Sequence[float] = 0.99
    lam: float = 0.95
    actor_lam: float | None = 0.95
    actor_lr: float = 2e-3
    critic_lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    actor_max_norm: float = 10.0
    critic_max_norm: float = 10.0
    critic_epochs: int = 1
    critic_splits: int = 2
    critic_limit: int | None = 1
    saturation: float = 0.1
    behaviour: float = 0.0
    target_tau: float | None = 0.01
    average_tau: float | None = 0.005
    detach: bool = False
    extra_discount: bool = False
    symlog_reward: bool = False
    mask_actions: bool = True
    shuffle: bool = True
    return_scale: str = "range"

    def __post_init__(self) -> None:
        whole(1, horizon=self.horizon, critic_epochs=self.critic_epochs)
        whole(1, critic_splits=self.critic_splits, critic_limit=self.critic_limit)
        in_unit(gamma=self.gamma, lam=self.lam, actor_lam=self.actor_lam)
        in_unit(target_tau=self.target_tau, average_tau=self.average_tau)
        if self.return_scale not in ("range", "deviation", "none"):
            raise ValueError(
                f"return_scale must be 'range', 'deviation' or 'none', got {self.return_scale!r}"
            )
        pair(betas=self.betas)
        in_unit(betas=self.betas)
        at_least(0.0, actor_lr=self.actor_lr, critic_lr=self.critic_lr)
        at_least(0.0, saturation=self.saturation, behaviour=self.behaviour)
        positive(actor_max_norm=self.actor_max_norm, critic_max_norm=self.critic_max_norm)

    @classmethod
    def paper(cls, **settings: object) -> PWMConfig:
        """Return the settings of the paper: its equations with the numbers of its appendix.

        Args:
            settings: further settings, or others in place of these.

        Source: PWM (arXiv 2407.02466), algorithm 1 and appendix.
        """
        appendix: dict[str, Any] = {
            "horizon": 16,
            "actor_lam": None,
            "actor_lr": 5e-4,
            "critic_lr": 5e-4,
            "betas": (0.7, 0.95),
            "actor_max_norm": 1.0,
            "critic_max_norm": 100.0,
            "critic_epochs": 8,
            "critic_splits": 4,
            "critic_limit": None,
            "saturation": 0.0,
            "target_tau": None,
            "average_tau": None,
            "return_scale": "none",
        }
        arguments: dict[str, Any] = {**appendix, **settings}
        return cls(**arguments)

    @classmethod
    def published(cls, **settings: object) -> PWMConfig:
        """Return the settings of the published program, multi-task path.

        Those of the paper with one-step targets, gamma^(H+1), symlog rewards, no masks, contiguous
        minibatches, detached latents and returns divided by their running standard deviation.

        Args:
            settings: further settings, or others in place of these.

        Source: PWM (arXiv 2407.02466), its program; see docs/differences.md.
        """
        quirks: dict[str, Any] = {
            "lam": 0.0,
            "detach": True,
            "extra_discount": True,
            "symlog_reward": True,
            "mask_actions": False,
            "shuffle": False,
            "return_scale": "deviation",
        }
        return cls.paper(**{**quirks, **settings})
