"""Mish with a single exponential."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 32768  # four float32 buffers of this length stay in a core's own cache


def mish(x: Tensor) -> Tensor:
    r"""Return Mish, elementwise.

    .. math:: x \tanh(\ln(1 + e^x)) = x n / (n + 2), \quad n = e^x (e^x + 2)

    Equal to `torch.nn.functional.mish` up to rounding. With a gradient, the slope is computed on
    the way forward, so that the way back is one product. Compiled, it is the formula alone.
    """
    if torch.compiler.is_compiling() or x.dtype != torch.float32:
        exp = x.clamp_max(20.0).exp()
        double = exp * (exp + 2.0)
        return x * (double / (double + 2.0))
    if not (x.requires_grad and torch.is_grad_enabled()):
        return _forward(x, slope=False)[0]
    result: Any = _Mish.apply(x)
    return result


class _Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result, slope = _forward(x, slope=True)
        ctx.save_for_backward(slope)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * ctx.saved_tensors[0]


def _forward(x: Tensor, slope: bool) -> tuple[Tensor, Tensor]:
    """Mish and, if asked for, its slope `r + 4 x e (e + 1) / (n + 2)^2` with `r = n / (n + 2)`."""
    x = x.contiguous()
    result = torch.empty_like(x)
    slopes = torch.empty_like(x) if slope else result
    length = CHUNK if x.device.type == "cpu" else max(x.numel(), 1)
    parts = (t.view(-1).split(length) for t in (x, result, slopes))
    for value, out, ratio in zip(*parts, strict=True):
        exp = value.clamp(max=20.0).exp_()
        double = (exp + 2.0).mul_(exp)
        if not slope:
            torch.mul(double.div_(exp.copy_(double).add_(2.0)), value, out=out)
            continue
        inverse = (double + 2.0).reciprocal_()
        torch.mul(double, inverse, out=ratio)
        torch.mul(value, ratio, out=out)
        exp.addcmul_(exp, exp).mul_(inverse).mul_(inverse).mul_(value)
        ratio.add_(exp, alpha=4.0)
    return result, slopes
