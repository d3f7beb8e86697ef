"""PWM: first-order policy learning in a world model, assembled from the components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.algorithms.first_order import RETURNS, FirstOrder, fixed_copy
from pwm_sdk.algorithms.published import published_view
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.algorithms.return_scales import named_scale
from pwm_sdk.algorithms.starts import (
    Window,
    check_parts,
    discount_of,
    real_actions,
    start_latents,
    starts_of,
    taken_at,
)
from pwm_sdk.calls import checked, or_nothing
from pwm_sdk.contract.memory import has_memory
from pwm_sdk.contract.models import LatentModel, can_end, features
from pwm_sdk.contract.parts import Scale, TrainedPolicy, TrainedValue
from pwm_sdk.execution.settings import Execution
from pwm_sdk.functional.losses import saturated_share
from pwm_sdk.functional.precision import full
from pwm_sdk.functional.returns import alive_steps
from pwm_sdk.generators import numpy_rng
from pwm_sdk.objectives.policy import (
    actor_loss,
    behaviour_loss,
    imagined_returns,
    lambda_targets,
)
from pwm_sdk.optim import (
    soft_update,
    unless,
)
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.rollout import LatentRollout


@checked(
    model=or_nothing,
)
class PWM(FirstOrder):
    """One or P policies, improved by gradients through a frozen latent model.

    Policies of a population are independent. One whose imagined returns, losses, gradients or
    weights are not finite is stopped: its networks, averages, return scale and moments stay as they
    were before that update, for good, and the others go on as if nothing was.

    Args:
        model: a `LatentModel`, shared and left as it is.
        actor: a `FirstOrderActor`, or a module of the same interface.
        critic: a `Critic` of the same population.
        config: settings.
        return_scale: divides the imagined returns, for example a `ReturnScale` of other quantiles;
            None: what `config.return_scale` names.
        generator: source of the imagined noise and of the order of minibatches, on the actor's
            device; None: one of its own, seeded by torch's global one.
        execution: how updates are run: compiled, in bf16, as CUDA graphs; None: eager, in fp32.

    Attributes:
        updates: number of updates so far.
        decay_floor: share of the learning rates that is left at the end of a `fit`.
        execution: what of it is possible on the actor's device.
        target: the critic that bootstraps.
        average: the averaged actor, or the actor itself.

    Raises:
        ValueError: if networks, return scale, generator and settings do not fit together.

    Source: PWM (arXiv 2407.02466), algorithm 1.
    """

    def __init__(
        self,
        model: LatentModel,
        actor: TrainedPolicy,
        critic: TrainedValue,
        config: PWMConfig | None = None,
        *,
        return_scale: Scale | None = None,
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
    ) -> None:
        config = config or PWMConfig()
        check_parts(model, actor, critic, return_scale)
        minibatches = {
            "epochs": config.critic_epochs,
            "splits": config.critic_splits,
            "limit": config.critic_limit,
            "shuffle": config.shuffle,
        }
        super().__init__(
            model,
            actor,
            critic,
            config,
            minibatches=minibatches,
            generator=generator,
            execution=execution,
            halved=model,
            captures=True,
        )
        self.gamma: float | Tensor = discount_of(config.gamma, self.population, self.device)
        self.return_scale = return_scale
        if return_scale is None:
            with self.device:
                self.return_scale = named_scale(config.return_scale, self.population)
        self.imagined = published_view(model, config)
        self.rollout = LatentRollout(
            self.imagined,
            actor,
            config.horizon,
            detach=config.detach,
            generator=self.generator,
            compile=self.execution.compile,
        )
        self.average: Any = actor if config.average_tau is None else fixed_copy(actor)

    def update(self, batch: TensorDictBase | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Improve actor and critic once from the observations of a batch.

        Args:
            batch: windows `[B]` (observation `[B, H+1, O]`, the first row is used), or starts
                `[B]`, or `[P, B]` for a population (observation `[P, B, O]`); with `task`, and
                `action` where a behaviour guard is on, which leaves out starts that are not `real`.
                A model with memory sees a window, or the history of starts, before it imagines on.

        Returns:
            Detached metrics: return (imagined), actor_grad_norm and critic_grad_norm, `[]` or `[P]`
            (NaN for a stopped policy), value_loss and saturated (share of pre-tanh means of real
            actions beyond 2), `[]`, over the policies that go on.

        Raises:
            ValueError: if a batch does not fit; nothing is stepped then. If a loss or its gradient
                is not finite; the network that it is of is not stepped, but an actor
                before its critic has been. Of a population, if all policies are stopped; the first
                ones are named in a warning. Raised and warned by the update itself on a CPU, and at
                most `Execution.check_every` updates later elsewhere.
        """
        observation, task, action = starts_of(batch, self.population, has_memory(self.model))
        if self.config.behaviour and action is None:
            raise ValueError("batch must hold actions for a behaviour guard, got none")
        taken = taken_at(batch, self.population) if self.config.behaviour else None
        with self.finite.keeping(*self._parts().values()):
            with self._imagining():
                latent = self._encode(observation, task)
                noise = self.rollout.draw_noise(latent) if self.execution.cuda_graphs else None
                states, targets, alive, loc, returns, norm = self._imagine(
                    latent, task, noise, action, taken
                )
                real = real_actions(self.imagined, self.actor, task)
            value_loss, critic_norm = self.fit_critic(states, targets, alive)
            self._move_averages()
            metrics = self._metrics(returns, value_loss, norm, critic_norm, loc, real)
        self.runner.read(self.updates)
        return metrics

    @torch.no_grad()
    def _encode(self, observation: Tensor | Window, task: Tensor | None) -> Tensor:
        """Return the latents from which imagination starts."""
        with self.runner.products():
            return full(start_latents(self.model, observation, task))

    def _metrics(
        self,
        returns: Tensor,
        value_loss: Tensor,
        norm: Tensor,
        critic_norm: Tensor,
        loc: Tensor,
        real: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the metrics of an update; policies that are stopped have no part in them."""
        returns = _mean(returns, self.population)
        if (stopped := self.finite.stopped) is not None:
            value_loss = value_loss.masked_fill(stopped, torch.nan).nanmean()
            returns, norm, critic_norm = (
                value.masked_fill(stopped, torch.nan) for value in (returns, norm, critic_norm)
            )
            going = (~stopped).view(-1, *[1] * (loc.dim() - 1)).to(loc.dtype)
            real = going.expand_as(loc) if real is None else real * going
        return {
            "return": returns,
            "value_loss": value_loss,
            "actor_grad_norm": norm,
            "critic_grad_norm": critic_norm,
            "saturated": saturated_share(loc, mask=real),
        }

    def policy(self) -> ObservationPolicy:
        """Return the policy that acts by its mean, by averaged weights where `average_tau` is set.

        It follows later updates; after `keep` of a `Population`, ask again.
        """
        return ObservationPolicy(self.average, model=self.model)

    def explorer(self) -> ObservationPolicy:
        """Return the policy that acts with the actor's noise, which follows later updates.

        The noise is drawn by a generator of its own, which starts from the algorithm's seed and the
        number of updates.
        """
        return ObservationPolicy(
            self.actor, model=self.model, rng=numpy_rng(self.generator, self.updates)
        )

    def _parts(self) -> dict[str, Any]:
        parts = {**super()._parts(), "average": self.average}
        if isinstance(self.return_scale, nn.Module):
            parts["return_scale"] = self.return_scale
        return parts

    def _improve_actor(
        self,
        latent: Tensor,
        task: Tensor | None,
        noise: Tensor | None,
        action: Tensor | None,
        taken: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        """Imagine, step the actor; returns what the critic learns from, loc, returns and norm."""
        config, several = self.config, self.population is not None
        with self.runner.products():
            trajectory = self.rollout(latent, task, *(() if noise is None else (noise,)))
            returns = imagined_returns(
                trajectory,
                self.critic,
                self.gamma,
                config.actor_lam,
                extra_discount=config.extra_discount,
            )
            loss = actor_loss(
                trajectory,
                self.critic,
                self.gamma,
                scale=self._scale_of(returns),
                saturation=config.saturation,
                returns=returns,
                per_policy=several,
            )
            if config.behaviour and action is not None:
                seen = features(self.model, latent)
                near = behaviour_loss(self.actor, seen, action, taken, per_policy=several)
                loss = loss + config.behaviour * near
        norm = self._climb(loss)
        with self.runner.products():
            targets = lambda_targets(trajectory, self._bootstrap, self.gamma, config.lam)
        alive = None
        if can_end(self.imagined):
            alive = alive_steps(trajectory[keys.NEXT, keys.TERMINATED], targets.dtype)
        seen, loc = (trajectory[key].detach() for key in (keys.LATENT, keys.LOC))
        return seen, targets, alive, loc, returns.detach(), norm

    def _scale_of(self, returns: Tensor) -> float | Tensor:
        bad = self.finite.note(RETURNS, returns)
        if self.return_scale is None:
            return 1.0
        if self.population is not None:  # those of stopped policies are given back later
            return self.return_scale.update(returns)
        with unless(bad, self.return_scale):
            return self.return_scale.update(returns)

    def _move_averages(self) -> None:
        super()._move_averages()
        if self.config.average_tau is not None:
            soft_update(self.average, self.actor, max(self.config.average_tau, 1.0 / self.updates))


def _mean(returns: Tensor, population: int | None) -> Tensor:
    return returns.mean() if population is None else returns.flatten(1).mean(1)
