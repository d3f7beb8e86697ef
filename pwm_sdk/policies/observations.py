"""What environments show, as networks take it: ids of tasks, widths, types and places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pwm_sdk.contract.models import known_tasks, padded, seen_size
from pwm_sdk.data.episode import task_index

__all__ = ["dtype_of", "place_of", "task_ids", "wide_enough"]


def task_ids(tasks: Sequence[Any], model: Any) -> Tensor:
    """Return task ids `[N]` int64 for a model.

    Args:
        tasks: an id or a `Task` for each environment; None: not known.
        model: one of several tasks must know them, one of a single task takes 0 for None.

    Raises:
        ValueError: for one that is not known to a model of several tasks, or that it has not.
    """
    count = known_tasks(model)
    for i, task in enumerate(tasks):
        if task is None and count > 1:
            raise ValueError(
                f"task of environment {i} must be known to a model of {count} tasks, got none: "
                "make_env and make_gym bring it, or give it by task= or tasks="
            )
    ids = [0 if task is None else task_index(task) for task in tasks]
    for i, index in enumerate(ids):
        if count and index >= count:
            raise ValueError(
                f"task of environment {i} must be one of the model's {count}, got {index}: "
                "its own numbers, from 0 on, are given by task= or tasks="
            )
    return torch.tensor(ids, device="cpu")


def networks_of(parts: Sequence[Any]) -> list[nn.Module]:
    """Return the modules among parts, those whose methods are parts, and algorithms' `loss`."""
    owners = [getattr(part, "__self__", part) for part in parts]
    holders = [held for owner in owners for held in (owner, getattr(owner, "loss", None))]
    return [holder for holder in holders if isinstance(holder, nn.Module)]


def dtype_of(*parts: Any) -> torch.dtype:
    """Return the type of numbers that policies or models compute with, the first that has one.

    Args:
        *parts: policies, models, algorithms with a `loss`, or methods of these.

    Returns:
        That of the first floating parameter, float32 where there is none.
    """
    for network in networks_of(parts):
        for parameter in network.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float32


def place_of(*parts: Any) -> torch.device:
    """Return where the first parameter of policies or models is; the CPU where there is none."""
    parameters = (p for network in networks_of(parts) for p in network.parameters())
    return next((p.device for p in parameters), torch.device("cpu"))


def wide_enough(
    observation: np.ndarray | Tensor, model: Any, device: torch.device, *others: Any
) -> Tensor:
    """Return observations `[N, O]` in the model's type and width, padded if it is one of tasks.

    Args:
        observation: `[N, O]`.
        model: whose they become.
        device: where it lives.
        *others: whose type counts where the model has no parameters.
    """
    seen = torch.as_tensor(observation, device=device).to(dtype_of(model, *others))
    return padded("observation", seen, seen_size(model, seen.shape[-1]), model)
