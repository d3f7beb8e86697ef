"""Batches drawn ahead of time by a thread, and brought to a device."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.calls import checked, least
from pwm_sdk.checks import whole
from pwm_sdk.contract.agents import Batches

__all__ = ["Prefetcher"]

_DEPTH = 2  # batches ahead, for a GPU


@checked(depth=least(0), members=least(0))
class Prefetcher:
    """A source of batches whose next ones are drawn while the last one is used.

    The order is that of the source, with and without a thread, and a state taken from `generator`
    is that of the last batch handed out, whatever has been drawn ahead: a run continues to the bit.
    On a CPU there is nothing to gain, and batches pass through without a thread. The thread leaves
    the GPU to the caller: what it did there, or memory that it pinned, would break a CUDA graph
    captured meanwhile. So a source whose batches come out on a GPU is sampled by the caller,
    without a thread; let it bring them out on the CPU. None of this has been seen on a GPU.

    While the thread runs, nobody else may draw from the source or add episodes to it. `close` ends
    the thread and sets the source back to the batch that would have come next.

    Args:
        source: has `sample()` and `generator`, for example a `ReplayBuffer` or its `starts`, and
            `device` where that is not the CPU.
        device: where batches come out; from pinned memory, without waiting, if it is a GPU.
        depth: batches that are drawn ahead; 0: none. None: 2 for a GPU, else 0. Of a source that is
            not on the CPU none is drawn ahead, whatever is asked for.

    Raises:
        ValueError: if depth is negative.
    """

    def __init__(
        self, source: Batches, device: torch.device | str = "cpu", depth: int | None = None
    ) -> None:
        whole(0, depth=depth)
        self.source: Any = source
        self.device = torch.empty(0, device=device).device
        if depth is None:
            depth = _DEPTH if self.device.type == "cuda" else 0
        on_cpu = torch.device(getattr(source, "device", "cpu")).type == "cpu"
        self.depth = depth if on_cpu else 0
        self._line: _Line | None = None
        self._state: Any = None

    def sample(self) -> TensorDict:
        """Return the source's next batch, on the device.

        Raises:
            Exception: what the source raised, at the batch at which it did.
        """
        if not self.depth:
            return self._bring(self.source.sample())
        if self._line is None:
            self._state = self.source.generator.get_state()
            self._line = _Line(self.source, self.depth)
            self._finalizer = weakref.finalize(self, self._line.close)
        batch, state = self._line.next()
        if isinstance(batch, BaseException):
            self.close()
            raise batch
        self._state = state
        return self._bring(batch)

    def _bring(self, batch: TensorDict) -> TensorDict:
        """Bring a batch to the device, from pinned memory where it is a GPU."""
        if self.device.type == "cuda" and batch.device is not None and batch.device.type == "cpu":
            batch = batch.pin_memory()
        leaves_gpu = self.device.type == "cpu" and getattr(batch.device, "type", "cpu") != "cpu"
        return batch.to(self.device, non_blocking=not leaves_gpu)

    @property
    def generator(self) -> Self:
        """Whose `get_state` says where `sample` goes on, and whose `set_state` sets it there."""
        return self

    def get_state(self) -> Tensor:
        """Return the state of the source's random numbers after the last batch handed out."""
        return self.source.generator.get_state() if self._line is None else self._state

    def set_state(self, state: Tensor) -> None:
        """Let `sample` go on where `get_state` was taken."""
        self.close()
        self.source.generator.set_state(state)

    def keep(self, members: Sequence[int]) -> None:
        """Go on, in place, for some policies of a `Starts` alone."""
        policies = len(self.source.generator)
        if not members or max(members) >= policies:
            raise ValueError(f"members must lie in 0..{policies - 1}, got {list(members)}")
        self.close()
        self.source.keep(members)

    def close(self) -> None:
        """End the thread, if one runs; `sample` starts another."""
        if self._line is not None:
            self._finalizer.detach()
            self._line.close()
            self._line = None
            self.source.generator.set_state(self._state)

    def __getstate__(self) -> dict[str, Any]:
        """Let copies and pickles go on with the next batch; a thread that runs is ended."""
        self.close()
        return {k: v for k, v in self.__dict__.items() if k != "_finalizer"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Line:
    """A thread that keeps some batches ready; it knows nothing of who takes them."""

    def __init__(self, source: Batches, depth: int) -> None:
        self._source: Any = source
        self._ready: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._room, self._over = threading.Semaphore(depth), False
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def next(self) -> tuple[Any, Any]:
        """Return a batch, or the error in its place, and the source's state after it."""
        item = self._ready.get()
        self._room.release()
        return item

    def close(self) -> None:
        """Wait for the batch being drawn, and end."""
        self._over = True
        self._room.release()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._room.acquire()
            if self._over:
                return
            try:
                item = self._source.sample(), self._source.generator.get_state()
            except Exception as error:  # whoever takes the batch raises it
                self._ready.put((error, None))
                return
            self._ready.put(item)
