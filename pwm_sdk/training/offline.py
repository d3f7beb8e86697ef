"""Learning from fixed data: one update after another, with a file to continue from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pwm_sdk.calls import checked, has, least, outside
from pwm_sdk.checkpoints.reading import load_state
from pwm_sdk.checkpoints.writing import save_state
from pwm_sdk.checks import file_path, in_unit, whole
from pwm_sdk.generators import random_state, set_random_state
from pwm_sdk.optim import linear_decay


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
    floor: float | None = None,
    path: str | os.PathLike[str] | None = None,
    save_every: int = 1000,
    on_step: Callable[[int, Mapping[str, Tensor]], None] | None = None,
) -> dict[str, float]:
    """Update until `algorithm.updates` reaches `steps`.

    Args:
        algorithm: `PWM`, `TDMPC2`, `DreamerV3`, `BehaviourCloning` or an object with the same
            interface: `updates`, `update(batch)`, `set_learning_rates(factor)`, `state_dict()` and
            `load_state_dict(state)`; optionally `decay_floor` and, where losses are read now and
            then only, `check_finite()`.
        replay: has `sample()` and, to continue to the bit, a torch `generator`.
        steps: number of updates in all, at least 1.
        floor: learning rates fall along a straight line to this share of their start; 1.0 keeps
            them. None: to the algorithm's `decay_floor`, as its `fit` does (0.02 if it has none).
        path: where everything that the loop changes is kept; an interrupted run continues from it,
            to the bit (on a GPU: not seen). None: nothing is kept.
        save_every: updates between two writes of `path`.
        on_step: told the number of updates done and the metrics of the last one. After a
            `KeyboardInterrupt` of it `path` is written first.

    Returns:
        The metrics of the last update, averaged over the policies of a population that go on; empty
        where `path` had all `steps` done.

    Raises:
        ValueError: for fewer than one step, a floor outside [0, 1], a loss that is not finite, at
            the latest before the next write of `path` and at the end, or a file that is damaged, of
            another version, algorithm or size, or would run code (build the algorithm anew then).
    """
    whole(1, steps=steps)
    least: float = getattr(algorithm, "decay_floor", 0.02) if floor is None else floor
    check_finite = getattr(algorithm, "check_finite", lambda: None)
    file = None if path is None else file_path(path=path).absolute()  # `on_step` may go elsewhere
    if file is not None and file.exists():
        _restore(file, algorithm, replay)
    metrics: Mapping[str, Tensor] = {}
    while algorithm.updates < steps:
        algorithm.set_learning_rates(linear_decay(algorithm.updates / steps, least))
        metrics = algorithm.update(replay.sample())
        done = algorithm.updates == steps
        saving = file is not None and (done or algorithm.updates % save_every == 0)
        if done or saving:
            check_finite()
        if file is not None and saving:
            _keep(file, algorithm, replay)
        try:
            if on_step is not None:
                outside(on_step)(algorithm.updates, metrics)
        except KeyboardInterrupt:
            if file is not None:
                _keep(file, algorithm, replay)
            raise
    return {name: float(value.nanmean()) for name, value in metrics.items()}


def _keep(file: Path, algorithm: Any, replay: Any) -> None:
    state = {"algorithm": algorithm.state_dict(), "torch_rng": random_state()}
    if (generator := getattr(replay, "generator", None)) is not None:
        state["replay_rng"] = generator.get_state()
    save_state(file, state)


def _restore(file: Path, algorithm: Any, replay: Any) -> None:
    state = load_state(file)
    try:
        algorithm.load_state_dict(state["algorithm"])
        whole(0, updates=algorithm.updates)
        set_random_state(state["torch_rng"])
        if "replay_rng" in state:
            replay.generator.set_state(state["replay_rng"])
    except Exception as error:  # a state of something else can fail in any way
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"{file} must be a state of this {type(algorithm).__name__} and its replay, got "
            f"another ({reason}): delete it to begin anew"
        ) from error
