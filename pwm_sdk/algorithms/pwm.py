"""PWM: first-order policy learning in a world model, assembled from the components."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.algorithms.published import ReturnDeviation, published_view
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.functional.losses import saturated_share
from pwm_sdk.functional.returns import alive_steps
from pwm_sdk.objectives.policy import (
    actor_loss,
    behaviour_loss,
    critic_loss,
    imagined_returns,
    lambda_targets,
)
from pwm_sdk.optim import (
    frozen,
    minibatches,
    optimize,
    scale_learning_rates,
    soft_update,
)
from pwm_sdk.rollout import LatentRollout


class PWM:
    """One or P policies, improved by gradients through a frozen latent model.

    Args:
        model: a `LatentModel`, shared and left as it is.
        actor: a `FirstOrderActor`, or a module of the same face.
        critic: a `Critic` of the same population.
        config: settings.
        return_scale: divides the imagined returns, for example a `ReturnScale`; None: no scaling,
            or the running standard deviation with `config.normalize_returns`.
        generator: source of the imagined noise; None: torch's global generator.

    Attributes:
        target: the critic that bootstraps.
        average: the averaged actor, or the actor itself.

    Source: PWM (arXiv 2407.02466), algorithm 1.
    """

    def __init__(
        self,
        model: Any,
        actor: Any,
        critic: Any,
        config: PWMConfig | None = None,
        *,
        return_scale: Any = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config = config or PWMConfig()
        self.model, self.actor, self.critic, self.return_scale = model, actor, critic, return_scale
        self.population: int | None = getattr(actor, "population", None)
        if getattr(critic, "population", None) != self.population:
            raise ValueError(
                f"critic must have the actor's population {self.population}, "
                f"got {critic.population}"
            )
        self.gamma: float | Tensor = _discount(config.gamma, self.population)
        if return_scale is None and config.normalize_returns:
            self.return_scale = ReturnDeviation(self.population).to(next(actor.parameters()).device)
        self.imagined = published_view(model, config)
        self.rollout = LatentRollout(
            self.imagined, actor, config.horizon, detach=config.detach, generator=generator
        )
        self.target = (
            critic if config.target_tau is None else copy.deepcopy(critic).requires_grad_(False)
        )
        self.average = (
            actor if config.average_tau is None else copy.deepcopy(actor).requires_grad_(False)
        )
        fused: dict[str, Any] = {"betas": config.betas, "fused": True}
        self.actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config.actor_lr, **fused)
        self.critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config.critic_lr, **fused)
        self.generator, self.updates = generator, 0

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve actor and critic once from the observations of a batch.

        Args:
            batch: windows `[B]` (observation `[B, H+1, O]`, the first row is used), or starts
                `[B]`, or `[P, B]` for a population (observation `[P, B, O]`); with `task`, and
                `action` where a behaviour guard is on.

        Returns:
            Detached metrics, `[]` or `[P]`: return (imagined), value_loss, actor_grad_norm,
            critic_grad_norm, saturated (share of pre-tanh means of real actions beyond 2).

        Raises:
            ValueError: if a loss is not finite.
        """
        config, population = self.config, self.population
        observation, task, action = _starts(batch, population)
        if hasattr(self.actor, "clamp_std_"):
            self.actor.clamp_std_()
        with frozen(self.model, self.critic):
            with torch.no_grad():
                latent = self.model.encode(observation, task)
            trajectory = self.rollout(latent, task)
            returns = imagined_returns(
                trajectory,
                self.critic,
                self.gamma,
                config.actor_lam,
                extra_discount=config.extra_discount,
            )
            _check_finite(returns)
            scale = 1.0 if self.return_scale is None else self.return_scale.update(returns)
            loss = actor_loss(
                trajectory,
                self.critic,
                self.gamma,
                scale=scale,
                saturation=config.saturation,
                returns=returns,
            )
            if config.behaviour:
                if action is None:
                    raise ValueError("batch must hold actions for a behaviour guard, got none")
                loss = loss + config.behaviour * behaviour_loss(self.actor, latent, action)
            actor_norm = optimize(
                loss, self.actor_optimizer, config.actor_max_norm, population=population
            )
        targets = lambda_targets(trajectory, self.target, self.gamma, config.lam)
        value_loss, critic_norm = self._fit_critic(trajectory, targets)
        self._move_averages()
        real = _real_actions(self.imagined, self.actor, task)
        return {
            "return": _mean(returns.detach(), population),
            "value_loss": value_loss.detach() / (population or 1),
            "actor_grad_norm": actor_norm,
            "critic_grad_norm": critic_norm,
            "saturated": saturated_share(trajectory[keys.LOC], mask=real),
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
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if (tasks is None) != (self.population is None):
            raise ValueError(f"tasks must be given exactly for a population, got {tasks}")
        metrics: dict[str, Tensor] = {}
        for step in range(steps):
            self.set_learning_rates(1.0 - 0.98 * step / steps)
            batch = replay.sample() if tasks is None else replay.sample_starts(tasks, batch_size)
            metrics = self.update(batch)
        return metrics

    def set_learning_rates(self, factor: float) -> None:
        """Set both learning rates to `factor` times their start."""
        scale_learning_rates(self.actor_optimizer, factor)
        scale_learning_rates(self.critic_optimizer, factor)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        if self.generator is not None:
            state["generator"] = self.generator.get_state()
        return {**state, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.updates = state["updates"]
        if self.generator is not None:
            self.generator.set_state(state["generator"])

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

    def _fit_critic(self, trajectory: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        loss = norm = torch.zeros(())
        states, ends = trajectory[keys.LATENT], trajectory[keys.NEXT][keys.TERMINATED]
        rest = (alive_steps(ends, targets.dtype),) if bool(ends.any()) else ()
        parts = minibatches(
            states,
            targets,
            *rest,
            epochs=config.critic_epochs,
            splits=config.critic_splits,
            limit=config.critic_limit,
            shuffle=config.shuffle,
            generator=self.generator,
        )
        for part in parts:
            loss = critic_loss(self.critic, *part)
            norm = optimize(
                loss, self.critic_optimizer, config.critic_max_norm, population=self.population
            )
        return loss, norm

    def _move_averages(self) -> None:
        self.updates += 1
        if self.config.target_tau is not None:
            soft_update(self.target, self.critic, self.config.target_tau)
        if self.config.average_tau is not None:
            soft_update(self.average, self.actor, max(self.config.average_tau, 1.0 / self.updates))


def _discount(gamma: float | Sequence[float], population: int | None) -> float | Tensor:
    values = [gamma] if isinstance(gamma, (int, float)) else list(gamma)
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"gamma must lie in [0, 1], got {gamma}")
    if isinstance(gamma, (int, float)):
        return float(gamma)
    if len(values) != population:
        raise ValueError(
            f"gamma must be one number or one per policy ({population}), got {len(values)}"
        )
    return torch.tensor(values)


def _starts(batch: TensorDictBase, population: int | None) -> tuple[Tensor, Tensor | None, Any]:
    """Return observations, tasks and actions (None where the batch has none) of the starts."""
    observation, task, action = (
        batch.get(k, None) for k in (keys.OBSERVATION, keys.TASK, keys.ACTION)
    )
    if population is None and observation.dim() == 3:
        observation, action = observation[:, 0], None if action is None else action[:, 0]
    if population is not None and (observation.dim() != 3 or observation.shape[0] != population):
        raise ValueError(
            f"observation must have shape [{population}, B, O], got {list(observation.shape)}"
        )
    return observation, task, action


def _real_actions(model: Any, actor: Any, task: Tensor | None) -> Tensor | None:
    """Mask of the actions that exist, broadcastable to `[.., B, H, A]`; None: all do."""
    mask = getattr(actor, "action_mask", None)
    if mask is not None:
        return mask if actor.population is None else mask.unsqueeze(1)
    if hasattr(model, "context"):
        mask = getattr(model.context(task), "action_mask", None)
    if mask is None:
        return None
    mask = mask[..., : actor.action_dim]
    return mask.unsqueeze(-2) if mask.dim() > 1 else mask


def _check_finite(returns: Tensor) -> None:
    """Stop before a running scale takes in what is not a number."""
    if not bool(torch.isfinite(returns).all()):
        raise ValueError("imagined returns must be finite, got NaN or infinity")


def _mean(returns: Tensor, population: int | None) -> Tensor:
    return returns.mean() if population is None else returns.flatten(1).mean(1)
