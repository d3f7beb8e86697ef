"""Mish, at the price of one exponential."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pwm_sdk.calls import checked
from pwm_sdk.functional.gradients import Ctx

CHUNK = 131072  # longer, and the buffers fall out of the cache; shorter, and calls cost more
SMALL = 8192  # up to here, one slow kernel is faster than many fast ones


@checked()
def mish(x: Tensor) -> Tensor:
    r"""Return Mish, elementwise.

    .. math:: x \tanh(\ln(1 + e^x)) = x u / (2 - u), \quad u = \sigma(x) (2 - \sigma(x))

    Equal to `torch.nn.functional.mish` up to rounding, which it is on a GPU, where that is one
    kernel, and for a few numbers. For many on a CPU, in float32, the slope is computed on the way
    forward, so that the backward pass is one product; with `create_graph` it is the formula, which
    has second derivatives. Compiled, in other dtypes or under `torch.func` it
    is the formula alone.

    Args:
        x: `[..]`.

    Returns:
        `[..]`.
    """
    if x.device.type != "cpu" and not torch.compiler.is_compiling():
        return F.mish(x)
    if torch.compiler.is_compiling() or x.dtype != torch.float32 or _transformed(x):
        sigmoid = x.sigmoid()
        double = sigmoid * (2.0 - sigmoid)
        return x * (double / (2.0 - double))
    if x.numel() <= SMALL:
        return F.mish(x)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return _forward(x, slope=False)[0]
    result: Any = _Mish.apply(x)
    return result


# Under vmap and the like there is no memory to write results into.
_C: Any = torch._C
_transformed = _C._functorch.is_functorch_wrapped_tensor


class _Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Ctx, x: Tensor) -> Tensor:
        result, slope = _forward(x, slope=True)
        ctx.save_for_backward(x, slope)
        return result

    @staticmethod
    def backward(ctx: Ctx, *gradients: Tensor) -> Tensor:
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: there is a second derivative
            slope = _slope(x)
        return gradients[0] * slope


def _slope(x: Tensor) -> Tensor:
    """The slope of Mish as a formula that can be differentiated itself."""
    sigmoid = x.sigmoid()
    double = sigmoid * (2.0 - sigmoid)
    ratio = double / (2.0 - double)
    return ratio + x * sigmoid * (1.0 - ratio.square())


def _forward(x: Tensor, slope: bool) -> tuple[Tensor, Tensor]:
    """Mish `x r` and, if asked for, its slope `r + x sigmoid(x) (1 - r^2)`, chunk by chunk."""
    x, one = x.contiguous(), x.new_ones(())
    result = torch.empty_like(x)
    slopes = torch.empty_like(x) if slope else result
    parts = (t.view(-1).split(CHUNK) for t in (x, result, slopes))
    for value, out, ratio in zip(*parts, strict=True):
        sigmoid = value.sigmoid()
        torch.lerp(sigmoid, one, sigmoid, out=out)  # u
        rest = torch.rsub(out, 2.0)
        torch.div(out, rest, out=ratio)
        torch.mul(value, ratio, out=out)
        if slope:
            torch.addcmul(one, ratio, ratio, value=-1.0, out=rest)
            ratio.addcmul_(value, rest.mul_(sigmoid))
    return result, slopes
