"""Regressing a critic on imagined states, part by part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pwm_sdk.contract.parts import TrainedValue
from pwm_sdk.contract.policies import population_of
from pwm_sdk.execution.compiling import compiled
from pwm_sdk.execution.graphs import Captured, prepare
from pwm_sdk.execution.settings import Execution
from pwm_sdk.objectives.policy import critic_loss
from pwm_sdk.optim import FiniteWatch, keeping, minibatches, optimize


class CriticFit:
    """Steps a critic towards its targets on minibatches of imagined states.

    A critic of a population whose numbers are not finite is left as it was before the call, and
    stopped; the others go on.

    Args:
        critic: a `Critic`, or a module of the same interface.
        optimizer: of its parameters.
        max_norm: gradient clip, per policy.
        population: P, or None for one policy, as the critic is.
        parts: arguments of `minibatches`.
        execution: how one step is run; None: eager, in fp32.
        watch: notes whether `name` was finite; None: every step reads it, of a population every
            call.
        name: of loss and gradient.

    Raises:
        ValueError: if the population is not the critic's.
    """

    def __init__(
        self,
        critic: TrainedValue,
        optimizer: torch.optim.Optimizer,
        max_norm: float | None,
        *,
        parts: dict[str, Any],
        population: int | None = None,
        execution: Execution | None = None,
        watch: FiniteWatch | None = None,
        name: str = "loss",
    ) -> None:
        if population != (own := population_of(critic)):
            raise ValueError(f"population must be the critic's {own}, got {population}")
        self.critic, self.optimizer, self.max_norm = critic, optimizer, max_norm
        self.population, self.parts = population, parts
        self.execution, self.watch, self.name = execution or Execution(), watch, name
        self._reads = watch is None and population is not None
        if self._reads:
            device = next(critic.parameters()).device
            self.watch = FiniteWatch([name], 1, device, population=population)
        self._loss = compiled(self._eager_loss) if self.execution.compile else self._eager_loss
        self.prepare(captured=False)

    def prepare(self, captured: bool) -> None:
        """Make one step ready to be run eagerly, or to be captured again as a CUDA graph."""
        prepare(self.optimizer, captured)
        self._run: Any = Captured(self.step) if captured else self.step

    def __call__(
        self, states: Tensor, targets: Tensor, alive: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Step over all parts.

        Args:
            states: `[B, H, D]`, or `[P, B, H, D]`.
            targets: `[.., 1]`.
            alive: weights of the states `[.., 1]`; None: all alike.

        Returns:
            Loss and gradient norm before clipping of the last step, `[]` or `[P]`.

        Raises:
            ValueError: if shapes do not fit; without a watch, if a loss or gradient is not
                finite, of a population if that holds for all.
        """
        loss = norm = torch.zeros(())
        tensors = (states, targets) if alive is None else (states, targets, alive)
        with self.execution.tf32(states.device), keeping(self.watch, self.optimizer):
            for part in minibatches(*tensors, **self.parts):
                loss, norm = self._run(*part)
        if self._reads:
            self.check_finite()
        return loss, norm

    def check_finite(self) -> None:
        """Wait for the device; raise ValueError for what was not finite since the last reading.

        Of a population, only if no policy is left to go on; those that are stopped are named in a
        warning.
        """
        if self.watch is not None:
            self.watch.read()

    def step(
        self, states: Tensor, targets: Tensor, alive: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step on states `[N, D]` (or `[P, N, D]`); returns its loss and gradient norm."""
        with self.execution.products(states.device):
            loss = self._loss(states, targets, alive)
        norm = optimize(
            loss,
            self.optimizer,
            self.max_norm,
            population=self.population,
            watch=self.watch,
            name=self.name,
        )
        return loss.detach(), norm

    def _eager_loss(self, states: Tensor, targets: Tensor, alive: Tensor | None) -> Tensor:
        if self.population is None:
            return critic_loss(self.critic, states, targets, alive)
        return critic_loss(self.critic, states, targets, alive, per_policy=True)
