"""Behaviour cloning: a policy that repeats what is in the data, the floor of offline learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.calls import checked, floating, holds, least, may_be_infinite, shaped
from pwm_sdk.checks import at_least, positive
from pwm_sdk.contract.memory import has_memory, observed_latents
from pwm_sdk.contract.models import Encoder, features, looked_up
from pwm_sdk.contract.policies import (
    depends_on_task,
    given,
    is_stochastic,
    latent_size,
    population_of,
)
from pwm_sdk.execution.finite import Watched
from pwm_sdk.execution.runner import Runner
from pwm_sdk.execution.settings import Execution
from pwm_sdk.functional.precision import full
from pwm_sdk.objectives.policy import behaviour_loss
from pwm_sdk.optim import adam, optimize, scale_learning_rates
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
        ValueError: if settings are out of range.
    """

    lr: float = 1e-3
    max_norm: float | None = 10.0

    def __post_init__(self) -> None:
        at_least(0.0, lr=self.lr)
        positive(max_norm=self.max_norm)


@checked(
    factor=least(0.0),
    batch=holds(keys.OBSERVATION, keys.ACTION),
    observation=(shaped(..., "O"), floating),
)
class BehaviourCloning(Watched):
    """Least squares from observations, or a model's latents, to the actions of the data.

    It draws no random numbers, so it has no generator. Policies of a population are independent.
    One whose loss or gradient is not finite is stopped and stays as it was before that update; the
    others go on.

    Args:
        actor: maps observations `[.., O]`, or latents `[.., D]`, to actions `[.., A]`, for example
            a `FirstOrderActor`, alone or a population.
        config: settings.
        model: encodes observations, and is left as it is; None: the actor sees observations.
        execution: how updates are run, in which precision; None: eager, in fp32.

    Attributes:
        execution: what of it is possible on the actor's device.
        device: of the actor.
        updates: number of updates so far.
        decay_floor: share of the learning rates that is left at the end of a `fit`.

    Source: ALVINN (Pomerleau, 1988); the squared error is that of TD3+BC (arXiv 2106.06860).
    """

    decay_floor = 0.02

    def __init__(
        self,
        actor: nn.Module,
        config: BehaviourCloningConfig | None = None,
        *,
        model: Encoder | None = None,
        execution: Execution | None = None,
    ) -> None:
        self.config = config = config or BehaviourCloningConfig()
        self.actor, self.model = actor, model
        self.population: int | None = population_of(actor)
        self.optimizer = adam(actor.parameters(), config.lr)
        self.device = next(actor.parameters()).device
        self.runner = Runner(
            execution, self.device, [LOSS], population=self.population, model=model
        )
        self.execution, self.finite = self.runner.settings, self.runner.finite
        self.updates = 0

    def __call__(self, observation: Tensor) -> Tensor:
        """Return actions `[.., A]` for observations `[.., O]`, for an actor without a model."""
        size = latent_size(self.actor)
        if size is not None and observation.shape[-1] != size:
            raise ValueError(f"observation must have size {size}, got {list(observation.shape)}")
        return self.actor(observation.to(next(self.actor.parameters()).dtype))

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Move the actor once towards the actions of a batch.

        Args:
            batch: windows `[B]` of a `ReplayBuffer` (observation `[B, H+1, O]`, action `[B, H, A]`,
                task `[B]`): all H pairs are used, but for steps that are not real (`[B, H, 1]`;
                without it, all are); or pairs `[B]` (observation `[B, O]`, action `[B, A]`). For a
                population `[P, B]` of either. A model with memory sees the rows of a window in
                order, and a pair as the first of its episode.

        Returns:
            Detached metrics, `[]` or `[P]`: loss (squared distance of the actions), grad_norm.

        Raises:
            ValueError: if a batch does not fit, or the loss or its gradient is not finite,
                of a population if that holds for all policies; nothing is stepped then. It is
                raised by the update itself on a CPU, and at most 100 updates later, or by
                `check_finite`, where a reading waits for the device.
        """
        observation, action, task, real = self._pairs(batch)
        several = self.population is not None
        with self.runner.running():
            with self.runner.products():
                context = None
                if self.model is not None:
                    with torch.no_grad():
                        if depends_on_task(self.actor):
                            context = looked_up(self.model, task)
                        latent = full(self._latents(self.model, batch, observation, task))
                        observation = features(self.model, latent)
                actor = given(self.actor, context)
                loss = behaviour_loss(actor, observation, action, real, per_policy=several)
            norm = optimize(
                loss,
                self.optimizer,
                self.config.max_norm,
                population=self.population,
                watch=self.finite,
                name=LOSS,
            )
        self.updates += 1
        self.runner.read(self.updates)
        return {"loss": loss.detach(), "grad_norm": norm}

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

    def _latents(
        self, model: Encoder, batch: TensorDictBase, observation: Tensor, task: Tensor | None
    ) -> Tensor:
        """Encode the observations `[.., N, O]` of `_pairs`, after what came before in windows."""
        window: Any = batch[keys.OBSERVATION]
        if not has_memory(model) or window.dim() == observation.dim():
            return model.encode(observation, task)
        action: Any = batch[keys.ACTION]
        rows = window[..., :-1, :], action[..., :-1, :]
        seen = observed_latents(model, *rows, batch.get(keys.TASK, None))
        return seen.flatten(-3, -2)

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
