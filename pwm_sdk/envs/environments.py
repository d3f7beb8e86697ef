"""What every pool has in common: what is known of its environments, and one of them alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from pwm_sdk.contract.pools import PoolStep
from pwm_sdk.envs.member import About

__all__ = ["Environments", "check_places"]


class Environments(ABC):
    """N environments that are known, whatever steps them; a subclass steps several at once.

    Attributes:
        about: what is known of each.
    """

    about: list[About]

    def __len__(self) -> int:
        return len(self.about)

    @property
    def tasks(self) -> list[int | None]:
        """Index of each environment's task, found through wrappers; None where it has none."""
        return [known.task for known in self.about]

    @property
    def action_dims(self) -> list[int]:
        """Size of each environment's actions."""
        return [known.action_dim for known in self.about]

    @property
    def names(self) -> list[str]:
        """What messages call each environment."""
        return [known.where for known in self.about]

    def reset(self, index: int, *, seed: int | None = None) -> np.ndarray:
        """Start an episode in environment `index`; returns the observation `[O]` float32."""
        return self.reset_many([index], [seed])[0]

    def step(self, index: int, action: np.ndarray) -> PoolStep:
        """Take `action` `[A]` in environment `index`."""
        return self.step_many([index], [action])[0]

    @abstractmethod
    def reset_many(
        self, indices: Sequence[int], seeds: Sequence[int | None] | None = None
    ) -> list[np.ndarray]:
        """Start episodes in some environments, at once; returns their observations."""

    @abstractmethod
    def step_many(
        self, indices: Sequence[int], actions: Sequence[np.ndarray] | np.ndarray
    ) -> list[PoolStep]:
        """Take one action `[A]` in each of some environments, at once."""


def check_places(
    count: int, indices: Sequence[int], name: str, given: Sequence[Any] | np.ndarray
) -> list[int]:
    """Return places in a pool of `count` environments.

    Raises:
        ValueError: if the pool does not have a place, or the lengths differ.
    """
    rows = list(indices)
    for index in rows:
        if not 0 <= index < count:
            raise ValueError(f"index must be one of the pool's {count}, got {index}")
    if len(set(rows)) != len(given):
        raise ValueError(
            f"{name} must have one entry for each of different environments, "
            f"got {len(given)} for {rows}"
        )
    return rows
