"""Where parts live, and the type of numbers that they compute with."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn


def dtype_of(*parts: Any) -> torch.dtype:
    """Return the type of numbers that policies or models compute with, the first that has one.

    Args:
        *parts: policies, models, algorithms with a `loss`, or methods of these.

    Returns:
        That of the first floating parameter, float32 where there is none.
    """
    owners = [_owner(part) for part in parts]
    for holder in [part for owner in owners for part in (owner, getattr(owner, "loss", None))]:
        for parameter in holder.parameters() if isinstance(holder, nn.Module) else ():
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float32


def device_of(part: Any) -> torch.device:
    """Return where a part lives, or the part that a method is of; the CPU for one without weights.

    Args:
        part: a policy or model, or an algorithm: one with a `device`, or an `actor` that lives
            somewhere.
    """
    owner = _owner(part)
    if isinstance(device := getattr(owner, "device", None), torch.device):
        return device
    network = owner if isinstance(owner, nn.Module) else getattr(owner, "actor", None)
    parameters = network.parameters() if isinstance(network, nn.Module) else ()
    return next((p.device for p in parameters), torch.device("cpu"))


def _owner(part: Any) -> Any:
    while isinstance(part, partial):
        part = part.func
    return getattr(part, "__self__", part)
