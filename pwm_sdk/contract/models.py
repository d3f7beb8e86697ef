"""The latent model, and what more a model may offer.

Nothing has to be subclassed. Any object with these attributes and methods takes part;
`pwm_sdk.check_latent_model` checks it. The protocols from `FeatureModel` on are abilities beside
the contract; `lacks` tells which of their names are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeGuard, runtime_checkable

import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk.contract.abilities import lacks, origin
from pwm_sdk.functional.context import Context


@runtime_checkable
class LatentModel(Protocol):
    """A differentiable model of the environment in a latent space of the model's choice.

    Attributes:
        latent_dim: D, size of a latent.
        action_dim: A, size of an action; actions lie in [-1, 1].
    """

    latent_dim: int
    action_dim: int

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Map observations `[.., O]` (and task ids `[..]`) to latents `[.., D]`."""
        ...

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Advance one step.

        Args:
            latent: `[.., D]`.
            action: `[.., A]` in [-1, 1].
            task: `[..]` int64, or None for a model without tasks.

        Returns:
            Next latent `[.., D]`, reward `[.., 1]` and, for models that can end an episode,
            terminated `[.., 1]` bool.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """What acting in an environment needs of a `LatentModel` without memory."""

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Map observations `[.., O]` (and task ids `[..]`) to latents `[.., D]`."""
        ...


@runtime_checkable
class SimulatorModel(LatentModel, Protocol):
    """A latent model that is itself the environment: true dynamics that can start episodes.

    Its latent is the simulator's state. Policies and values see `features(latent)`.

    Attributes:
        observation_dim: O, size of the features.
        episode_length: agent steps until an episode is truncated.
    """

    observation_dim: int
    episode_length: int

    def features(self, latent: Tensor) -> Tensor:
        """Return the observation `[.., O]` of states `[.., D]`."""
        ...

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` start states `[count, D]`."""
        ...


@runtime_checkable
class FeatureModel(Protocol):
    """A model whose policies and values see `features(latent)`; without it, the latent."""

    def features(self, latent: Tensor) -> Tensor:
        """Return what policies and values see, `[.., F]`, of latents `[.., D]`."""
        ...


@runtime_checkable
class TaskModel(Protocol):
    """A model of K tasks, which looks them up once and takes the result in place of ids.

    Attributes:
        num_tasks: K; 0 for a model without tasks.
    """

    num_tasks: int

    def context(self, task: Any) -> Any:
        """Look up ids `[..]`: a named tuple of tensors `[.., X]`, `task` `[.., 1]` among them.

        An `action_mask` in it marks real actions. A context that is given comes back as it is.
        """
        ...


