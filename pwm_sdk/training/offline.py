"""Learning from fixed data: one update after another, with a file to continue from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pwm_sdk.calls import checked, has, least
from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.checks import in_unit, whole
from pwm_sdk.optim import decay_factor


@checked(
    algorithm=has("update", "updates", "set_learning_rates", "state_dict"),
    replay=has("sample"),
    steps=least(1),
    save_every=least(1),
    floor=in_unit,
)
def train_offline(
    algorithm: Any,
    replay: Any,
    steps: int,
    *,
    floor: float = 0.02,
    path: str | os.PathLike[str] | None = None,
    save_every: int = 1000,
    on_step: Callable[[int, Mapping[str, Tensor]], None] | None = None,
) -> dict[str, float]:
    """Update until `algorithm.updates` reaches `steps`.

    Args:
        algorithm: `PWM`, `TDMPC2` or an object of their face: `updates`, `update(batch)`,
            `set_learning_rates(factor)`, `state_dict()` and `load_state_dict(state)`.
        replay: has `sample()` and, to continue to the bit, a torch `generator`.
        steps: number of updates in all, at least 1.
        floor: learning rates fall linearly to this share of their start; 1.0 keeps them.
        path: where everything that the loop changes is kept; an interrupted run continues from it,
            to the bit. None: nothing is kept.
        save_every: updates between two writes of `path`.
        on_step: told the number of updates done and the metrics of the last one.

    Returns:
        The metrics of the last update, averaged over a population; empty where `path` had all
        `steps` done.

    Raises:
        ValueError: for fewer than one step, a floor outside [0, 1], or a loss that is not finite.
    """
    whole(1, steps=steps)
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor must lie in [0, 1], got {floor}")
    file = None if path is None else Path(path)
    if file is not None and file.exists():
        _restore(file, algorithm, replay)
    metrics: Mapping[str, Tensor] = {}
    while algorithm.updates < steps:
        algorithm.set_learning_rates(decay_factor(algorithm.updates / steps, 1.0, floor))
        metrics = algorithm.update(replay.sample())
        done = algorithm.updates == steps
        if file is not None and (done or algorithm.updates % save_every == 0):
            _keep(file, algorithm, replay)
        if on_step is not None:
            on_step(algorithm.updates, metrics)
    return {name: float(value.mean()) for name, value in metrics.items()}


def _keep(file: Path, algorithm: Any, replay: Any) -> None:
    state = {"algorithm": algorithm.state_dict(), "torch_rng": torch.get_rng_state()}
    if (generator := getattr(replay, "generator", None)) is not None:
        state["replay_rng"] = generator.get_state()
    write_atomic(file, lambda part: torch.save(state, part))


def _restore(file: Path, algorithm: Any, replay: Any) -> None:
    state = torch.load(file, weights_only=True)
    algorithm.load_state_dict(state["algorithm"])
    torch.set_rng_state(state["torch_rng"])
    if "replay_rng" in state:
        replay.generator.set_state(state["replay_rng"])
