"""Metrics of loops as plain numbers, one name each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["flat_metrics"]


def flat_metrics(
    metrics: Mapping[str, Any], only: Collection[str] | None = None
) -> dict[str, float]:
    """Return nested metrics as numbers by joined names, such as `policies_0/actor_loss`.

    Numbers of one device are read together, so that a GPU is waited for once.

    Args:
        metrics: numbers, arrays, tensors `[]` or `[P]`, or mappings of these. A value of several
            policies is averaged over those that go on: NaN stands for one that was stopped.
        only: last parts of the names that are read; None: all of them.

    Raises:
        ValueError: if a metric is none of these.
    """
    flat = dict(_walk(metrics, only))
    waiting: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in flat.items():
        if isinstance(value, Tensor):
            waiting.setdefault(value.device, {})[name] = value
    for tensors in waiting.values():
        flat.update(zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True))
    return flat


def _walk(
    metrics: Mapping[str, Any], only: Collection[str] | None, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield joined names with a float or a tensor of one number each."""
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _walk(value, only, f"{name}/")
        elif only is not None and name.rpartition("/")[2] not in only:
            continue
        elif isinstance(value, Tensor):
            value = value.detach()
            yield name, (value if value.is_floating_point() else value.double()).nanmean()
        else:
            yield name, _number(name, value)


def _number(name: str, value: object) -> float:
    """Return a number, or the mean of an array."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of several lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"metrics must be numbers, tensors or mappings of these, got {name}={value!r}"
        )
    return float(torch.from_numpy(array.astype(np.float64)).nanmean())
