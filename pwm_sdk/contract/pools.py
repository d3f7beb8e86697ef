"""The pool: N environments with one numpy interface, whatever steps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class PoolStep(NamedTuple):
    """What one step of one environment led to; `observation` is `[O]` float32."""

    observation: np.ndarray
    reward: float
    success: bool
    terminated: bool
    truncated: bool


@runtime_checkable
class Pool(Protocol):
    """N environments that are stepped together, one by one or all at once.

    Actions lie in [-1, 1]; the pool clips them and scales them to the environments' own bounds. An
    environment that ended an episode is reset by the caller before its next step.

    Attributes:
        tasks: index of each environment's task; None where it has none.
        action_dims: size of each environment's actions.
        names: what messages call each environment.
        max_steps: most steps of an episode; None: the caller's own limit counts.
    """

    max_steps: int | None

    @property
    def tasks(self) -> list[int | None]:
        """Index of each environment's task; None where it has none."""
        ...

    @property
    def action_dims(self) -> list[int]:
        """Size of each environment's actions."""
        ...

    @property
    def names(self) -> list[str]:
        """What messages call each environment."""
        ...

    def __len__(self) -> int:
        """Return N."""
        ...

    def reset_many(
        self, indices: Sequence[int], seeds: Sequence[int | None] | None = None
    ) -> list[np.ndarray]:
        """Start episodes in some environments; returns their observations `[O]` float32."""
        ...

    def step_many(
        self, indices: Sequence[int], actions: Sequence[np.ndarray] | np.ndarray
    ) -> Sequence[PoolStep]:
        """Take one action `[A]` in each of some environments."""
        ...

    def close(self) -> None:
        """Close every environment."""
        ...
