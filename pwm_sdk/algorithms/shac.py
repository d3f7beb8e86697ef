"""SHAC: first-order policy learning through a differentiable simulator, from the components."""

from __future__ import annotations

import copy
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.algorithms.critic_fit import CriticFit
from pwm_sdk.algorithms.probe import probe_slopes
from pwm_sdk.algorithms.shac_config import SHACConfig
from pwm_sdk.algorithms.streams import Streams
from pwm_sdk.calls import checked, floating, has, least, shaped
from pwm_sdk.checks import whole
from pwm_sdk.contract.models import features
from pwm_sdk.contract.policies import StochasticPolicy
from pwm_sdk.functional.losses import saturated_share
from pwm_sdk.functional.returns import lambda_returns, restarted_return
from pwm_sdk.generators import numpy_rng, own_generator, restore_generator
from pwm_sdk.objectives.policy import actor_loss, lambda_targets
from pwm_sdk.optim import (
    adam,
    frozen,
    linear_decay,
    optimize,
    scale_learning_rates,
    soft_update,
)
from pwm_sdk.policies.networks import Normalized
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.rollout import LatentRollout
from pwm_sdk.states import load_state, state_of


@checked(
    actor=has(StochasticPolicy, "parameters"),
    critic=has("values", "parameters"),
    normalizer=has("normalize", "update"),
    steps=least(1),
    observation=(shaped(..., "O"), floating),
    model=has("step"),
)
class SHAC:
    """One policy, improved by gradients through the environment itself.

    The same update as `PWM` with the model swapped: windows of H steps in B environments continue
    where the last ones ended; the actor climbs the windows' returns, cut at the ends of episodes,
    with a slowly moving critic behind a cut and nothing behind a termination.

    `evaluate(env, shac.policy())` runs the policy in an environment that shows the simulator's
    features.

    Args:
        model: a `SimulatorModel`.
        actor: a `FirstOrderActor` on the model's features, or a module of the same face.
        critic: a `Critic` on the same.
        config: settings.
        normalizer: running moments of the features, for example `RunningMeanStd((O,))`; what actor
            and critic see is normalised by them. None: features as they are.
        generator: source of start states, noise and minibatches, on the actor's device; None: one
            of its own, seeded by torch's global one.

    Attributes:
        target: the critic that bootstraps.
        streams: the environments.
        steps: agent steps taken so far, in all environments together.

    Raises:
        ValueError: for a model that cannot start episodes, whose step detaches the graph or whose
            reward is a step (see `probe_slopes`), or a population of policies.

    Source: SHAC (arXiv 2204.07137), algorithm 1. Differs: gamma^n before the last value, and an
    optional clip of the cotangent at each step.
    """

    decay_floor = 0.02  # share of the learning rates that is left at the end of a fit

    def __init__(
        self,
        model: Any,
        actor: Any,
        critic: Any,
        config: SHACConfig | None = None,
        *,
        normalizer: Any = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config = config or SHACConfig()
        if getattr(actor, "population", None) is not None:
            raise ValueError(f"actor must be one policy, got a population of {actor.population}")
        self.model, self.actor, self.critic, self.normalizer = model, actor, critic, normalizer
        device = next(actor.parameters()).device
        self.generator = generator = own_generator(device, generator)
        self.observation_dim = getattr(model, "observation_dim", None)
        limit = config.cotangent_clip
        if limit is not None:  # the loss is a mean over B environments and H steps
            limit = limit / (config.environments * config.horizon)
        self.streams = Streams(
            model,
            config.environments,
            normalizer=normalizer,
            limit=limit,
            generator=generator,
            device=device,
        )
        probe_slopes(model, self.streams.state)
        self.rollout = LatentRollout(self.streams, actor, config.horizon, generator=generator)
        self.target = copy.deepcopy(critic).requires_grad_(False)
        self.actor_optimizer = adam(actor.parameters(), config.actor_lr, betas=config.betas)
        self.critic_optimizer = adam(critic.parameters(), config.critic_lr, betas=config.betas)
        self.fit_critic = CriticFit(
            critic,
            self.critic_optimizer,
            config.critic_max_norm,
            parts={
                "epochs": config.critic_epochs,
                "splits": config.critic_splits,
                "generator": generator,
            },
        )
        self.steps = self.updates = 0
        self._last_return = torch.full((1,), float("nan"), device=self.streams.state.device)

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return what the policy sees of an environment's observations `[.., O]`."""
        return observation if self.normalizer is None else self.normalizer.normalize(observation)

    def update(self, batch: None = None) -> dict[str, Tensor]:
        """Run one window in all environments and improve actor and critic from it.

        Args:
            batch: None: the data are its own.

        Returns:
            Detached scalars: return (what the actor climbs, over H: the window's return, or with
            `actor_lam` the mean lambda-return of its steps), reward (mean per step),
            episode_return (mean of the episodes that ended last; NaN before the first), value_loss,
            actor_grad_norm, critic_grad_norm, clipped (share of cotangents), saturated (share of
            pre-tanh means beyond 2).

        Raises:
            ValueError: if a loss or gradient is not finite; the parameters are then as before.
        """
        config = self.config
        if hasattr(self.actor, "clamp_std_"):
            self.actor.clamp_std_()
        with frozen(self.model, self.target):
            trajectory = self._window()
            after: Any = trajectory[keys.NEXT]
            returns = self._returns(after) / config.horizon
            loss = actor_loss(
                trajectory,
                self.target,
                config.gamma,
                saturation=config.saturation,
                returns=returns,
            )
            actor_norm = optimize(loss, self.actor_optimizer, config.actor_max_norm)
        targets = lambda_targets(trajectory, self.target, config.gamma, config.lam)
        value_loss, critic_norm = self.fit_critic(trajectory[keys.LATENT], targets)
        soft_update(self.target, self.critic, config.target_tau)
        if self.normalizer is not None:
            self.normalizer.update(features(self.model, trajectory[keys.STATE]))
        self.steps += config.environments * config.horizon
        self.updates += 1
        finished = torch.cat([self._last_return[:0], *self.streams.finished])
        if len(finished):
            self._last_return = finished
        return {
            "return": returns.detach().mean(),
            "reward": after[keys.REWARD].detach().mean(),
            "episode_return": self._last_return.mean(),
            "value_loss": value_loss,
            "actor_grad_norm": actor_norm,
            "critic_grad_norm": critic_norm,
            "clipped": self.streams.clipped_share(),
            "saturated": saturated_share(trajectory[keys.LOC]),
        }

    def fit(self, steps: int) -> dict[str, Tensor]:
        """Update `steps` times; learning rates fall linearly to 2% of their start.

        Args:
            steps: number of updates, at least 1.

        Returns:
            Metrics of the last update.
        """
        whole(1, steps=steps)
        metrics: dict[str, Tensor] = {}
        for step in range(steps):
            self.set_learning_rates(linear_decay(step / steps, self.decay_floor))
            metrics = self.update()
        return metrics

    def check_finite(self) -> None:
        """Do nothing: every update has read all its losses and gradients, and raised."""

    def policy(self) -> ObservationPolicy:
        """Return the policy that acts by its mean on observations, which follows later updates."""
        return ObservationPolicy(self.actor, model=self._eyes())

    def explorer(self) -> ObservationPolicy:
        """Return the policy that acts with the actor's noise, which follows later updates."""
        rng = numpy_rng(self.generator, self.steps)
        return ObservationPolicy(self.actor, model=self._eyes(), rng=rng)

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
        return {
            **state,
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        for name, part in self._parts().items():
            load_state(part, state[name])
        self.steps = state["steps"]
        per_update = self.config.environments * self.config.horizon
        self.updates = state.get("updates", self.steps // per_update)  # not kept before
        restore_generator(self.generator, state.get("generator"))

    def _eyes(self) -> Normalized | None:
        return None if self.normalizer is None else Normalized(self.normalizer)

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "streams": self.streams,
        }
        if isinstance(self.normalizer, nn.Module):
            parts["normalizer"] = self.normalizer
        return parts

    def _returns(self, after: Any) -> Tensor:
        """What the actor climbs, `[B, 1]`, of what followed in a window."""
        config = self.config
        value = self.target(after[keys.LATENT])
        given = after[keys.REWARD], value, config.gamma
        ends = after[keys.TERMINATED], after[keys.TRUNCATED]
        if config.actor_lam is None:
            return restarted_return(*given, *ends)
        return lambda_returns(*given, config.actor_lam, *ends).mean(-2)

    def _window(self) -> TensorDict:
        """Run the environments for H steps and mark where episodes were cut."""
        trajectory = self.rollout(self.streams.begin(), restart=self.streams.restart)
        after: Any = trajectory[keys.NEXT]
        after[keys.TRUNCATED] = after[keys.TRUNCATED] | self.streams.truncated()
        after[keys.DONE] = after[keys.TERMINATED] | after[keys.TRUNCATED]
        return trajectory
