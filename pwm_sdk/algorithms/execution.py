"""How an update is executed: compiled, in which precision, as captured graphs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pwm_sdk.calls import checked, least
from pwm_sdk.checks import whole

PRECISIONS = ("fp32", "tf32", "bf16")


@checked(check_every=least(1))
@dataclass(frozen=True)
class Execution:
    """How `PWM` runs its update; none of it changes what is computed, beyond rounding.

    Attributes:
        compile: compile one step of the rollout, the values of the targets and one loss of the
            critic; needs a C++ compiler.
        precision: of the products of matrices; LayerNorm, activations, returns and the optimizer
            stay in float32. "fp32" leaves them as the process has them, in float32 unless told
            otherwise; "tf32" rounds their factors to 10 bits behind the point on a GPU and is fp32
            on a CPU; "bf16" runs them in bfloat16, where the device has an autocast.
        cuda_graphs: capture the actor's pass and the critic's step and replay them, without waiting
            for the device (not seen on a GPU); one graph per shape of batch. Without a GPU: one
            warning, and no graphs.
        check_every: updates between two readings of whether losses and gradients were finite; a
            step that is not finite is never taken. None: 1 on a CPU, 100 where a reading waits for
            the device. Captured graphs are never read inside, with 1 after each update.

    Raises:
        ValueError: for another precision, or a `check_every` below 1.
    """

    compile: bool = False
    precision: str = "fp32"
    cuda_graphs: bool = False
    check_every: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")
        whole(1, check_every=self.check_every)

    def reads_every(self, device: torch.device) -> int:
        """Return the number of updates between two readings on `device`."""
        if self.check_every is not None:
            return self.check_every
        return 1 if device.type == "cpu" else 100

    def products(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which matrix products have the wanted precision."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)

    @contextlib.contextmanager
    def tf32(self, device: torch.device) -> Iterator[None]:
        """Let a GPU's float32 products be tf32, on the way back too, if that is the precision."""
        products = torch.backends.cuda.matmul
        before = products.fp32_precision
        if self.precision != "tf32" or device.type != "cuda" or before == "tf32":
            yield
            return
        products.allow_tf32 = True  # of torch's two settings it keeps the other in step
        try:
            yield
        finally:
            products.allow_tf32 = False
            products.fp32_precision = before

    def on(self, device: torch.device) -> Execution:
        """Return what of it is possible on `device`; warn if graphs are wanted and are not."""
        if self.precision == "bf16" and not torch.amp.is_autocast_available(device.type):
            return replace(self, precision="fp32").on(device)
        if not self.cuda_graphs or device.type == "cuda":
            return self
        warnings.warn(
            f"cuda_graphs=True needs a GPU, got parameters on {device.type}: running without",
            stacklevel=3,
        )
        return replace(self, cuda_graphs=False)


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
        """Leave the graphs behind: a copy captures its own."""
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
    """Make an Adam ready to be captured, with its learning rates in memory, or ready not to be."""
    for group in optimizer.param_groups:
        group["capturable"] = captured
        rate, device = float(group["lr"]), group["params"][0].device
        group["lr"] = torch.tensor(rate, device=device) if captured else rate
