"""The published sizes of TD-MPC2 and PWM, by millions of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pwm_sdk.calls import checked, has, least
from pwm_sdk.contract.parts import Numbered, PaddedTasks

# millions of parameters: widths of the encoder, latent, widths of the other networks, Q functions
_SIZES: dict[int, tuple[tuple[int, ...], int, int, int]] = {
    1: ((256,), 128, 384, 2),
    5: ((256,), 512, 512, 5),
    19: ((1024,) * 2, 768, 1024, 5),
    48: ((1792,) * 3, 768, 1792, 5),
    317: ((4096,) * 4, 1376, 4096, 8),
}


@checked(
    encoder_hidden=least(1),
    latent_dim=least(1),
    hidden=least(1),
    task_dim=least(0),
    ensemble=least(1),
)
@dataclass(frozen=True)
class ModelSize:
    """Widths of one published size.

    Attributes:
        encoder_hidden: widths of the encoder.
        latent_dim: D.
        hidden: widths of dynamics, reward, value and policy networks.
        task_dim: size of the task embedding; 0 without tasks.
        ensemble: Q functions.
    """

    encoder_hidden: tuple[int, ...]
    latent_dim: int
    hidden: tuple[int, int]
    task_dim: int
    ensemble: int


@checked(tasks=has("__iter__"))
def model_size(size: int, tasks: Iterable[Numbered] | None = None) -> ModelSize:
    """Look up a published size.

    Args:
        size: 1, 5, 19, 48 or 317 million parameters.
        tasks: a `TaskSet`, or None for a model without tasks. A set of at most 30 task ids has the
            widths of MT30, a larger one those of MT80.

    Returns:
        Its widths: `encoder_hidden`, `latent_dim`, `hidden`, `task_dim` and `ensemble`.

    Raises:
        ValueError: if there is no such size.

    Source: TD-MPC2 (arXiv 2310.16828), table of model sizes, and its program. Differs: PWM's files
    give size 317 an embedding of 64 for MT30; its public weights have 96, as here.
    """
    if size not in _SIZES:
        raise ValueError(f"size must be one of {sorted(_SIZES)}, got {size}")
    encoder_hidden, latent_dim, width, ensemble = _SIZES[size]
    few = tasks is not None and number_of_ids(tasks) <= 30
    if size == 19 and few:
        latent_dim = 512
    task_dim = 0 if tasks is None else 64 if few and size not in (1, 317) else 96
    return ModelSize(encoder_hidden, latent_dim, (width, width), task_dim, ensemble)


def number_of_ids(tasks: Iterable[Numbered]) -> int:
    """Rows that an embedding needs to be indexed by the tasks' ids."""
    return 1 + max(task.index for task in tasks)


def sized_settings(
    size: int, tasks: PaddedTasks | None, overrides: Mapping[str, object]
) -> dict[str, Any]:
    """Return the arguments of a `WorldModel` of a published size.

    Args:
        size: see `model_size`.
        tasks: a `TaskSet`, which gives the padded sizes, the number of ids and the masks; or None.
        overrides: arguments that replace these; without tasks `observation_dim` and `action_dim`.

    Raises:
        ValueError: if there is no such size, or sizes of observation and action are missing.
    """
    widths = model_size(size, tasks)
    settings: dict[str, Any] = {
        "latent_dim": widths.latent_dim,
        "hidden": widths.hidden,
        "encoder_hidden": widths.encoder_hidden,
    }
    if tasks is not None:
        real = {task.index: task.action_dim for task in tasks}
        ids = number_of_ids(tasks)
        settings |= {
            "observation_dim": tasks.observation_dim,
            "action_dim": tasks.action_dim,
            "num_tasks": ids,
            "task_dim": widths.task_dim,
            "action_dims": [real.get(index, tasks.action_dim) for index in range(ids)],
        }
    settings |= overrides
    for name in ("observation_dim", "action_dim"):
        if settings.get(name) is None:
            raise ValueError(f"{name} must be given where tasks is None, got {sorted(settings)}")
    return settings
