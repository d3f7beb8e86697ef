"""The settings of TD-MPC2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pwm_sdk.calls import checked, may_be_infinite
from pwm_sdk.checks import at_least, in_unit, positive
from pwm_sdk.objectives.tdmpc2 import ENTROPIES


@checked(max_norm=may_be_infinite)
@dataclass(frozen=True)
class TDMPC2Config:
    """Settings of `TDMPC2`; the defaults are the paper's, without the quirks of its program.

    The horizon is that of the windows it is given: 3 in the paper, 16 for PWM's world models.

    Attributes:
        gamma: discount per step, one number or one per task id: `[t.discount for t in MT80]`.
        rho: weight of each step of a window relative to the one before; 0.99 for PWM's models.
        lr: Adam's rate.
        encoder_lr: Adam's rate of the encoder.
        max_norm: gradient clip, of the model with its Q functions and of the prior.
        tau: rate of the target Q functions.
        consistency: coefficient of the latent error.
        reward: coefficient of the reward error.
        value: coefficient of the error of the Q functions.
        termination: coefficient of an episodic model's error about ends.
        entropy: coefficient of the prior's entropy.
        entropy_kind: "action", or "gaussian" and "first_release" as published at two times, see
            `scaled_entropy`.
        carry_gradient: add what the prior's loss leaves on the task embedding to the model's next
            step, as the current program does. Its first release, and PWM's copy of it, do not.
        dropout_everywhere: drop Q inputs also in targets and in the prior's loss, as in the first
            release.

    Raises:
        ValueError: if settings are out of range.
    """

    gamma: float | Sequence[float] = 0.99
    rho: float = 0.5
    lr: float = 3e-4
    encoder_lr: float = 9e-5
    max_norm: float = 20.0
    tau: float = 0.01
    consistency: float = 20.0
    reward: float = 0.1
    value: float = 0.1
    termination: float = 1.0
    entropy: float = 1e-4
    entropy_kind: str = "action"
    carry_gradient: bool = False
    dropout_everywhere: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.rho <= 1.0:
            raise ValueError(f"rho must lie in (0, 1], got {self.rho}")
        in_unit(gamma=self.gamma, tau=self.tau)
        at_least(0.0, lr=self.lr, encoder_lr=self.encoder_lr, consistency=self.consistency)
        at_least(0.0, reward=self.reward, value=self.value, termination=self.termination)
        at_least(0.0, entropy=self.entropy)
        positive(max_norm=self.max_norm)
        if self.entropy_kind not in ENTROPIES:
            raise ValueError(f"entropy_kind must be one of {ENTROPIES}, got {self.entropy_kind!r}")

    @classmethod
    def published(cls, *, gamma: float | Sequence[float] = 0.99, rho: float = 0.5) -> TDMPC2Config:
        """Return the settings of TD-MPC2's current program, quirks included."""
        return cls(gamma=gamma, rho=rho, entropy_kind="gaussian", carry_gradient=True)

    @classmethod
    def pwm_pretraining(
        cls, *, gamma: float | Sequence[float] = 0.99, rho: float = 0.99
    ) -> TDMPC2Config:
        """Return the settings of PWM's world models: the first release's, with rho 0.99."""
        return cls(gamma=gamma, rho=rho, entropy_kind="first_release", dropout_everywhere=True)
