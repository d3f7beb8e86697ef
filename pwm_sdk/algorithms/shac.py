"""SHAC: first-order policy learning through a differentiable simulator, from the components."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.algorithms.first_order import FirstOrder
from pwm_sdk.algorithms.probe import probe_slopes
from pwm_sdk.algorithms.shac_config import SHACConfig
from pwm_sdk.algorithms.streams import Streams
from pwm_sdk.calls import checked, floating, shaped
from pwm_sdk.contract.models import features, observation_size
from pwm_sdk.contract.parts import Moments, StartingModel, TrainedPolicy, TrainedValue
from pwm_sdk.contract.policies import population_of
from pwm_sdk.execution.settings import Execution
from pwm_sdk.functional.losses import saturated_share
from pwm_sdk.functional.returns import lambda_returns, restarted_return
from pwm_sdk.generators import numpy_rng
from pwm_sdk.objectives.policy import actor_loss, lambda_targets
from pwm_sdk.policies.networks import Normalized
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.rollout import LatentRollout


@checked(
    observation=(shaped(..., "O"), floating),
)
class SHAC(FirstOrder):
    """One policy, improved by gradients through the environment itself.

    The same update as `PWM` with the model swapped: windows of H steps in B environments continue
    where the last ones ended; the actor climbs the windows' returns, cut at the ends of episodes,
    with a slowly moving critic after a cut and nothing after a termination.

    `evaluate(env, shac.policy())` runs the policy in an environment that shows the simulator's
    features.

    Args:
        model: a `SimulatorModel`.
        actor: a `FirstOrderActor` on the model's features, or a module of the same interface.
        critic: a `Critic` on the same.
        config: settings.
        normalizer: running moments of the features, for example `RunningMeanStd((O,))`; what actor
            and critic see is normalised by them. None: features as they are.
        generator: source of start states, noise and minibatches, on the actor's device; None: one
            of its own, seeded by torch's global one.
        execution: how updates are run; the simulator stays in its own precision, and is not
            compiled. None: eager, in fp32.

    Attributes:
        execution: what of it is possible on the actor's device.
        updates: number of updates so far.
        decay_floor: share of the learning rates that is left at the end of a `fit`.
        target: the critic that bootstraps.
        streams: the environments.
        steps: environment steps so far, of all environments together.

    Raises:
        ValueError: if the model cannot start episodes, its step detaches the graph or its reward is
            a step (see `probe_slopes`), or there is a population of policies.

    Source: SHAC (arXiv 2204.07137), algorithm 1. Differs: gamma^n before the last value, and an
    optional clip of the cotangent at each step.
    """

    def __init__(
        self,
        model: StartingModel,
        actor: TrainedPolicy,
        critic: TrainedValue,
        config: SHACConfig | None = None,
        *,
        normalizer: Moments | None = None,
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
    ) -> None:
        config = config or SHACConfig()
        if (count := population_of(actor)) is not None:
            raise ValueError(f"actor must be one policy, got a population of {count}")
        minibatches = {"epochs": config.critic_epochs, "splits": config.critic_splits}
        super().__init__(
            model,
            actor,
            critic,
            config,
            minibatches=minibatches,
            generator=generator,
            execution=execution,
        )
        self.normalizer = normalizer
        self.observation_dim = observation_size(model)
        limit = config.cotangent_clip
        if limit is not None:  # the loss is a mean over B environments and H steps
            limit = limit / (config.environments * config.horizon)
        self.streams = Streams(
            model,
            config.environments,
            normalizer=normalizer,
            limit=limit,
            generator=self.generator,
            device=self.device,
        )
        probe_slopes(model, self.streams.state)
        self.rollout = LatentRollout(self.streams, actor, config.horizon, generator=self.generator)
        self.steps = 0
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
            ValueError: if a loss or gradient is not finite; the parameters are then as before. It
                is raised by the update itself on a CPU, and at most `Execution.check_every` updates
                later elsewhere.
        """
        config = self.config
        with self._imagining():
            trajectory, returns, norm = self._imagine()
            with self.runner.products():
                targets = lambda_targets(trajectory, self._bootstrap, config.gamma, config.lam)
        after: Any = trajectory[keys.NEXT]
        value_loss, critic_norm = self.fit_critic(trajectory[keys.LATENT], targets)
        self._move_averages()
        if self.normalizer is not None:
            self.normalizer.update(features(self.model, trajectory[keys.STATE]))
        self.steps += config.environments * config.horizon
        self.runner.read(self.updates)
        finished = torch.cat([self._last_return[:0], *self.streams.finished])
        if len(finished):
            self._last_return = finished
        return {
            "return": returns.mean(),
            "reward": after[keys.REWARD].detach().mean(),
            "episode_return": self._last_return.mean(),
            "value_loss": value_loss,
            "actor_grad_norm": norm,
            "critic_grad_norm": critic_norm,
            "clipped": self.streams.clipped_share(),
            "saturated": saturated_share(trajectory[keys.LOC]),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        return {**super().state_dict(), "steps": self.steps, "last_return": self._last_return}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.steps = state["steps"]
        last = state.get("last_return", torch.full((1,), float("nan")))  # nor was this
        self._last_return = last.to(self._last_return.device)  # in its own type
        updates = self.steps // (self.config.environments * self.config.horizon)
        super().load_state_dict({"updates": updates, **state})  # not kept before

    def _parts(self) -> dict[str, Any]:
        parts = {**super()._parts(), "streams": self.streams}
        if isinstance(self.normalizer, nn.Module):
            parts["normalizer"] = self.normalizer
        return parts

    def _improve_actor(self, *given: object) -> tuple[TensorDict, Tensor, Tensor]:
        """Run a window, step the actor; returns window, returns over H `[B, 1]` and norm."""
        config = self.config
        with self.runner.products():
            trajectory = self._window()
            returns = self._returns(trajectory[keys.NEXT]) / config.horizon
            loss = actor_loss(
                trajectory,
                self.target,
                config.gamma,
                saturation=config.saturation,
                returns=returns,
            )
        return trajectory, returns.detach(), self._climb(loss)

    def policy(self) -> ObservationPolicy:
        """Return the policy that acts by its mean on observations, which follows later updates."""
        return ObservationPolicy(self.actor, model=self._eyes())

    def explorer(self) -> ObservationPolicy:
        """Return the policy that acts with the actor's noise, which follows later updates."""
        rng = numpy_rng(self.generator, self.steps)
        return ObservationPolicy(self.actor, model=self._eyes(), rng=rng)

    def _eyes(self) -> Normalized | None:
        return None if self.normalizer is None else Normalized(self.normalizer)

    def _returns(self, after: TensorDictBase) -> Tensor:
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
