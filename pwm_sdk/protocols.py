"""What may be swapped: the latent model, the policy and the value function, and what each may add.

Nothing has to be subclassed. Any object with these attributes and methods takes part;
`pwm_sdk.check_latent_model` checks the first one for you. The protocols from `FeatureModel` on are
abilities that a part may have beside its contract; `lacks` tells which of their names are missing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor


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
class ExploringPolicy(Protocol):
    """A policy whose noise a loop sets, as `FirstOrderActor`."""

    def set_std(self, std: float | Tensor) -> None:
        """Set the standard deviation of the noise."""
        ...


@runtime_checkable
class LearnedNoise(Protocol):
    """A policy that learns the size of its noise, within bounds."""

    def clamp_std_(self) -> None:
        """Bring it back into its bounds; called before each update."""
        ...


@runtime_checkable
class MaskedPolicy(Protocol):
    """A policy that knows which of its actions are real, where tasks differ.

    Attributes:
        action_mask: 1 for real actions and 0 for others, `[A]` or `[P, 1, A]`; None: all are.
    """

    action_mask: Tensor | None


@runtime_checkable
class SampledPolicy(Protocol):
    """A policy that draws its actions itself, as one of a `PolicyPrior`; a planner asks it."""

    action_dim: int

    def sample(self, latent: Tensor, noise: Tensor) -> Tensor:
        """Return actions `[.., A]` of latents `[.., D]` and standard-normal noise `[.., A]`."""
        ...


@runtime_checkable
class ScoredPolicy(Protocol):
    """A policy with a density, for gradients that need returns only."""

    def log_prob(self, loc: Tensor, noise: Tensor) -> Tensor:
        """Return the log-density `[.., 1]` of what `noise` drew around `loc`."""
        ...


@runtime_checkable
class EnsembleValue(Protocol):
    """A value function of several heads, which `critic_loss` trains."""

    def values(self, latent: Tensor) -> Tensor:
        """Return the heads, `[E, .., 1]`."""
        ...

    def unit(self, value: Tensor) -> Tensor:
        """Return the unit of the loss, to broadcast against values `[.., 1]`; 1 without it."""
        ...


@runtime_checkable
class PopulationPart(Protocol):
    """A policy or value that may be P at once; latents are then `[P, .., D]`.

    Attributes:
        population: P, or None for one.
        latent_dim: D, what it takes; not checked where it is missing.
    """

    population: int | None
    latent_dim: int


@runtime_checkable
class EmbeddedModel(Protocol):
    """A model of tasks with a table that several processes share.

    Attributes:
        task_embedding: `[K, E]`, or None without tasks.
    """

    task_embedding: Tensor | None


@runtime_checkable
class Planner(Protocol):
    """What plans at every step, in place of a policy, as `MPPI`."""

    def plan(self, observation: Tensor, task: Any = None) -> Tensor:
        """Return actions `[N, A]` for observations `[N, O]`."""
        ...

    def reset(self, index: int | None = None) -> None:
        """Forget the plan of environment `index`, or of all."""
        ...


@runtime_checkable
class TaskPart(Protocol):
    """A policy or value that depends on the task."""

    def given(self, context: Any) -> Any:
        """Return the callable on latents for what `context` of the model looked up."""
        ...


def lacks(part: Any, *protocols: type) -> list[str]:
    """Return the names of protocols that a part does not have, also those set in its instance."""
    names = {name for protocol in protocols for name in members(protocol)}
    return sorted(name for name in names if not hasattr(part, name))


def members(protocol: type) -> list[str]:
    """Return the names that a protocol asks for, `__call__` where it asks for no other."""
    kinds = [k for k in reversed(protocol.__mro__) if getattr(k, "_is_protocol", False)]
    scopes = [(*vars(k).get("__annotations__", {}), *vars(k)) for k in kinds]
    named = dict.fromkeys(name for scope in scopes for name in scope if not name.startswith("_"))
    return list(named) or ["__call__"]


def step_is_parts(model: Any) -> bool:
    """Tell whether `next` and `reward` (and `terminated`) may be imagined in place of `step`.

    Only where the class whose `step` is used promises it: `step` is the contract, and one that a
    subclass, a mixin, a wrapper or an instance replaces is imagined itself.
    """
    names = ("next", "reward", *["terminated"] * bool(getattr(model, "episodic", False)))
    source, maker = origin(model, "step", *names)
    return (
        maker is not None
        and vars(maker).get("factored") is True
        and isinstance(getattr(model, "episodic", None), bool)
        and model.episodic is getattr(source, "episodic", None)
    )


def origin(part: Any, whole: str, *names: str) -> tuple[Any, type | None]:
    """Return the object and the class that a method comes from.

    Args:
        part: the object that is asked for it.
        whole: name of the method.
        names: of others, which must come from the same object.

    Returns:
        The object, `part` or one whose methods a wrapper forwards, and the class that defines the
        method; None for that where it is no method of a class, or comes without the others.
    """
    methods = [getattr(part, name, None) for name in (whole, *names)]
    source = getattr(methods[0], "__self__", part)
    if not all(callable(method) for method in methods) or isinstance(source, type):
        return part, None
    if source is not part:
        same = all(getattr(method, "__self__", None) is source for method in methods)
        return origin(source, whole, *names) if same else (part, None)
    if whole in getattr(part, "__dict__", {}):
        return part, None
    return part, next((kind for kind in type(part).__mro__ if whole in vars(kind)), None)


def is_stochastic(policy: Any) -> bool:
    """Tell whether a policy is a `StochasticPolicy`, a compiled one too.

    `isinstance` does not see what a wrapper such as that of `torch.compile` forwards.
    """
    return callable(policy) and all(hasattr(policy, n) for n in ("action_dim", "loc", "squash"))


def features(model: Any, latent: Tensor) -> Tensor:
    """Return what policies and values see of a model's latents.

    Args:
        model: a `LatentModel`, with `features(latent)` where its latent is not what they should
            see, as the raw state of a simulator.
        latent: `[.., D]`.

    Returns:
        `[.., F]`; the latent itself where the model has no features.
    """
    return model.features(latent) if hasattr(model, "features") else latent


def padded(name: str, value: Tensor, size: int, model: Any) -> Tensor:
    """Append the zeros by which a model of several tasks is wider than one of them.

    Args:
        name: what the value is, for messages.
        value: `[.., X]`.
        size: the model's size of it.
        model: one of tasks (`num_tasks > 0`) takes narrower values, no other does.

    Returns:
        `[.., size]`.

    Raises:
        ValueError: for a value that is wider, or narrower without tasks.
    """
    missing = size - value.shape[-1]
    if missing < 0 or (missing and not getattr(model, "num_tasks", 0)):
        raise ValueError(f"{name} must have the model's size {size}, got {list(value.shape)}")
    return F.pad(value, (0, missing)) if missing else value


@runtime_checkable
class Policy(Protocol):
    """Anything that maps what it sees `[.., D]` to an action `[.., A]` in [-1, 1]."""

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the deterministic action."""
        ...


@runtime_checkable
class StochasticPolicy(Policy, Protocol):
    """A policy that can be reparametrised: action = squash(loc(latent), noise)."""

    action_dim: int

    def loc(self, latent: Tensor) -> Tensor:
        """Return the mean before squashing, `[.., A]`."""
        ...

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the action of mean `loc` and standard-normal `noise`, both `[.., A]`."""
        ...


@runtime_checkable
class ValueFunction(Protocol):
    """Anything that maps latents `[.., D]` to expected discounted returns `[.., 1]`."""

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the value."""
        ...
