"""The settings of SHAC."""

from __future__ import annotations

from dataclasses import dataclass

from pwm_sdk.calls import checked, may_be_infinite
from pwm_sdk.checks import at_least, in_unit, pair, positive, whole


@checked(actor_max_norm=may_be_infinite, critic_max_norm=may_be_infinite)
@dataclass(frozen=True)
class SHACConfig:
    """Settings of `SHAC`; the defaults are the paper's.

    Attributes:
        environments: B, episodes side by side.
        horizon: H, steps of a window.
        gamma: discount per step.
        lam: lambda of the critic's targets.
        actor_lam: None: the actor climbs the window's return, as published. A number: the mean
            over its steps of their lambda-returns, with the gradient through every value.
        actor_lr: Adam's rate for the actor.
        critic_lr: Adam's rate for the critic.
        betas: Adam's betas, for both.
        actor_max_norm: gradient clip of the actor.
        critic_max_norm: gradient clip of the critic.
        critic_epochs: passes over the window's states per update.
        critic_splits: minibatches per pass.
        target_tau: rate at which the critic that bootstraps follows the trained one.
        cotangent_clip: largest norm of d(an environment's return over the window) / d(its state) in
            the backward pass of each step, in reward units over state units; None: no clip. What is
            clipped is what comes back from later steps: the reward of the step that led to a state,
            and a value after it, reach that state before. A step is one of the agent, with all its
            substeps and action repeats. A bias that contacts make necessary: its share is logged as
            `clipped`.
        saturation: coefficient of the penalty on pre-tanh means beyond 1.

    Raises:
        ValueError: if settings are out of range.
    """

    environments: int = 64
    horizon: int = 32
    gamma: float = 0.99
    lam: float = 0.95
    actor_lam: float | None = None
    actor_lr: float = 2e-3
    critic_lr: float = 2e-3
    betas: tuple[float, float] = (0.7, 0.95)
    actor_max_norm: float = 1.0
    critic_max_norm: float = 1.0
    critic_epochs: int = 16
    critic_splits: int = 4
    target_tau: float = 0.8
    cotangent_clip: float | None = None
    saturation: float = 0.0

    def __post_init__(self) -> None:
        whole(1, environments=self.environments, horizon=self.horizon)
        whole(1, critic_epochs=self.critic_epochs, critic_splits=self.critic_splits)
        in_unit(gamma=self.gamma, lam=self.lam, actor_lam=self.actor_lam)
        in_unit(target_tau=self.target_tau)
        pair(betas=self.betas)
        in_unit(betas=self.betas)
        at_least(0.0, actor_lr=self.actor_lr, critic_lr=self.critic_lr, saturation=self.saturation)
        positive(actor_max_norm=self.actor_max_norm, critic_max_norm=self.critic_max_norm)
        positive(cotangent_clip=self.cotangent_clip)
