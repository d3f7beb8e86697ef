"""What runs the updates of one agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from pwm_sdk.execution.compiling import compiled
from pwm_sdk.execution.finite import FiniteWatch
from pwm_sdk.execution.graphs import Captured
from pwm_sdk.execution.half_weights import HalfWeights
from pwm_sdk.execution.settings import Execution


class Runner:
    """The settings of an agent's updates on its device, and what they need between updates.

    Args:
        execution: what is wanted; None: eager, in fp32.
        device: of the networks.
        watched: names of what is watched for numbers that are not finite.
        population: P, or None for one policy.
        model: left as it is by updates; its weights are cast to bfloat16 once for each.
        compiles: whether the agent can be compiled.
        captures: whether it can be captured as CUDA graphs.

    Attributes:
        settings: what of `execution` is possible.
        finite: watches losses and gradients.
    """

    def __init__(
        self,
        execution: Execution | None,
        device: torch.device,
        watched: Sequence[str],
        *,
        population: int | None = None,
        model: object = None,
        compiles: bool = False,
        captures: bool = False,
    ) -> None:
        wanted, self.device = execution or Execution(), device
        self.settings = wanted.on(device, compiles=compiles, captures=captures)
        every, graphs = self.settings.reads_every(device), self.settings.cuda_graphs
        self.finite = FiniteWatch(watched, every, device, captured=graphs, population=population)
        self._weights = HalfWeights(model if self.settings.precision == "bf16" else None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let products be tf32 where they should, and the model's weights lie in bfloat16."""
        with self.settings.tf32(self.device), self._weights:
            yield

    def products(self) -> AbstractContextManager[Any]:
        """Return the context for forward passes; gradients are taken outside of it."""
        return self.settings.products(self.device)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function compiled, where that is wanted."""
        return compiled(function) if self.settings.compile else function

    def captured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function as CUDA graphs, where that is wanted."""
        return Captured(function) if self.settings.cuda_graphs else function

    def read(self, updates: int) -> None:
        """Read now and then, after so many updates, whether all numbers were finite."""
        if updates % self.finite.every == 0:
            self.finite.read()
