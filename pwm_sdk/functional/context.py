"""What was looked up of tasks: given a time axis, handed to policies and values."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def with_time(context: Any) -> Any:
    """Let task ids or looked-up context broadcast over a trajectory.

    Args:
        context: ids `[.., B]`, a named tuple of tensors `[.., B, X]` (`[X]` is left), or None.

    Returns:
        Ids `[.., B, 1]`, the same tuple of `[.., B, 1, X]`, or None.
    """
    if context is None:
        return None
    if isinstance(context, Tensor):
        return context.unsqueeze(-1)
    return type(context)(*(x if x is None or x.dim() == 1 else x.unsqueeze(-2) for x in context))
