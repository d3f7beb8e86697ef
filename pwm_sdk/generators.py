"""Random numbers for several policies at once, from one stream each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from pwm_sdk.calls import checked

__all__ = ["Generators"]


@checked()
class Generators:
    """P sources of random numbers with the face of one `torch.Generator`.

    What a policy draws depends on its own seed and its own draws, not on the other policies.

    Args:
        seeds: one per policy, at least one.
        device: where the numbers are drawn.

    Raises:
        ValueError: for no seeds.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        if not seeds:
            raise ValueError("seeds must have one entry per policy, got none")
        self.device = torch.device(device)
        self._parts = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[torch.Generator]:
        return iter(self._parts)

    def draw(self, one: Callable[[torch.Generator], Tensor], axis: int = 0) -> Tensor:
        """Stack what `one` draws from each stream along a new axis of size P."""
        return torch.stack([one(part) for part in self._parts], axis)

    def get_state(self) -> Tensor:
        """Return the state of all streams, `[P, N]` uint8 on the CPU."""
        return torch.stack([part.get_state() for part in self._parts])

    def set_state(self, state: Tensor) -> None:
        """Continue every stream where `get_state` was taken; sets P to the rows of `state`."""
        if state.dim() != 2 or not len(state):
            raise ValueError(f"state must have shape [P, N], got {list(state.shape)}")
        self._parts = [torch.Generator(self.device) for _ in state]
        for part, own in zip(self._parts, state.cpu(), strict=True):
            part.set_state(own.clone())
