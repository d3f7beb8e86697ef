"""Where parts live, and the type of numbers that they compute with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn


def dtype_of(*parts: object) -> torch.dtype:
    """Return the type of numbers that policies or models compute with, the first that has one.

    Args:
        *parts: policies, models, algorithms with a `loss`, or methods of these.

    Returns:
        That of the first floating parameter, float32 where there is none.
    """
    owners = [_owner(part) for part in parts]
    for holder in [part for owner in owners for part in (owner, getattr(owner, "loss", None))]:
        for parameter in _parameters(holder):
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float32


def device_of(*parts: object) -> torch.device:
    """Return where parts live, the first that says so; the CPU where none does.

    Args:
        *parts: policies, models or methods of these, or algorithms: with a `device`, or an `actor`
            or `loss` that lives somewhere.
    """
    for owner in map(_owner, parts):
        if isinstance(device := getattr(owner, "device", None), torch.device):
            return device
        for holder in (owner, getattr(owner, "actor", None), getattr(owner, "loss", None)):
            for parameter in _parameters(holder):
                return parameter.device
    return torch.device("cpu")


def _parameters(holder: Any) -> Iterator[nn.Parameter]:
    """Return the weights of a module, or of what a wrapper forwards; none of other objects."""
    has = callable(getattr(holder, "parameters", None)) and not isinstance(holder, type)
    return holder.parameters() if has else iter(())


def _owner(part: object) -> Any:
    while isinstance(part, partial):
        part = part.func
    return getattr(part, "__self__", part)
