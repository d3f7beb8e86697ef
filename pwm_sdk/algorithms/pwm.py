"""PWM: first-order policy learning in a world model, assembled from the components."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.algorithms.critic_fit import CriticFit
from pwm_sdk.algorithms.execution import Captured, Execution, prepare
from pwm_sdk.algorithms.half_weights import HalfWeights
from pwm_sdk.algorithms.published import published_view
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.algorithms.return_scales import named_scale
from pwm_sdk.algorithms.starts import (
    check_parts,
    discount_of,
    real_actions,
    starts_of,
    taken_at,
)
from pwm_sdk.algorithms.watched import Watched
from pwm_sdk.calls import checked, has, least, or_nothing
from pwm_sdk.checks import whole
from pwm_sdk.contract.models import LatentModel, features
from pwm_sdk.contract.policies import StochasticPolicy
from pwm_sdk.functional.compiling import compiled
from pwm_sdk.functional.losses import saturated_share
from pwm_sdk.functional.precision import full
from pwm_sdk.functional.returns import alive_steps
from pwm_sdk.generators import own_generator, restore_generator
from pwm_sdk.objectives.policy import (
    actor_loss,
    behaviour_loss,
    imagined_returns,
    lambda_targets,
)
from pwm_sdk.optim import (
    FiniteWatch,
    adam,
    frozen,
    linear_decay,
    optimize,
    scale_learning_rates,
    soft_update,
    unless,
)
from pwm_sdk.rollout import LatentRollout
from pwm_sdk.states import load_state, state_of

WATCHED = RETURNS, ACTOR, VALUE = (
    "imagined returns",
    "the actor's loss and gradient",
    "the critic's loss and gradient",
)


@checked(
    model=(has(LatentModel), or_nothing),
    actor=has(StochasticPolicy, "parameters"),
    critic=has("values", "parameters"),
    return_scale=has("update"),
    steps=least(1),
    batch_size=least(1),
)
class PWM(Watched):
    """One or P policies, improved by gradients through a frozen latent model.

    Policies of a population are independent. One whose imagined returns, losses, gradients or
    weights are not finite is stopped: its networks, averages, return scale and moments stay as they
    were before that update, for good, and the others go on as if nothing was.

    Args:
        model: a `LatentModel`, shared and left as it is.
        actor: a `FirstOrderActor`, or a module of the same face.
        critic: a `Critic` of the same population.
        config: settings.
        return_scale: divides the imagined returns, for example a `ReturnScale` of other quantiles;
            None: what `config.return_scale` names.
        generator: source of the imagined noise and of the order of minibatches, on the actor's
            device; None: one of its own, seeded by torch's global one.
        execution: how updates are run: compiled, in bf16, as CUDA graphs; None: eager, in fp32.

    Attributes:
        execution: what of it is possible on the actor's device.
        target: the critic that bootstraps.
        average: the averaged actor, or the actor itself.

    Raises:
        ValueError: for networks, a return scale, a generator or settings that do not fit together.

    Source: PWM (arXiv 2407.02466), algorithm 1.
    """

    decay_floor = 0.02  # share of the learning rates that is left at the end of a fit

    def __init__(
        self,
        model: Any,
        actor: Any,
        critic: Any,
        config: PWMConfig | None = None,
        *,
        return_scale: Any = None,
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
    ) -> None:
        self.config = config = config or PWMConfig()
        self.model, self.actor, self.critic, self.return_scale = model, actor, critic, return_scale
        self.population: int | None = getattr(actor, "population", None)
        check_parts(model, actor, critic, return_scale)
        self.device = device = next(actor.parameters()).device
        self.generator = generator = self._source(generator)
        self.execution = execution = (execution or Execution()).on(device)
        self.gamma: float | Tensor = discount_of(config.gamma, self.population, device)
        if return_scale is None:
            with device:
                self.return_scale = named_scale(config.return_scale, self.population)
        self.imagined = published_view(model, config)
        self.rollout = LatentRollout(
            self.imagined,
            actor,
            config.horizon,
            detach=config.detach,
            generator=generator,
            compile=execution.compile,
        )
        self.target = critic if config.target_tau is None else _fixed_copy(critic)
        self.average = actor if config.average_tau is None else _fixed_copy(actor)
        self._bootstrap: Any = compiled(self.target.forward) if execution.compile else self.target
        self._weights = HalfWeights(model if execution.precision == "bf16" else None)
        self.actor_optimizer = adam(actor.parameters(), config.actor_lr, betas=config.betas)
        self.critic_optimizer = adam(critic.parameters(), config.critic_lr, betas=config.betas)
        self.updates = 0
        every, captured = execution.reads_every(device), execution.cuda_graphs
        self.finite = FiniteWatch(
            WATCHED, every, device, captured=captured, population=self.population
        )
        self.fit_critic = CriticFit(
            critic,
            self.critic_optimizer,
            config.critic_max_norm,
            parts={
                "epochs": config.critic_epochs,
                "splits": config.critic_splits,
                "limit": config.critic_limit,
                "shuffle": config.shuffle,
                "generator": generator,
            },
            population=self.population,
            execution=execution,
            watch=self.finite,
            name=VALUE,
        )
        self._prepare()

    def update(self, batch: TensorDictBase | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Improve actor and critic once from the observations of a batch.

        Args:
            batch: windows `[B]` (observation `[B, H+1, O]`, the first row is used), or starts
                `[B]`, or `[P, B]` for a population (observation `[P, B, O]`); with `task`, and
                `action` where a behaviour guard is on, which leaves out starts that are not `real`.

        Returns:
            Detached metrics: return (imagined), actor_grad_norm and critic_grad_norm, `[]` or `[P]`
            (NaN for a stopped policy), value_loss and saturated (share of pre-tanh means of real
            actions beyond 2), `[]`, over the policies that go on.

        Raises:
            ValueError: for a batch that does not fit; nothing is stepped then. If a loss or its
                gradient is not finite; the network that it is of is not stepped, but an actor
                before its critic has been. Of a population, if all policies are stopped; the first
                ones are named in a warning. Raised and warned by the update itself on a CPU, and at
                most `Execution.check_every` updates later elsewhere.
        """
        observation, task, action = starts_of(batch, self.population)
        if self.config.behaviour and action is None:
            raise ValueError("batch must hold actions for a behaviour guard, got none")
        taken = taken_at(batch, self.population) if self.config.behaviour else None
        with self.finite.keeping(*self._parts().values()):
            metrics = self._update(observation, task, action, taken)
        if self.updates % self.finite.every == 0:
            self.finite.read()
        return metrics

    def _update(
        self,
        observation: Tensor,
        task: Tensor | None,
        action: Tensor | None,
        taken: Tensor | None,
    ) -> dict[str, Tensor]:
        if hasattr(self.actor, "clamp_std_"):
            self.actor.clamp_std_()
        with self.execution.tf32(self.device), frozen(self.model, self.critic), self._weights:
            with torch.no_grad(), self.execution.products(self.device):
                latent = full(self.model.encode(observation, task))
            noise = self.rollout.draw_noise(latent) if self.execution.cuda_graphs else None
            states, targets, alive, loc, returns, norm = self._imagine(
                latent, task, noise, action, taken
            )
            real = real_actions(self.imagined, self.actor, task)
        value_loss, critic_norm = self.fit_critic(states, targets, alive)
        self._move_averages()
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

    def fit(
        self, replay: Any, steps: int, *, tasks: Sequence[int] | None = None, batch_size: int = 64
    ) -> dict:
        """Update `steps` times from a replay; learning rates fall linearly to 2% of their start.

        Args:
            replay: a `ReplayBuffer`; its windows are used, or for a population `batch_size` starts
                a policy.
            steps: number of updates, at least 1.
            tasks: task id of each policy of a population.
            batch_size: starts per policy of a population.

        Returns:
            Metrics of the last update.
        """
        whole(1, steps=steps)
        if (tasks is None) != (self.population is None):
            raise ValueError(f"tasks must be given exactly for a population, got {tasks}")
        if tasks is not None and len(tasks) != self.population:
            raise ValueError(
                f"tasks must have one entry per policy ({self.population}), got {list(tasks)}"
            )
        has("sample" if tasks is None else "sample_starts")(replay=replay)
        metrics: dict[str, Tensor] = {}
        for step in range(steps):
            self.set_learning_rates(linear_decay(step / steps, self.decay_floor))
            batch = replay.sample() if tasks is None else replay.sample_starts(tasks, batch_size)
            metrics = self.update(batch)
        self.check_finite()
        return metrics

    @checked(factor=least(0.0), critic=least(0.0))
    def set_learning_rates(self, factor: float, critic: float | None = None) -> None:
        """Set both learning rates to a share of those that they were made with.

        Args:
            factor: the share; 0 lets the actor wait, for example for its critic.
            critic: the critic's, where it is another.
        """
        scale_learning_rates(self.actor_optimizer, factor)
        scale_learning_rates(self.critic_optimizer, factor if critic is None else critic)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        state = {name: state_of(part) for name, part in self._parts().items()}
        if self.finite.stopped is not None:
            state["stopped"] = self.finite.stopped.clone()
        return {**state, "generator": self.generator.get_state(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        for name, part in self._parts().items():
            load_state(part, state[name])
        self.updates = state["updates"]
        self.finite.load(state.get("stopped"))
        self._prepare()
        restore_generator(self.generator, state.get("generator"))

    def _source(self, generator: torch.Generator | None) -> torch.Generator:
        """Return where random numbers come from, on the device of the networks."""
        return own_generator(self.device, generator)

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "average": self.average,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }
        if isinstance(self.return_scale, nn.Module):
            parts["return_scale"] = self.return_scale
        return parts

    def _prepare(self) -> None:
        """Make both passes ready to run; a captured one is captured again."""
        captured, imagine = self.execution.cuda_graphs, self._improve_actor
        prepare(self.actor_optimizer, captured)
        self.fit_critic.prepare(captured)
        self._imagine: Any = Captured(imagine) if captured else imagine

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
        with self.execution.products(self.device):
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
        norm = optimize(
            loss,
            self.actor_optimizer,
            config.actor_max_norm,
            population=self.population,
            watch=self.finite,
            name=ACTOR,
        )
        with self.execution.products(self.device):
            targets = lambda_targets(trajectory, self._bootstrap, self.gamma, config.lam)
        alive = None
        if getattr(self.imagined, "episodic", True):  # False: no imagined episode ends
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
        self.updates += 1
        if self.config.target_tau is not None:
            soft_update(self.target, self.critic, self.config.target_tau)
        if self.config.average_tau is not None:
            soft_update(self.average, self.actor, max(self.config.average_tau, 1.0 / self.updates))


def _fixed_copy(network: Any) -> Any:
    return copy.deepcopy(network).requires_grad_(False)


def _mean(returns: Tensor, population: int | None) -> Tensor:
    return returns.mean() if population is None else returns.flatten(1).mean(1)
