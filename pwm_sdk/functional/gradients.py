"""What happens to gradients on their way back through a long chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def clip_cotangent(
    x: Tensor, limit: float, on_clip: Callable[[Tensor], None] | None = None
) -> Tensor:
    r"""Return `x`; on the way back, each row's gradient is scaled down to a norm of `limit`.

    .. math:: g' = g \min(1, limit / \| g \|)

    A bias: rows that are clipped no longer have the gradient of the loss. It keeps a few rows whose
    gradient explodes, such as simulated contacts, from deciding for all others.

    Args:
        x: `[.., D]`.
        limit: largest norm over the last axis, positive.
        on_clip: called on the way back with a mask `[..]`, True where a row was clipped.

    Returns:
        `[.., D]`, equal to x.

    Raises:
        ValueError: for a limit that is not positive.
    """
    if not limit > 0.0:
        raise ValueError(f"limit must be positive, got {limit}")
    clipped: Any = _Clip.apply(x, limit, on_clip)
    return clipped


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float, on_clip: Any) -> Tensor:
        ctx.limit, ctx.on_clip = limit, on_clip
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        norm = gradient.norm(dim=-1, keepdim=True)
        if ctx.on_clip is not None:
            ctx.on_clip((norm > ctx.limit).squeeze(-1))
        return gradient * (ctx.limit / norm.clamp_min(ctx.limit)), None, None
