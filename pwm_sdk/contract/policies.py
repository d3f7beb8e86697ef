"""Policies and value functions on latents, and what more they may offer."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard, runtime_checkable

from torch import Generator, Tensor

from pwm_sdk.contract.agents import Ids
from pwm_sdk.functional.context import Context


@runtime_checkable
class Policy(Protocol):
    """Anything that maps what it sees `[.., D]` to an action `[.., A]` in [-1, 1]."""

    def __call__(self, latent: Tensor, /) -> Tensor:
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

    def __call__(self, latent: Tensor, /) -> Tensor:
        """Return the value."""
        ...


@runtime_checkable
class EnsembleValue(Protocol):
    """A value function of several heads, which `critic_loss` trains."""

    def values(self, latent: Tensor) -> Tensor:
        """Return the heads, `[E, .., 1]`."""
        ...


@runtime_checkable
class UnitValue(Protocol):
    """A value function that says in which unit its error counts."""

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
class ActionValue(Protocol):
    """Anything that maps latents `[.., D]` and actions `[.., A]` to expected returns `[.., 1]`."""

    def __call__(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the value."""
        ...


@runtime_checkable
class TaskActionValue(Protocol):
    """An action value that depends on the task, and may draw, as a `QEnsemble` its heads."""

    def given(self, context: Any, generator: Generator | None = None) -> ActionValue:
        """Return the value for what `context` of the model looked up.

        Args:
            context: see above.
            generator: source of what is drawn; None: torch's global one.
        """
        ...


@runtime_checkable
class QFunction(Protocol):
    """Several action values of tasks, as a `QEnsemble`."""

    def value(
        self, latent: Tensor, action: Tensor, context: Any, *, heads: Tensor, reduce: str
    ) -> Tensor:
        """Return the "mean" or "min" `[.., 1]` of the chosen `heads` `[N]`."""
        ...


@runtime_checkable
class LearnedQ(Protocol):
    """Action values that `joint_loss` trains."""

    def logits(self, latent: Tensor, action: Tensor, context: Any) -> Tensor:
        """Return raw outputs of all heads, `[E, .., N]`."""
        ...

    def error(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return their loss `[E, .., 1]` against targets `[.., 1]`."""
        ...


@runtime_checkable
class Prior(Protocol):
    """A policy of tasks that draws by the noise that it is given, as a `PolicyPrior`."""

    def __call__(self, latent: Tensor, context: Any, noise: Tensor) -> Tensor:
        """Return actions `[.., A]` of latents `[.., D]` and standard-normal noise `[.., A]`."""
        ...


@runtime_checkable
class LearnedPrior(Protocol):
    """A policy of tasks that `prior_loss` trains."""

    def distribution(self, latent: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        """Return mean and log-std before the tanh, each `[.., A]`."""
        ...


@runtime_checkable
class Planner(Protocol):
    """What plans at every step, in place of a policy, as `MPPI`.

    Each behaviour plans by a shallow copy, whose `reset` comes first: plans of one are not those of
    another.

    Attributes:
        model: what it plans in; says how wide observations are, and of which tasks.
    """

    model: Any

    def plan(self, observation: Tensor, task: Ids = None, *, choice: str = "mean") -> Tensor:
        """Return actions `[N, A]` for observations `[N, O]`; see `MPPI.plan` for `choice`."""
        ...

    def reset(self, index: int | None = None) -> None:
        """Forget the plan of environment `index`, or of all."""
        ...


def population_of(part: object) -> int | None:
    """Return P of a `PopulationPart` of P, or of the one whose method this is; None for one."""
    return getattr(getattr(part, "__self__", part), "population", None)


def is_stochastic(policy: object) -> bool:
    """Tell whether a policy is a `StochasticPolicy`, also one that a wrapper forwards."""
    return callable(policy) and all(hasattr(policy, n) for n in ("action_dim", "loc", "squash"))


def is_sampled(policy: object) -> TypeGuard[SampledPolicy]:
    """Tell whether a policy is a `SampledPolicy`, a compiled one too."""
    return hasattr(policy, "sample")


def is_scored(policy: object) -> bool:
    """Tell whether a policy is a `StochasticPolicy` with a density."""
    return is_stochastic(policy) and hasattr(policy, "log_prob")


def is_recurrent(policy: object) -> TypeGuard[RecurrentPolicy]:
    """Tell whether a policy is a `RecurrentPolicy`, a compiled one too."""
    return hasattr(policy, "carry")


def is_planner(policy: object) -> TypeGuard[Planner]:
    """Tell whether a policy is a `Planner`, which is asked to plan in place of being called."""
    return hasattr(policy, "plan")


def depends_on_task(part: object) -> TypeGuard[TaskPart]:
    """Tell whether a policy or value is a `TaskPart`, a compiled one too."""
    return hasattr(part, "given")


def takes_noise(policy: object) -> bool:
    """Tell whether `drawn` may be given noise for a policy, or for what `given` makes of it."""
    later = depends_on_task(policy) and not is_planner(policy)
    return later or is_stochastic(policy) or is_sampled(policy)


def drawn(policy: Policy | SampledPolicy, latent: Tensor, noise: Tensor | None) -> Tensor:
    """Return actions `[.., A]` of a policy for noise `[.., A]`; None: its own deterministic ones.

    Args:
        policy: a `StochasticPolicy` or `SampledPolicy`; without noise any `Policy`.
        latent: what it sees, `[.., D]`.
        noise: standard-normal.
    """
    own: Any = policy
    if noise is None:
        return own(latent)
    if is_sampled(policy):
        return policy.sample(latent, noise)
    return own.squash(own.loc(latent), noise)


def latent_size(part: object) -> int | None:
    """Return the size of the latents that a part takes; None where it does not say."""
    return getattr(part, "latent_dim", None)


def action_size(policy: object) -> int | None:
    """Return the size of a policy's actions; None where it does not say."""
    return getattr(policy, "action_dim", None)


def action_mask_of(part: object) -> Tensor | None:
    """Return the mask of a `MaskedPolicy`, or of what a model looked up; None: all are real."""
    return getattr(part, "action_mask", None)


def member_of(part: Any, index: int) -> Any:
    """Return policy or value `index` of a population alone.

    Raises:
        ValueError: if it is a single one.
    """
    if population_of(part) is None:
        raise ValueError("actor must be a population to have members, got a single policy")
    return part.member(index)


def given(part: object, context: Context) -> Any:
    """Return the policy or value of these tasks: `part.given(context)` if `part` has that method.

    Args:
        part: callable on latents, which may depend on the task through a method `given`.
        context: what the model looked up of the tasks, or their ids.

    Returns:
        A callable on latents.
    """
    return part.given(context) if depends_on_task(part) else part


def given_draws(q: object, context: Context, generator: Generator | None) -> Any:
    """Return the action value of these tasks, with a source of what it draws."""
    bind = getattr(q, "given", None)
    return q if bind is None else bind(context, generator)


def unit_of(critic: object, value: Tensor) -> Tensor | float:
    """Return the unit in which the error of a value function counts."""
    unit = getattr(critic, "unit", None)
    return 1.0 if unit is None else unit(value)


def task_of(context: Context) -> Tensor | None:
    """Return the task ids of what a model looked up, if it says which; ids themselves."""
    return context if isinstance(context, Tensor) else getattr(context, "task", None)
