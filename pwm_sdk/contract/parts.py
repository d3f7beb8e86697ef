"""What algorithms and constructors ask of parts beyond the abilities of models and policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk.contract.agents import Batches
from pwm_sdk.contract.models import LatentModel, TaskModel, TrainableModel
from pwm_sdk.contract.policies import (
    EnsembleValue,
    LearnedPrior,
    LearnedQ,
    Prior,
    QFunction,
    StochasticPolicy,
    ValueFunction,
)
from pwm_sdk.functional.context import Context


@runtime_checkable
class Trained(Protocol):
    """A part with weights, as every `nn.Module`."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the weights."""
        ...


@runtime_checkable
class TrainedPolicy(StochasticPolicy, Trained, Protocol):
    """A policy that learns by the gradient of imagined returns, as `FirstOrderActor`."""


@runtime_checkable
class TrainedValue(ValueFunction, EnsembleValue, Trained, Protocol):
    """A value function that learns from imagined states, as `Critic`."""


@runtime_checkable
class PolicyPopulation(TrainedPolicy, Protocol):
    """P such policies at once; latents are `[P, .., D]`.

    Attributes:
        population: P.
    """

    population: int | None


@runtime_checkable
class ValuePopulation(TrainedValue, Protocol):
    """P such values at once; latents are `[P, .., D]`.

    Attributes:
        population: P.
    """

    population: int | None


@runtime_checkable
class StartingModel(Protocol):
    """A simulator that starts its own episodes, as a `SimulatorModel`; it may have features.

    Attributes:
        latent_dim: D, size of a state.
        action_dim: A.
        episode_length: agent steps until an episode is truncated.
    """

    latent_dim: int
    action_dim: int
    episode_length: int

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return next state `[.., D]`, reward `[.., 1]` and perhaps terminated `[.., 1]`."""
        ...

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` start states `[count, D]`."""
        ...


@runtime_checkable
class NetworkModel(LatentModel, Protocol):
    """A model whose `step` and `reward` are made of outputs of its networks, as `WorldModel`."""

    def context(self, task: Tensor | None) -> Any:
        """Look up ids `[..]`; see `TaskModel`."""
        ...

    def next(self, latent: Tensor, action: Tensor, task: Context = None) -> Tensor:
        """Return the next latent `[.., D]`."""
        ...

    def reward_logits(self, latent: Tensor, action: Tensor, task: Context = None) -> Tensor:
        """Return raw outputs `[.., N]` of the reward head."""
        ...

    def decode_reward(self, logits: Tensor) -> Tensor:
        """Return the rewards `[.., 1]` of these outputs."""
        ...

    def reward(self, latent: Tensor, action: Tensor, task: Context = None) -> Tensor:
        """Return the reward `[.., 1]`."""
        ...


@runtime_checkable
class JointModel(TrainableModel, TaskModel, Trained, Protocol):
    """A model that is trained together with Q functions, as `WorldModel` by `TDMPC2`.

    Attributes:
        latent_dim: D.
        action_dim: A.
        encoder: has a learning rate of its own.
    """

    latent_dim: int
    action_dim: int

    @property
    def encoder(self) -> nn.Module:
        """What `encode` runs."""
        ...


@runtime_checkable
class JointQ(LearnedQ, QFunction, Trained, Protocol):
    """Q functions that are trained together with a model, as `QEnsemble` by `TDMPC2`.

    Attributes:
        latent_dim: D.
        action_dim: A.
    """

    latent_dim: int
    action_dim: int

    def draw_heads(self) -> Tensor:
        """Draw the heads to read values from, `[N]` int64."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Turn dropout on or off."""
        ...


@runtime_checkable
class JointPrior(Prior, LearnedPrior, Trained, Protocol):
    """A policy of tasks that is trained together with a model, as `PolicyPrior` by `TDMPC2`.

    Attributes:
        latent_dim: D.
        action_dim: A.
    """

    latent_dim: int
    action_dim: int


@runtime_checkable
class SizedModel(Protocol):
    """A model that says how wide it is, so that networks on its latents can be as wide."""

    @property
    def latent_dim(self) -> int:
        """D."""
        ...

    @property
    def action_dim(self) -> int:
        """A."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of its constructor, `hidden` and `activation` among them."""
        ...

    @property
    def task_embedding(self) -> Tensor | None:
        """Table `[K, E]`, or None without tasks."""
        ...


@runtime_checkable
class BinnedModel(SizedModel, Protocol):
    """The same with a distribution over bins for its rewards."""

    @property
    def num_bins(self) -> int:
        """Number of bins; 0 for a scalar."""
        ...


@runtime_checkable
class Moments(Protocol):
    """Running moments that normalise what networks see, as `RunningMeanStd`."""

    def update(self, values: Tensor) -> object:
        """Take in values `[.., O]`."""
        ...

    def normalize(self, values: Tensor) -> Tensor:
        """Return values `[.., O]` normalised."""
        ...


@runtime_checkable
class Spread(Protocol):
    """A running scale of values, as that of `RunningMeanStd`."""

    @property
    def scale(self) -> Tensor:
        """What values are divided by."""
        ...

    def update(self, values: Tensor) -> Tensor:
        """Take in values and return `scale`."""
        ...


@runtime_checkable
class Scale(Protocol):
    """What imagined returns are divided by, as `ReturnScale`."""

    def update(self, returns: Tensor) -> Tensor:
        """Take in returns `[P, ..]` (`[..]` for one policy) and return the scale `[P]` (`[1]`)."""
        ...


@runtime_checkable
class Replay(Batches, Protocol):
    """Batches of what was put in before, as a TorchRL replay buffer."""

    def extend(self, rows: TensorDictBase, /) -> Any:
        """Put in rows `[N]`."""
        ...


@runtime_checkable
class Numbered(Protocol):
    """A task with the id that models know it by, as `Task`."""

    @property
    def index(self) -> int:
        """The id."""
        ...


@runtime_checkable
class Spaces(Protocol):
    """Sizes of observations and actions, as of a `Task` or, padded, of a `TaskSet`."""

    @property
    def observation_dim(self) -> int:
        """O."""
        ...

    @property
    def action_dim(self) -> int:
        """A."""
        ...


@runtime_checkable
class PaddedTasks(Spaces, Protocol):
    """Several tasks with padded sizes, as a `TaskSet`."""

    def __iter__(self) -> Iterator[Any]:
        """Return the tasks, each with an index and an action size."""
        ...


def policies_of(scale: object) -> int | None:
    """Return the number of policies that a return scale is of; None where it does not say."""
    return getattr(scale, "policies", None)


def has_reward_logits(model: object) -> TypeGuard[NetworkModel]:
    """Tell whether a model has the outputs of a reward head, as a `NetworkModel`."""
    return hasattr(model, "reward_logits")
