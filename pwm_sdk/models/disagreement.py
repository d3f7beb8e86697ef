"""A guard against exploiting the model: reward minus an ensemble's disagreement."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked
from pwm_sdk.checks import whole
from pwm_sdk.contract.models import sees_features, step_is_parts
from pwm_sdk.functional.precision import full
from pwm_sdk.models.conditioning import TaskContext
from pwm_sdk.models.layers import init_fan_in
from pwm_sdk.models.world_model import WorldModel


class DisagreementHead(nn.Module):
    """Further dynamics and reward networks on a world model's encoder, started from other weights.

    Has what `world_model_loss` needs, so a head is trained like the model; the shared encoder is
    only read.

    Args:
        model: the world model; its encoder, embedding and masks are shared, its networks' shapes
            are copied.
    """

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self._shared = (model,)  # a tuple, so that the model's parameters are not this module's
        self.num_tasks = model.num_tasks
        self.dynamics = init_fan_in(copy.deepcopy(model.dynamics)).requires_grad_(True)
        self.reward_head = init_fan_in(copy.deepcopy(model.reward_head)).requires_grad_(True)

    @torch.no_grad()
    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Encode with the shared encoder, without gradient: `[.., O]` to `[.., D]`."""
        return self._shared[0].encode(observation, task)

    @torch.no_grad()
    def context(self, task: Tensor | TaskContext | None) -> TaskContext:
        """Look up task ids `[..]`, without gradient."""
        return self._shared[0].context(task)

    def next(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> Tensor:
        """Predict the next latent `[.., D]`."""
        return self.dynamics(self._shared[0].inputs(latent, action, task))

    def reward_logits(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> Tensor:
        """Return raw outputs of the reward network."""
        return full(self.reward_head(self._shared[0].inputs(latent, action, task)))

    def reward(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> Tensor:
        """Predict the reward `[.., 1]`."""
        return self._shared[0].decode_reward(self.reward_logits(latent, action, task))

    def reward_error(self, logits: Tensor, reward: Tensor) -> Tensor:
        """Loss of the reward network, `[.., 1]`."""
        return self._shared[0].reward_error(logits, reward)


@checked()
class Disagreement(nn.Module):
    r"""A `LatentModel` that makes uncertain steps expensive.

    .. math:: \tilde r = r - coef (\| std_i z'_i \|_2 + std_i r_i)

    over the model itself and further `heads`; z' and r are those of the model's `step`. Swap it for
    the model in a `LatentRollout` or in `PWM`. Train the heads on the same data:
    `sum(world_model_loss(head, batch) for head in guard.heads)`.

    Args:
        model: the world model that predicts latents and rewards.
        heads: number of further heads, at least 1.
        coef: weight of the penalty, in reward units. About 1 to 5 for fixed data, 0 where new data
            keeps coming.

    Source: MOPO (arXiv 2005.13239), eq. 2, with the ensemble's spread as uncertainty.
    """

    def __init__(self, model: WorldModel, heads: int = 2, coef: float = 1.0) -> None:
        super().__init__()
        whole(1, heads=heads)
        if coef < 0:
            raise ValueError(f"coef must not be negative, got {coef}")
        self.model, self.coef = model, coef
        self.latent_dim, self.action_dim = model.latent_dim, model.action_dim
        self.num_tasks, self.observation_dim = model.num_tasks, model.observation_dim
        if sees_features(model):
            self.features = model.features
        self.heads = nn.ModuleList(DisagreementHead(self.model) for _ in range(heads))

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Encode with the model: `[.., O]` to `[.., D]`."""
        return self.model.encode(observation, task)

    def context(self, task: Tensor | TaskContext | None) -> TaskContext:
        """Look up what the networks need of task ids `[..]`."""
        return self.model.context(task)

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> tuple[Tensor, ...]:
        """Return the model's next latent `[.., D]` and the penalised reward `[.., 1]`.

        An episodic model's end of the episode `[.., 1]` comes third.
        """
        context = self.model.context(task)
        next_latent, reward, *ends = self.model.step(latent, action, context)
        members: list[Any] = list(self.heads)
        latents, rewards = [next_latent], [reward]
        if not step_is_parts(self.model):  # heads differ from the networks, not from the step
            latents = [self.model.next(latent, action, context)]
            rewards = [self.model.reward(latent, action, context)]
        latents = torch.stack([*latents, *(m.next(latent, action, context) for m in members)])
        rewards = torch.stack([*rewards, *(m.reward(latent, action, context) for m in members)])
        spread = latents.std(0).norm(dim=-1, keepdim=True) + rewards.std(0)
        return next_latent, reward - self.coef * spread, *ends
