"""Keeping results in single precision where matrix products run in half."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """Return `x` in float32 if an autocast made it of half precision, otherwise as it is.

    Layers call it on what a matrix product returns, so that under `torch.autocast` LayerNorm,
    activations, softmax and returns stay in float32. A network that is itself of half precision
    stays in it.
    """
    half = x.dtype in (torch.bfloat16, torch.float16)
    return x.float() if half and autocast_enabled(x.device.type) else x


def autocast_enabled(device: str) -> bool:
    """Tell whether products on this type of device are in an autocast; some, as meta, have none."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def same_products(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes contexts in which products have the precision that they have now."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    return lambda: torch.autocast(device, dtype, enabled)


def exact(layer: Callable[..., Any], x: Tensor, *more: object) -> Any:
    """Return `layer(x, *more)`, its products in the precision of its weights, also in an autocast.

    For the last layer of a network, which is small, and a value rounded to eight bits would differ
    from its target mostly by the rounding; and for the dynamics of a simulator.
    """
    device = x.device.type
    if not autocast_enabled(device):
        return layer(x, *more)
    with torch.autocast(device, enabled=False):
        return layer(x, *more)
