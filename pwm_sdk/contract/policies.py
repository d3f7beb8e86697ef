"""Policies and value functions on latents, and what more they may offer."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


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
class TaskPart(Protocol):
    """A policy or value that depends on the task."""

    def given(self, context: Any) -> Any:
        """Return the callable on latents for what `context` of the model looked up."""
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
class ValueFunction(Protocol):
    """Anything that maps latents `[.., D]` to expected discounted returns `[.., 1]`."""

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the value."""
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
class RecurrentPolicy(Protocol):
    """A policy on observations that carries a memory from step to step."""

    def carry(
        self, observation: Tensor, memory: Any, first: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Return actions and the memory for the next call.

        Args:
            observation: `[N, O]`.
            memory: what the last call returned; None: there was none.
            first: `[N]` bool, where an episode begins and nothing is remembered.
            task: ids `[N]`.
        """
        ...


@runtime_checkable
class Planner(Protocol):
    """What plans at every step, in place of a policy, as `MPPI`.

    Each behaviour plans by a shallow copy, whose `reset` comes first: plans of one are not those of
    another.

    Attributes:
        model: the `LatentModel` that it plans in, whose tasks and sizes count.
    """

    model: Any

    def plan(self, observation: Tensor, task: Any = None) -> Tensor:
        """Return actions `[N, A]` for observations `[N, O]`."""
        ...

    def reset(self, index: int | None = None) -> None:
        """Forget the plan of environment `index`, or of all."""
        ...


def population_of(part: Any) -> int | None:
    """Return how many policies or values a part is at once, P; None for one."""
    return getattr(part, "population", None)


def is_stochastic(policy: Any) -> bool:
    """Tell whether a policy is a `StochasticPolicy`, a compiled one too.

    `isinstance` does not see what a wrapper such as that of `torch.compile` forwards.
    """
    return callable(policy) and all(hasattr(policy, n) for n in ("action_dim", "loc", "squash"))


def is_sampled(policy: Any) -> bool:
    """Tell whether a policy is a `SampledPolicy`, a compiled one too."""
    return hasattr(policy, "sample")


def is_recurrent(policy: Any) -> bool:
    """Tell whether a policy is a `RecurrentPolicy`, a compiled one too."""
    return hasattr(policy, "carry")


def is_planner(policy: Any) -> bool:
    """Tell whether a policy is a `Planner`, which is asked to plan in place of being called."""
    return hasattr(policy, "plan")


def depends_on_task(part: Any) -> bool:
    """Tell whether a policy or value is a `TaskPart`, a compiled one too."""
    return hasattr(part, "given")


def model_of(planner: Any) -> Any:
    """Return the model that a planner plans in; None where it does not say."""
    return getattr(planner, "model", None)


def latent_size(part: Any, default: int) -> int:
    """Return the size of what a policy or value takes, `default` where it does not say."""
    return getattr(part, "latent_dim", default)


def member_of(part: Any, index: int) -> Any:
    """Return policy or value `index` of a population alone.

    Raises:
        ValueError: for a single one.
    """
    if population_of(part) is None:
        raise ValueError("actor must be a population to have members, got a single policy")
    return part.member(index)


def given(part: Any, context: Any) -> Any:
    """Return the policy or value of these tasks: `part.given(context)` if `part` has that method.

    Args:
        part: callable on latents, which may depend on the task through a method `given`.
        context: what the model looked up of the tasks, or their ids.

    Returns:
        A callable on latents.
    """
    return part.given(context) if hasattr(part, "given") else part
