"""The settings of DreamerV3."""

from __future__ import annotations

from dataclasses import dataclass

from pwm_sdk.calls import checked, may_be_infinite
from pwm_sdk.checks import at_least, in_unit, positive, whole


@checked(max_norm=may_be_infinite)
@dataclass(frozen=True)
class DreamerV3Config:
    """Settings of `DreamerV3`; sizes are small, the rest is the paper's.

    Attributes:
        hidden: width of every network.
        layers: hidden layers of encoder, decoder and heads.
        belief: size of the recurrent state, divisible by `blocks`.
        blocks: groups of the recurrent network.
        categoricals: categorical variables of the stochastic state.
        classes: classes of each.
        unimix: share of the uniform distribution in every categorical.
        bins: bins of reward and value.
        horizon: imagined steps.
        gamma: discount per step.
        lam: lambda of all returns.
        entropy: coefficient of the policy's entropy.
        free_nats: the divergence of prior and posterior is not pushed below this.
        replay_value: coefficient of the value loss on replayed states.
        tau: rate of the slowly moving value.
        lr: Adam's rate.
        max_norm: gradient clip.

    Raises:
        ValueError: if settings are out of range.
    """

    hidden: int = 128
    layers: int = 2
    belief: int = 256
    blocks: int = 8
    categoricals: int = 16
    classes: int = 16
    unimix: float = 0.01
    bins: int = 255
    horizon: int = 15
    gamma: float = 0.997
    lam: float = 0.95
    entropy: float = 3e-4
    free_nats: float = 1.0
    replay_value: float = 0.3
    tau: float = 0.02
    lr: float = 3e-4
    max_norm: float = 100.0

    def __post_init__(self) -> None:
        whole(1, hidden=self.hidden, layers=self.layers, belief=self.belief, blocks=self.blocks)
        whole(1, categoricals=self.categoricals, classes=self.classes)
        whole(1, bins=self.bins, horizon=self.horizon)
        in_unit(unimix=self.unimix, gamma=self.gamma, lam=self.lam, tau=self.tau)
        at_least(0.0, entropy=self.entropy, free_nats=self.free_nats)
        at_least(0.0, replay_value=self.replay_value, lr=self.lr)
        positive(max_norm=self.max_norm)
        for name, share in (("gamma", self.gamma), ("unimix", self.unimix)):
            if share == 1.0:
                raise ValueError(f"{name} must lie in [0, 1), got {share}")
        if self.belief % self.blocks:
            raise ValueError(f"belief must be divisible by blocks {self.blocks}, got {self.belief}")
