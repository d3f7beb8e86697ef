"""Bounds of an environment's actions, and actions in its own units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor
from torchrl.envs import EnvBase

Edge = float | Sequence[float] | np.ndarray


class Bounds:
    """What actions in [-1, 1] are scaled to.

    Args:
        low: smallest action, a number or `[A]`.
        high: largest one.

    Raises:
        ValueError: if they are not finite, not of one size, or low is above high.
    """

    def __init__(self, low: Edge = -1.0, high: Edge = 1.0) -> None:
        edges = np.asarray(low, np.float32), np.asarray(high, np.float32)
        if any(edge.ndim > 1 for edge in edges) or len({e.shape for e in edges if e.ndim}) > 1:
            raise ValueError(f"low and high must be numbers or [A], got {low} and {high}")
        self.low, self.high = np.broadcast_arrays(*edges)
        with np.errstate(over="ignore"):
            span = self.high - self.low
        if not (np.isfinite(span) & (span >= 0.0)).all():
            raise ValueError(f"high must be at least low, both finite, got {low} and {high}")
        self.unit = bool((self.low == -1.0).all() and (self.high == 1.0).all())

    def scaled(self, action: Tensor, *, cut: bool = False) -> Tensor:
        """Return actions `[.., A]` in [-1, 1], clipped to that, in the environment's units.

        Args:
            action: `[.., A]`.
            cut: leave out actions beyond those of the bounds, which a model of several tasks has.

        Raises:
            ValueError: if the number of actions is another.
        """
        size = self.low.size if self.low.ndim else action.shape[-1]
        action = action[..., :size] if cut else action
        if action.shape[-1] != size:
            raise ValueError(
                f"actions must have the size {size} of the bounds, got {list(action.shape)}"
            )
        action = action.clamp(-1.0, 1.0)
        if self.unit:
            return action
        like: Any = {"dtype": action.dtype, "device": action.device}
        low, high = (torch.tensor(edge, **like) for edge in (self.low, self.high))
        half = (high - low) / 2.0
        return torch.minimum(torch.maximum((action + 1.0) * half + low, low), high)


def bounds_of(env: gymnasium.Env | EnvBase) -> tuple[np.ndarray, np.ndarray]:
    """Return smallest and largest actions `[A]` of a gymnasium or TorchRL environment."""
    if isinstance(env, EnvBase):
        space: Any = env.action_spec_unbatched.space
        edges = [torch.as_tensor(edge).cpu().numpy() for edge in (space.low, space.high)]
        return edges[0], edges[1]
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Box):
        raise ValueError(f"env must have a Box of actions, got {space}")
    return space.low, space.high
