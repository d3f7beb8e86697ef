"""What happens to gradients in the backward pass of a long chain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pwm_sdk.calls import checked, may_be_infinite
from pwm_sdk.checks import positive
from pwm_sdk.functional.precision import same_products

Ctx: TypeAlias = Any  # of an autograd function, which declares none of its attributes


@checked(limit=(positive, may_be_infinite))
def clip_cotangent(
    x: Tensor, limit: float, on_clip: Callable[[Tensor], None] | None = None
) -> Tensor:
    r"""Return `x`; in the backward pass, each row's gradient is scaled down to a norm of `limit`.

    .. math:: g' = g \min(1, limit / \| g \|)

    A bias: rows that are clipped no longer have the gradient of the loss. It keeps a few rows whose
    gradient explodes, such as simulated contacts, from deciding for all others.

    Args:
        x: `[.., D]`.
        limit: largest norm over the last axis, positive.
        on_clip: called in the backward pass with a mask `[..]`, True where a row was clipped.

    Returns:
        `[.., D]`, equal to x.

    Raises:
        ValueError: if the limit is not positive.
    """
    if not limit > 0.0:
        raise ValueError(f"limit must be positive, got {limit}")
    clipped: Any = _Clip.apply(x, limit, on_clip)
    return clipped


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Ctx, x: Tensor, limit: float, on_clip: Callable[[Tensor], None] | None
    ) -> Tensor:
        ctx.limit, ctx.on_clip = limit, on_clip
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Ctx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        norm = gradient.norm(dim=-1, keepdim=True)
        if ctx.on_clip is not None:
            ctx.on_clip((norm > ctx.limit).squeeze(-1))
        return gradient * (ctx.limit / norm.clamp_min(ctx.limit)), None, None


def slopes(
    name: str, output: Tensor, inputs: dict[str, Tensor], *, any_of: bool = False
) -> list[Tensor]:
    """Return the gradients of the sum of `output`, and check that its graph reaches the inputs.

    Args:
        name: what the error calls `output`.
        output: any shape.
        inputs: leaves that require a gradient, by the names that the error calls them.
        any_of: one reached input is enough.

    Returns:
        The gradients of the inputs that are reached, in order.

    Raises:
        ValueError: if the output has no graph or does not depend on the inputs.
    """
    if not output.requires_grad:
        raise ValueError(f"{name} must be differentiable, got a tensor without a graph")
    found = torch.autograd.grad(
        output.sum(), list(inputs.values()), retain_graph=True, allow_unused=True
    )
    missing = [key for key, slope in zip(inputs, found, strict=True) if slope is None]
    if missing and (not any_of or len(missing) == len(inputs)):
        raise ValueError(
            f"{name} must depend differentiably on {' and '.join(missing)}, got no gradient"
        )
    return [slope for slope in found if slope is not None]


class OneBackward:
    """A function that is called step by step and differentiated once, for all its calls together.

    For inputs that take no gradient. The calls keep no graph; in the backward pass the function
    runs again on all inputs, stacked, and its parameters receive the sum of what they would have
    received call by call. H small backward passes become one.

    Args:
        function: maps `[.., B, D]` to `[.., B, A]`, and `[.., B, H, D]` to `[.., B, H, A]`.
        parameters: what it depends on.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], parameters: Iterable[Tensor]) -> None:
        self._function = function
        self._calls: list[list[Any]] = []  # input and, in the backward pass, gradient of the output
        # All calls hand their gradients to one node; it runs when the last of them has.
        self._node: Any = _Batch.apply(function, self._calls, *parameters)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the function's value; no gradient flows into `x`."""
        with torch.no_grad():
            value = self._function(x)
        self._calls.append([x.detach(), torch.zeros_like(value)])
        result: Any = _Call.apply(self._node, value, self._calls[-1])
        return result


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Ctx, node: Tensor, value: Tensor, call: list[Any]) -> Tensor:
        ctx.call = call
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Ctx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.call[1] = gradients[0]
        return gradients[0].new_zeros(()), None, None


class _Batch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Ctx, function: Callable[[Tensor], Tensor], calls: list[list[Any]], *parameters: Tensor
    ) -> Tensor:
        ctx.function, ctx.calls, ctx.parameters = function, calls, parameters
        ctx.products = same_products(parameters[0].device.type)
        return parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Ctx, *_: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gradients = (torch.stack(x, -2) for x in zip(*ctx.calls, strict=True))
        again = torch.is_grad_enabled()  # create_graph: there is a second derivative
        with torch.enable_grad(), ctx.products():
            value = ctx.function(inputs)
        wanted = [p for p in ctx.parameters if p.requires_grad]
        slopes = torch.autograd.grad(
            value, wanted, gradients, allow_unused=True, create_graph=again
        )
        found = iter(slopes)
        return None, None, *(next(found) if p.requires_grad else None for p in ctx.parameters)
