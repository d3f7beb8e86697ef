"""Functions of tensors as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Captured:
    """A function of tensors as CUDA graphs, one for each combination of shapes.

    Everything else that the function reads or writes must keep its place in memory.

    Args:
        function: from tensors or None to a tuple of tensors or None without gradient; it must not
            wait for the device.
    """

    def __init__(self, function: Callable[..., tuple[Tensor | None, ...]]) -> None:
        self.function, self._graphs = function, {}

    def __call__(self, *arguments: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run, warm up or replay."""
        shapes = tuple(None if a is None else (a.shape, a.dtype) for a in arguments)
        if shapes not in self._graphs:
            self._graphs[shapes] = CudaGraphModule(self.function)
        return self._graphs[shapes](*arguments)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the graphs out: a copy captures its own."""
        return {"function": self.function, "_graphs": {}}


class CudaGraphModule:
    """A function of tensors of fixed shapes as one CUDA graph, replayed without a wait.

    The first calls run the function on a stream of their own, as its optimizer makes its state in
    them. The next one captures it with memory of its own for the arguments; from then on a call
    copies its arguments there, replays the graph and returns copies of the results. Each call runs
    the function once. Not seen on a GPU.

    Args:
        function: see `Captured`.
    """

    warm_up = 2

    def __init__(self, function: Callable[..., tuple[Tensor | None, ...]]) -> None:
        self.function, self.calls = function, 0
        self._graph: Any = None
        self._inputs: list[Tensor | None] = []
        self._outputs: tuple[Tensor | None, ...] = ()

    def __call__(self, *arguments: Tensor | None) -> tuple[Tensor | None, ...]:
        """Warm up, capture or replay."""
        device = next(a.device for a in arguments if a is not None)
        self.calls += 1
        with torch.cuda.device(device):
            if self.calls <= self.warm_up:
                return self._beside(arguments)
            if self._graph is None:
                self._graph = self._capture(arguments)
            for place, given in zip(self._inputs, arguments, strict=True):
                if place is not None and given is not None:
                    place.copy_(given, non_blocking=True)
            self._graph.replay()
        return tuple(None if result is None else result.clone() for result in self._outputs)

    def _beside(self, arguments: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        """Run the function on a stream beside the current one, which waits for it."""
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            results = self.function(*arguments)
        current.wait_stream(stream)
        return results

    def _capture(self, arguments: tuple[Tensor | None, ...]) -> Any:
        """Return a graph of the function's work on memory of its own; nothing runs yet."""
        self._inputs = [None if a is None else a.detach().clone() for a in arguments]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._outputs = self.function(*self._inputs)
        return graph


def prepare(optimizer: torch.optim.Optimizer, captured: bool) -> None:
    """Make an Adam ready to be captured, with its learning rates in memory, or ready not to be.

    Captured, its counts of steps lie beside the parameters; those of a state that was saved without
    graphs lie on the CPU.
    """
    for group in optimizer.param_groups:
        group["capturable"] = captured
        rate, device = float(group["lr"]), group["params"][0].device
        group["lr"] = torch.tensor(rate, device=device) if captured else rate
    if captured:
        for parameter, state in optimizer.state.items():
            if isinstance(count := state.get("step"), Tensor):
                state["step"] = count.to(parameter.device)