@runtime_checkable
class FactoredModel(Protocol):
    """A model whose `step` is `next` and `reward`, so that rewards can be computed in one batch.

    The class that defines `step` promises it beside it, by `factored = True`; a subclass, mixin or
    wrapper with a `step` of its own is imagined by that (see `step_is_parts`).

    Attributes:
        factored: True.
        episodic: whether `step` returns ends; they are then `terminated(next latent, context)`.
    """

    factored: ClassVar[bool]
    episodic: bool

    def next(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        """Return the next latent `[.., D]`."""
        ...

    def reward(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        """Return the reward `[.., 1]`."""
        ...


@runtime_checkable
class EpisodicModel(Protocol):
    """A model that predicts whether a latent ended its episode, where `episodic` is True.

    Attributes:
        episodic: whether it does.
    """

    episodic: bool

    def terminated(self, latent: Tensor, task: Any = None) -> Tensor:
        """Tell which latents `[.., D]` ended their episode, `[.., 1]` bool."""
        ...

    def termination_logits(self, latent: Tensor, task: Any = None) -> Tensor:
        """Return the log odds of it, `[.., 1]`, for the loss."""
        ...


@runtime_checkable
class TrainableModel(Protocol):
    """A model that `world_model_loss` trains, on windows of recorded data.

    An episodic one has `termination_logits` too.
    """

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Map observations `[.., O]` to latents `[.., D]`."""
        ...

    def next(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        """Return the next latent `[.., D]`."""
        ...

    def reward_logits(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        """Return raw outputs `[.., N]` of the reward head."""
        ...

    def reward_error(self, logits: Tensor, reward: Tensor) -> Tensor:
        """Return the loss `[.., 1]` of these outputs against rewards `[.., 1]`."""
        ...


@runtime_checkable
class MemoryModel(LatentModel, Protocol):
    """A latent model whose latent carries what was seen so far, such as that of a GRU or an RSSM.

    `step` imagines on, without observations; `observe` takes the next one in.
    """

    def observe(
        self,
        latent: Tensor,
        action: Tensor,
        observation: Tensor,
        first: Tensor,
        task: Tensor | None = None,
    ) -> Tensor:
        """Return latents `[.., D]` that have seen one more observation.

        Args:
            latent: `[.., D]` before the step.
            action: `[.., A]`, which led to the observation.
            observation: `[.., O]`.
            first: `[.., 1]` bool, where nothing was seen before, as an episode begins: latent and
                action do not count there, and the result is `encode(observation, task)`.
            task: `[..]` int64, or None for a model without tasks.
        """
        ...


@runtime_checkable
class LossModel(Protocol):
    """A model with a loss of its own, which `GrowingBatch` minimises in place of its default."""

    def loss(self, batch: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of windows `[B]`, a scalar, and detached metrics.

        Args:
            batch: that of `ReplayBuffer.sample`: observation `[B, H+1, O]`, action `[B, H, A]`,
                reward, terminated and real `[B, H, 1]`, task `[B]`.
        """
        ...


@runtime_checkable
class StandardizedModel(Protocol):
    """A model whose `encode` standardises observations by moments that a loop sets."""

    def set_observation_statistics(
        self, mean: Tensor, std: Tensor, task: int | None = None
    ) -> None:
        """Set mean and std `[O]` of the observations, of one task in a model of tasks."""
        ...


@runtime_checkable
class SharedStatistics(StandardizedModel, Protocol):
    """The same with its tables in reach, as loops in several processes need them.

    Attributes:
        observation_mean: `[K, O]`, or `[O]` without tasks.
        observation_std: the same.
    """

    observation_mean: Tensor
    observation_std: Tensor


@runtime_checkable
class EmbeddedModel(Protocol):
    """A model of tasks with a table that several processes share.

    Attributes:
        task_embedding: `[K, E]`, or None without tasks.
    """

    task_embedding: Tensor | None


def num_tasks(model: object) -> int:
    """Return K of a model of K tasks; 0 of one without, and of what is no model."""
    return getattr(model, "num_tasks", 0) or 0


def observation_size(model: object) -> int | None:
    """Return O of a model; None where it does not say."""
    return getattr(model, "observation_dim", None)


def is_episodic(model: object) -> bool:
    """Tell whether a model says that it predicts ends of episodes."""
    return bool(getattr(model, "episodic", False))


def has_loss(model: object) -> bool:
    """Tell whether a model is a `LossModel`."""
    return callable(getattr(model, "loss", None))


def is_standardized(model: object) -> bool:
    """Tell whether a model has observation statistics that a loop can set."""
    tables = getattr(model, "observation_mean", True)  # None in a `WorldModel` without
    return not lacks(model, StandardizedModel) and tables is not None


def embeddings_of(model: object) -> Tensor | None:
    """Return the table of an `EmbeddedModel`, None of any other."""
    return getattr(model, "task_embedding", None)


def sees_features(model: object) -> TypeGuard[FeatureModel]:
    """Tell whether a model is a `FeatureModel`."""
    return hasattr(model, "features")


def looked_up(model: object, task: Tensor | None) -> Context:
    """Return what a model looks up of task ids `[..]`, or the ids of one that looks up nothing."""
    look_up = getattr(model, "context", None)
    return task if look_up is None else look_up(task)


def step_is_parts(model: object) -> bool:
    """Tell whether `next` and `reward` (and `terminated`) may be imagined in place of `step`.

    Only where the class whose `step` is used promises it: `step` is the contract, and one that a
    subclass, a mixin, a wrapper or an instance replaces is imagined itself.
    """
    names = ("next", "reward", *["terminated"] * is_episodic(model))
    source, maker = origin(model, "step", *names)
    promised = maker is not None and vars(maker).get("factored") is True
    ends = getattr(model, "episodic", None)
    return promised and isinstance(ends, bool) and ends is getattr(source, "episodic", None)


def can_end(model: object) -> bool:
    """Tell whether imagined episodes can end: not in a model whose `episodic` is False."""
    return getattr(model, "episodic", True)


def features(model: object, latent: Tensor) -> Tensor:
    """Return what policies and values see of a model's latents.

    Args:
        model: a `LatentModel`, with `features(latent)` where its latent is not what they should
            see, as the raw state of a simulator.
        latent: `[.., D]`.

    Returns:
        `[.., F]`; the latent itself where the model has no features.
    """
    return model.features(latent) if sees_features(model) else latent


def padded(name: str, value: Tensor, size: int, model: object) -> Tensor:
    """Append the zeros by which a model of several tasks is wider than one of them.

    Args:
        name: what the value is, for messages.
        value: `[.., X]`.
        size: the model's size of it.
        model: one of tasks (`num_tasks > 0`) takes narrower values, no other does.

    Returns:
        `[.., size]`.

    Raises:
        ValueError: if the value is wider, or narrower without tasks.
    """
    missing = size - value.shape[-1]
    if missing < 0 or (missing and not num_tasks(model)):
        raise ValueError(f"{name} must have the model's size {size}, got {list(value.shape)}")
    return F.pad(value, (0, missing)) if missing else value
