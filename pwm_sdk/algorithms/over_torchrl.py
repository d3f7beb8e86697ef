"""What algorithms over TorchRL's losses have in common: device, random numbers, finite steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pwm_sdk.algorithms.execution import Execution
from pwm_sdk.generators import following, own_generator
from pwm_sdk.optim import FiniteWatch, adam, optimize, scale_learning_rates


class OverTorchRL:
    """Networks inside a TorchRL loss, their optimizer, and a source of random numbers beside them.

    All of it follows `loss.to(device)`.

    Args:
        loss: TorchRL's.
        lr: Adam's rate.
        device: of the networks.
        generator: source of all that is drawn, on that device; None: one of its own, seeded by
            torch's global one.
        **settings: further arguments of Adam.

    Raises:
        ValueError: for a generator on another device.
    """

    def __init__(
        self,
        loss: Any,
        lr: float,
        device: torch.device | str,
        generator: torch.Generator | None,
        **settings: Any,
    ) -> None:
        self.loss = loss.to(device)
        self.optimizer = adam(self.loss.parameters(), lr, **settings)
        self._generator = own_generator(self.device, generator)
        self._finite: FiniteWatch | None = None
        self.updates = 0

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.loss.parameters()).device

    @property
    def generator(self) -> torch.Generator:
        """Source of all that is drawn, on the networks' device."""
        self._generator = following(self._generator, self.device)
        return self._generator

    @property
    def finite(self) -> FiniteWatch:
        """Notes on the networks' device whether losses and gradients were finite."""
        if self._finite is None or self._finite.device != self.device:
            every = Execution().reads_every(self.device)
            self._finite = FiniteWatch(["loss"], every, self.device)
        return self._finite

    def check_finite(self) -> None:
        """Wait for the device; raise ValueError if a loss was not finite since the last time."""
        self.finite.read()

    def set_learning_rates(self, factor: float) -> None:
        """Set the learning rate to `factor` times its start."""
        scale_learning_rates(self.optimizer, factor)

    def _minimize(self, loss: Tensor, max_norm: float | None = None) -> Tensor:
        """Step the optimizer, where the loss is finite; returns the norm of the gradient."""
        return optimize(loss, self.optimizer, max_norm, watch=self.finite, name="loss")

    def _count(self) -> None:
        """Note that an update is done, and read now and then whether its numbers were finite."""
        self.updates += 1
        if self.updates % self.finite.every == 0:
            self.check_finite()
