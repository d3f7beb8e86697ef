"""Behaviour cloning: a policy that repeats what is in the data, the floor of offline learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.calls import checked, floating, has, holds, least, may_be_infinite, shaped
from pwm_sdk.checks import at_least, positive, whole
from pwm_sdk.objectives.policy import behaviour_loss
from pwm_sdk.optim import decay_factor, optimize, scale_learning_rates


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
    model=has("encode"),
    batch=holds(keys.OBSERVATION, keys.ACTION),
    replay=has("sample"),
    steps=least(1),
    observation=(shaped(..., "O"), floating),
)
class BehaviourCloning:
    """Least squares from observations, or a model's latents, to the actions of the data.

    Args:
        actor: maps observations `[.., O]`, or latents `[.., D]`, to actions `[.., A]`, for example
            a `FirstOrderActor`.
        config: settings.
        model: encodes observations, and is left as it is; None: the actor sees observations.

    Source: ALVINN (Pomerleau, 1988); the squared error is that of TD3+BC (arXiv 2106.06860).
    """

    def __init__(
        self, actor: nn.Module, config: BehaviourCloningConfig | None = None, *, model: Any = None
    ) -> None:
        self.config = config = config or BehaviourCloningConfig()
        self.actor, self.model = actor, model
        self.optimizer = torch.optim.Adam(actor.parameters(), lr=config.lr, fused=True)

    def __call__(self, observation: Tensor) -> Tensor:
        """Return actions `[.., A]` for observations `[.., O]`, for an actor without a model."""
        size = getattr(self.actor, "latent_dim", observation.shape[-1])
        if observation.shape[-1] != size:
            raise ValueError(f"observation must have size {size}, got {list(observation.shape)}")
        return self.actor(observation)

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Move the actor once towards the actions of a batch.

        Args:
            batch: windows `[B]` of a `ReplayBuffer` (observation `[B, H+1, O]`, action `[B, H, A]`,
                task `[B]`): all H pairs are used; or pairs `[B]` (observation `[B, O]`, action
                `[B, A]`).

        Returns:
            Detached metrics `[]`: loss (squared distance of the actions), grad_norm.

        Raises:
            ValueError: if the loss is not finite.
        """
        observation, action = batch[keys.OBSERVATION], batch[keys.ACTION]
        task = batch.get(keys.TASK, None)
        if observation.dim() == 3:
            observation = observation[:, :-1]
            task = None if task is None else task.unsqueeze(1).expand(observation.shape[:2])
        if self.model is not None:
            with torch.no_grad():
                observation = self.model.encode(observation, task)
        pairs = observation.reshape(-1, observation.shape[-1]), action.reshape(-1, action.shape[-1])
        loss = behaviour_loss(self.actor, *pairs)
        norm = optimize(loss, self.optimizer, self.config.max_norm)
        return {"loss": loss.detach(), "grad_norm": norm}

    def fit(self, replay: Any, steps: int) -> dict[str, Tensor]:
        """Update `steps` times from a replay; the learning rate falls linearly to 2% of its start.

        Args:
            replay: a `ReplayBuffer`, or anything whose `sample` returns a batch.
            steps: number of updates, at least 1.

        Returns:
            Metrics of the last update.
        """
        whole(1, steps=steps)
        metrics: dict[str, Tensor] = {}
        for step in range(steps):
            scale_learning_rates(self.optimizer, decay_factor(step / steps, share=1.0, floor=0.02))
            metrics = self.update(replay.sample())
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        return {"actor": self.actor.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.actor.load_state_dict(state["actor"])
        self.optimizer.load_state_dict(state["optimizer"])
