"""The settings of an update: compiled, in which precision, as captured graphs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from pwm_sdk.calls import checked, least
from pwm_sdk.checks import whole

PRECISIONS = ("fp32", "tf32", "bf16")


@checked(check_every=least(1))
@dataclass(frozen=True)
class Execution:
    """How an agent, a planner or a world model runs; none of it changes results beyond rounding.

    What a device or an algorithm cannot do is left out, with a warning.

    Attributes:
        compile: of `PWM`: one step of the rollout, the values of the targets and one loss of the
            critic; of `SHAC` the last two. Needs a C++ compiler.
        precision: of the products of matrices; LayerNorm, activations, returns, simulators and the
            optimizer stay in float32, as does the last layer of the package's networks. "fp32"
            leaves them as the process has them, in float32 unless set otherwise; "tf32" rounds
            their factors to 10 bits after the point on a GPU and is fp32 on a CPU; "bf16" runs them
            in bfloat16, where the device has an autocast.
        cuda_graphs: of `PWM`: capture the actor's pass and the critic's step and replay them,
            without waiting for the device (not seen on a GPU); one graph per shape of batch.
        check_every: updates between two readings of whether losses and gradients were finite; a
            step that is not finite is never taken. None: 1 on a CPU, 100 where a reading waits for
            the device. Captured graphs are never read inside, with 1 after each update.

    Raises:
        ValueError: if the precision is another one, or `check_every` is below 1.
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
        """Let a GPU's float32 products, those of gradients too, be tf32 if that is asked for."""
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

    def on(
        self, device: torch.device, *, compiles: bool = True, captures: bool = True
    ) -> Execution:
        """Return these settings with whatever is not possible turned off; warn of it.

        Args:
            device: of the networks.
            compiles: whether the algorithm can be compiled.
            captures: whether it can be captured as CUDA graphs.
        """
        bf16 = self.precision == "bf16" and torch.amp.is_autocast_available(device.type)
        precision = "fp32" if self.precision == "bf16" and not bf16 else self.precision
        compiling, graphs = self.compile and compiles, self.cuda_graphs
        if compiling is not self.compile:
            _warn("compile=True is not possible here: running without")
        if graphs and not captures:
            graphs = _warn("cuda_graphs=True is not possible here: running without")
        elif graphs and device.type != "cuda":
            graphs = _warn(
                f"cuda_graphs=True needs a GPU, got parameters on {device.type}: running without"
            )
        return replace(self, compile=compiling, precision=precision, cuda_graphs=graphs)


def _warn(message: str) -> bool:
    """Warn of what is left out; returns False."""
    warnings.warn(message, stacklevel=5)
    return False
