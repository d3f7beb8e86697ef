"""Random numbers in the workers of a `DataLoader`, which would otherwise all draw the same."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import get_worker_info

from pwm_sdk.generators import Generators

__all__ = ["OwnStream"]

Source = TypeVar("Source", torch.Generator, Generators)


class OwnStream(Generic[Source]):
    """A source of random numbers that begins anew, once, in each worker of a `DataLoader`.

    A worker gets a copy of everything, of random states too. Its own numbers follow from the copied
    state and the worker's seed, which torch draws for each worker and each time that it starts them
    from the generator of the `DataLoader`, or its global one.

    Args:
        source: the numbers outside of workers.
    """

    def __init__(self, source: Source) -> None:
        self._source: Source = source
        self._worker: int | None = None

    @property
    def generator(self) -> Source:
        """The numbers of this process."""
        worker = get_worker_info()
        if worker is not None and self._worker != worker.seed:
            self._worker = worker.seed
            source = self._source
            for part in [source] if isinstance(source, torch.Generator) else source:
                drawn = torch.randint(2**62, (), generator=part, device="cpu")
                words = np.random.SeedSequence([int(drawn), worker.seed]).generate_state(2)
                part.manual_seed(int(words[0]) << 32 | int(words[1]))
        return self._source

    def __getstate__(self) -> dict[str, Any]:
        # Arrays, here and elsewhere in a replay: a tensor that is sent to a process is shared with
        # it, through a file handle that must outlive the sending.
        state = self._source.get_state().numpy()
        return {
            "numbers": state,
            "many": isinstance(self._source, Generators),
            "worker": self._worker,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = torch.from_numpy(np.array(state["numbers"]))
        source: Any = Generators([0], "cpu") if state["many"] else torch.Generator("cpu")
        source.set_state(found)
        self._source, self._worker = source, state["worker"]
