"""What models with a memory have seen: along windows of data, and step by step in environments."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor

from pwm_sdk.calls import anywhere, checked, least, shaped
from pwm_sdk.contract.models import Encoder, MemoryModel, padded


def has_memory(model: object) -> TypeGuard[MemoryModel]:
    """Tell whether a model is a `MemoryModel`."""
    return hasattr(model, "observe")


@checked(
    observation=shaped(..., None, None),
    action=shaped(..., None, None),
    first=shaped(..., None, 1),
)
def observed_latents(
    model: Encoder,
    observation: Tensor,
    action: Tensor,
    task: Tensor | None = None,
    first: Tensor | None = None,
) -> Tensor:
    """Return the latents of windows, each of which has seen the rows up to its own.

    Args:
        model: a `MemoryModel`; of any other model, each row is encoded by itself.
        observation: `[.., T, O]`.
        action: `[.., T-1, A]` of the steps between the rows; later ones are not read.
        task: `[..]` int64, or None for a model without tasks.
        first: `[.., T, 1]` bool, rows before which nothing was seen; None: the first row alone,
            which is one in any case.

    Returns:
        `[.., T, D]`, with gradient.
    """
    if has_memory(model):
        return _observed(model, observation, action, task, first)
    ids = None if task is None else task.unsqueeze(-1).expand(observation.shape[:-1])
    return model.encode(observation, ids)


def _observed(
    model: MemoryModel,
    observation: Tensor,
    action: Tensor,
    task: Tensor | None,
    first: Tensor | None,
) -> Tensor:
    """Return the latents of a model that remembers, row after row."""
    begins = torch.zeros_like(observation[..., :1], dtype=torch.bool) if first is None else first
    latents = [model.encode(observation[..., 0, :], task)]
    for t in range(1, observation.shape[-2]):
        rows = action[..., t - 1, :], observation[..., t, :], begins[..., t, :]
        latents.append(model.observe(latents[-1], *rows, task))
    return torch.stack(latents, -2)


@checked(
    index=least(0),
    observation=shaped(None, None),
    action=shaped(None, None),
    task=anywhere,
)
class LatentTracker:
    """The latents of N environments, from step to step: what a behaviour or a planner acts on.

    Args:
        model: a `MemoryModel`, or anything with `encode`, which is asked at every step.
    """

    def __init__(self, model: Encoder) -> None:
        self.model = model
        self._latent: Tensor | None = None  # None: nothing was seen anywhere
        self._action: Tensor | None = None
        self._first: Tensor | None = None

    def start(self, index: int | None = None) -> None:
        """Forget what was seen of environment `index`, or of all."""
        if index is None:
            self._latent = self._action = self._first = None
        elif self._first is not None:
            self._first = self._first.clone()  # it may be of `inference_mode`
            self._first[index] = True

    def see(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the latents `[N, D]` after observations `[N, O]` of tasks `[N]`."""
        model = self.model
        if not has_memory(model):
            return model.encode(observation, task)
        if self._latent is None or self._action is None or self._first is None:
            latent = model.encode(observation, task)
        else:
            before = self._latent, self._action, observation, self._first
            latent = model.observe(*before, task)
        self._latent, self._action = latent.detach(), None
        return latent

    def acted(self, action: Tensor) -> None:
        """Take in the actions `[N, A]` that were taken after what was seen."""
        model = self.model
        if self._latent is None or not has_memory(model):
            return
        own = padded("action", action, model.action_dim, model)
        self._action = own.detach().to(self._latent)
        self._first = torch.zeros_like(own[:, :1], dtype=torch.bool)
