"""What environments show, as networks take it: ids of tasks, widths and types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.contract.models import num_tasks, observation_size, padded
from pwm_sdk.contract.places import dtype_of
from pwm_sdk.data.episode import task_index

__all__ = ["task_ids", "wide_enough"]


def task_ids(tasks: Sequence[Any], model: object) -> Tensor:
    """Return task ids `[N]` int64 for a model.

    Args:
        tasks: an id or a `Task` for each environment; None: not known.
        model: one of several tasks must know them, one of a single task takes 0 for None.

    Raises:
        ValueError: if a model of several tasks does not know one, or does not have it.
    """
    count = num_tasks(model)
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


def wide_enough(
    observation: np.ndarray | Tensor, model: object, device: torch.device, *others: object
) -> Tensor:
    """Return observations `[N, O]` in the model's type and width, padded if it is one of tasks.

    Args:
        observation: `[N, O]`.
        model: whose they become.
        device: where it lives.
        *others: whose type counts where the model has no parameters.
    """
    seen = torch.as_tensor(observation, device=device).to(dtype_of(model, *others))
    size = observation_size(model)
    return seen if size is None else padded("observation", seen, size, model)
