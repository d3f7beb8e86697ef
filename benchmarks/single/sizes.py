"""Sizes of the methods that learn a world model, by the scale of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pwm_sdk import OnlineConfig

Scale = Literal["tiny", "small", "published"]
SEED_STEPS = 1_000  # random steps before TD-MPC2 and DreamerV3 learn


@dataclass(frozen=True)
class TDMPC2Size:
    """What TD-MPC2 is built of.

    Attributes:
        model: arguments of the world model; Q functions and prior have its widths.
        heads: Q functions.
        rows: windows of an update.
        plan: arguments of the planner.
        seed_steps: random steps at the start; None: as published, five episodes, at least 1000.
        every: steps per update.
    """

    model: dict[str, Any] = field(default_factory=dict)
    heads: int = 5
    rows: int = 256
    plan: dict[str, Any] = field(default_factory=dict)
    seed_steps: int | None = None
    every: int = 1


# The published program: latents and widths of 512, Mish, 101 bins, and the planner's defaults,
# which are 512 samples, 64 elites, 24 of the prior, 6 iterations.
TDMPC2: dict[Scale, TDMPC2Size] = {
    "tiny": TDMPC2Size(
        {"latent_dim": 16, "hidden": (16, 16), "encoder_hidden": (16,)},
        heads=2,
        rows=8,
        plan={"samples": 8, "elites": 4, "policy_samples": 2, "iterations": 1},
        seed_steps=50,
        every=10,
    ),
    # For two cores and minutes, its model as large as PWM's.
    "small": TDMPC2Size(
        {"latent_dim": 128, "hidden": (256, 256), "encoder_hidden": (256,), "activation": "silu"},
        heads=2,
        rows=64,
        plan={"samples": 64, "elites": 8, "policy_samples": 8, "iterations": 3},
        seed_steps=SEED_STEPS,
    ),
    "published": TDMPC2Size(),
}


@dataclass(frozen=True)
class DreamerSize:
    """What DreamerV3 is built of.

    Attributes:
        config: of its networks.
        rows: windows of an update.
        window: steps of a replayed window.
        every: steps per update.
        seed_steps: random steps at the start.
    """

    config: dict[str, Any]
    rows: int = 16
    window: int = 16
    every: int = 4
    seed_steps: int = SEED_STEPS


# The published program for states: its size of 1M, 1024 replayed steps for each step.
DREAMER: dict[Scale, DreamerSize] = {
    "tiny": DreamerSize(
        {"hidden": 16, "layers": 1, "belief": 16, "blocks": 2, "categoricals": 2, "classes": 4},
        every=50,
        seed_steps=50,
    ),
    "small": DreamerSize({"belief": 128, "categoricals": 8, "classes": 8}),  # half of the defaults
    "published": DreamerSize(
        {"hidden": 64, "layers": 3, "belief": 512, "categoricals": 32, "classes": 4, "lr": 4e-5},
        window=64,
        every=1,
    ),
}


PWM: dict[Scale, OnlineConfig] = {
    "tiny": OnlineConfig.tiny(),
    "small": OnlineConfig(),
    "published": OnlineConfig.published(),
}
