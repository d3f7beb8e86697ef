"""Behaviour cloning: a policy that repeats what is in the data, the floor of offline learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.algorithms.execution import Execution
from pwm_sdk.algorithms.watched import Watched
from pwm_sdk.calls import checked, floating, has, holds, least, may_be_infinite, shaped
from pwm_sdk.checks import at_least, positive, whole
from pwm_sdk.contract.policies import is_stochastic
from pwm_sdk.objectives.policy import behaviour_loss
from pwm_sdk.optim import FiniteWatch, adam, linear_decay, optimize, scale_learning_rates
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.states import load_state, state_of

LOSS = "loss and gradient"  # as the watch knows them


@checked(max_norm=may_be_infinite)
@dataclass(frozen=True)
class BehaviourCloningConfig:
    """Settings of `BehaviourCloning`.

    Attributes:
        lr: Adam's rate.
        max_norm: gradient clip; None: none.

    Raises:
        ValueError: for settings out of range.
    """

    lr: float = 1e-3
    max_norm: float | None = 10.0

    def __post_init__(self) -> None:
        at_least(0.0, lr=self.lr)
        positive(max_norm=self.max_norm)


@checked(
    factor=least(0.0),
    model=has("encode"),
    batch=holds(keys.OBSERVATION, keys.ACTION),
    replay=has("sample"),
    steps=least(1),
    observation=(shaped(..., "O"), floating),
)
class BehaviourCloning(Watched):
    """Least squares from observations, or a model's latents, to the actions of the data.

    Policies of a population are independent. One whose loss or gradient is not finite is stopped
    and stays as it was before that update; the others go on.

    Args:
        actor: maps observations `[.., O]`, or latents `[.., D]`, to actions `[.., A]`, for example
            a `FirstOrderActor`, alone or a population.
        config: settings.
        model: encodes observations, and is left as it is; None: the actor sees observations.

    Attributes:
        updates: done so far.

    Source: ALVINN (Pomerleau, 1988); the squared error is that of TD3+BC (arXiv 2106.06860).
    """

    decay_floor = 0.02  # share of the learning rate that is left at the end of a fit

    def __init__(
        self, actor: nn.Module, config: BehaviourCloningConfig | None = None, *, model: Any = None
    ) -> None:
        self.config = config = config or BehaviourCloningConfig()
        self.actor, self.model = actor, model
        self.population: int | None = getattr(actor, "population", None)
        self.optimizer = adam(actor.parameters(), config.lr)
        device = next(actor.parameters()).device
        every = Execution().reads_every(device)
        self.finite = FiniteWatch([LOSS], every, device, population=self.population)
        self.updates = 0

    def __call__(self, observation: Tensor) -> Tensor:
        """Return actions `[.., A]` for observations `[.., O]`, for an actor without a model."""
        size = getattr(self.actor, "latent_dim", observation.shape[-1])
        if observation.shape[-1] != size:
            raise ValueError(f"observation must have size {size}, got {list(observation.shape)}")
        return self.actor(observation.to(next(self.actor.parameters()).dtype))

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Move the actor once towards the actions of a batch.

        Args:
            batch: windows `[B]` of a `ReplayBuffer` (observation `[B, H+1, O]`, action `[B, H, A]`,
                task `[B]`): all H pairs are used, but for steps that are not real (`[B, H, 1]`;
                without it, all are); or pairs `[B]` (observation `[B, O]`, action `[B, A]`). For a
                population `[P, B]` of either.

        Returns:
            Detached metrics, `[]` or `[P]`: loss (squared distance of the actions), grad_norm.

        Raises:
            ValueError: for a batch that does not fit, or if the loss or its gradient is not finite,
                of a population if that holds for all policies; nothing is stepped then. It is
                raised by the update itself on a CPU, and at most 100 updates later, or by
                `check_finite`, where a reading waits for the device.
        """
        observation, action, task, real = self._pairs(batch)
        if self.model is not None:
            with torch.no_grad():
                observation = self.model.encode(observation, task)
        several = self.population is not None
        loss = behaviour_loss(self.actor, observation, action, real, per_policy=several)
        norm = optimize(
            loss,
            self.optimizer,
            self.config.max_norm,
            population=self.population,
            watch=self.finite,
            name=LOSS,
        )
        self.updates += 1
        if self.updates % self.finite.every == 0:
            self.check_finite()
        return {"loss": loss.detach(), "grad_norm": norm}

    def fit(
        self, replay: Any, steps: int, *, tasks: Sequence[int] | None = None, batch_size: int = 64
    ) -> dict[str, Tensor]:
        """Update `steps` times from a replay; the learning rate falls linearly to 2% of its start.

        Args:
            replay: a `ReplayBuffer`, or anything whose `sample` returns a batch; for a population
                its `sample_starts` is used, whose rows hold actions.
            steps: number of updates, at least 1.
            tasks: task id of each policy of a population.
            batch_size: pairs per policy of a population.

        Returns:
            Metrics of the last update.
        """
        whole(1, steps=steps)
        if (tasks is None) != (self.population is None):
            raise ValueError(f"tasks must be given exactly for a population, got {tasks}")
        metrics: dict[str, Tensor] = {}
        for step in range(steps):
            self.set_learning_rates(linear_decay(step / steps, self.decay_floor))
            batch = replay.sample() if tasks is None else replay.sample_starts(tasks, batch_size)
            metrics = self.update(batch)
        self.check_finite()
        return metrics

    def policy(self) -> ObservationPolicy:
        """Return the policy that acts by its mean, which follows later updates."""
        return ObservationPolicy(self.actor, model=self.model)

    def explorer(self) -> ObservationPolicy:
        """Return the policy that acts with the actor's noise, or by its mean where it has none.

        It follows later updates. Cloning itself draws nothing: the noise starts from the number of
        updates.
        """
        rng = np.random.default_rng(self.updates) if is_stochastic(self.actor) else None
        return ObservationPolicy(self.actor, model=self.model, rng=rng)

    def set_learning_rates(self, factor: float) -> None:
        """Set the learning rate to `factor` times the one that it was made with."""
        scale_learning_rates(self.optimizer, factor)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        state: dict[str, Any] = {
            "actor": state_of(self.actor),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.finite.stopped is not None:
            state["stopped"] = self.finite.stopped.clone()
        return {**state, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        load_state(self.actor, state["actor"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.finite.load(state.get("stopped"))
        self.updates = state.get("updates", 0)

    def _pairs(self, batch: TensorDictBase) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Observations `[N, O]` or `[P, N, O]`, actions, tasks, and weights of those that are real.

        The last two are None where there are none.
        """
        observation: Any = batch[keys.OBSERVATION]
        action: Any = batch[keys.ACTION]
        task, real = batch.get(keys.TASK, None), batch.get(keys.REAL, None)
        lead = 0 if self.population is None else 1
        if observation.dim() == lead + 3:  # windows, one row longer than their actions
            observation = observation[..., :-1, :]
            task = None if task is None else task.unsqueeze(-1).expand(observation.shape[:-1])
            task = None if task is None else task.flatten(lead, -1)
            observation, action = observation.flatten(lead, -2), action.flatten(lead, -2)
            real = None if real is None else real.flatten(lead, -2)
        shape = [*observation.shape[:-1], action.shape[-1]]
        if observation.dim() != lead + 2 or list(action.shape) != shape:
            kind = "[B, ..]" if self.population is None else f"[{self.population}, B, ..]"
            raise ValueError(
                f"observation and action must be pairs or windows {kind}, got "
                f"{list(batch[keys.OBSERVATION].shape)} and {list(batch[keys.ACTION].shape)}"
            )
        return observation, action, task, None if real is None else real.to(observation.dtype)
