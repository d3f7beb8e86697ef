"""Task ids, and what a model looked up of them: given a time axis for policies and values."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor

# what a model looked up of tasks, a named tuple; the ids of a model that looks up nothing
Context: TypeAlias = Tensor | tuple[Tensor | None, ...] | None


def with_time(context: Context) -> Context:
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
    make: Any = type(context)
    return make(*(x if x is None or x.dim() == 1 else x.unsqueeze(-2) for x in context))
