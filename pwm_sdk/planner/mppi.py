"""Plan by sampling in any latent model: MPPI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pwm_sdk.calls import acts, anywhere, checked, least
from pwm_sdk.checks import whole
from pwm_sdk.contract.agents import Ids
from pwm_sdk.contract.memory import LatentTracker
from pwm_sdk.contract.models import LatentModel, features, looked_up, padded
from pwm_sdk.contract.policies import (
    Policy,
    SampledPolicy,
    TaskPart,
    ValueFunction,
    action_mask_of,
    given,
    task_of,
)
from pwm_sdk.execution.runner import Runner
from pwm_sdk.execution.settings import Execution
from pwm_sdk.functional.context import Context, with_time
from pwm_sdk.functional.planning import draw_by_weight, elite_weights, weighted_moments
from pwm_sdk.functional.precision import full
from pwm_sdk.planner.draws import Draws, sample_action
from pwm_sdk.planner.policy_value import PolicyValue

CHOICES = ("mean", "elite", "explore")


@checked(task=anywhere, policy=acts, value=acts, index=least(0))
class MPPI:
    """Search for the best next actions in a latent model, again at every step.

    Candidates are action sequences of H steps: some from a policy, the others drawn around a mean
    that moves to the best candidates, iteration by iteration. Their value is the imagined return
    with `value` at the end. The rows of an observation are environments: the final mean of each is
    the start of its next plan, until `reset`.

    Args:
        model: a `LatentModel`. Actions that its context masks stay zero. A plan starts from what
            its `encode` takes: of a simulator the state, for a `MuJoCoModel` `[qpos, qvel, act]`,
            and not the features that its environment shows.
        policy: proposes action sequences: a `StochasticPolicy`, an object with `sample(latent,
            noise)`, or any callable from latents to actions. Of a population of P, as of values,
            each plans for the environment of its number, of P.
        value: callable from latents `[.., D]` to values `[.., 1]`, for example a `Critic`, or a
            `PolicyValue` of a Q function.
        horizon: H, steps of a plan.
        samples: candidates per iteration, those of the policy included.
        elites: best candidates that move the mean.
        policy_samples: candidates of the policy, the same in every iteration.
        iterations: rounds of search. TD-MPC2 takes 2 more from 20 action dimensions on.
        temperature: how sharply values weigh the elites, in 1 / units of value.
        std: smallest and largest standard deviation of the candidates; the search starts with the
            largest.
        gamma: discount per step, one number or one per task, indexed by task id.
        generator: source of the draws, a `PolicyValue`'s included, on the device of the latents;
            None: torch's global one.
        execution: in which precision it plans; None: fp32.

    A policy or value that depends on the task has a method `given(context)`.

    Raises:
        ValueError: if settings, or later observations and tasks, do not fit.

    Source: TD-MPC2 (arXiv 2310.16828), section 3.2. Differs: without exploration the action is the
    elites' mean, where the published program draws one elite (`choice="elite"`).
    """

    def __init__(
        self,
        model: LatentModel,
        policy: Policy | SampledPolicy | TaskPart,
        value: ValueFunction | TaskPart,
        *,
        horizon: int = 3,
        samples: int = 512,
        elites: int = 64,
        policy_samples: int = 24,
        iterations: int = 6,
        temperature: float = 0.5,
        std: tuple[float, float] = (0.05, 2.0),
        gamma: float | Sequence[float] = 0.99,
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
    ) -> None:
        given: Any = gamma
        rates = float(given) if isinstance(given, Real) else [float(g) for g in given]
        _check_settings(
            horizon, samples, elites, policy_samples, iterations, temperature, std, rates
        )
        self.model, self.policy, self.value = model, policy, value
        self.horizon, self.samples, self.elites = horizon, samples, elites
        self.policy_samples, self.iterations = policy_samples, iterations
        self.temperature, self.std, self.gamma = temperature, std, rates
        self.mean: Tensor | None = None
        self._draws, self._memory = Draws(generator), LatentTracker(model)
        self._execution = execution
        self._running: Runner | None = None

    def reset(self, index: int | None = None) -> None:
        """Forget the plan of environment `index`, or of all; call it when an episode starts."""
        if index is None:  # nothing is shared with a shallow copy from then on
            self.mean, self._memory = None, LatentTracker(self.model)
            return
        self._memory.start(index)
        if self.mean is not None:
            self.mean = self.mean.clone()  # it may be of `inference_mode`
            self.mean[index] = 0.0

    @torch.no_grad()
    def plan(self, observation: Tensor, task: Ids = None, *, choice: str = "mean") -> Tensor:
        """Return the actions to take now.

        Args:
            observation: `[N, O]`, one row per environment, or `[O]`.
            task: ids `[N]`, or one for all; None for a model without tasks.
            choice: "mean" of the elites (deterministic but for the search), "elite": one elite
                drawn by its weight, as published in evaluation, or "explore": the same with noise.

        Returns:
            Actions `[N, A]` (or `[A]`) in [-1, 1].

        Raises:
            ValueError: if no candidate has a finite value, or another number of environments comes
                than before without a `reset`.
        """
        if observation.dim() not in (1, 2):
            raise ValueError(
                f"observation must have shape [N, O] or [O], got {list(observation.shape)}"
            )
        rows = observation if observation.dim() == 2 else observation.unsqueeze(0)
        if task is not None:
            task = _ids(task, rows)
        if self.mean is not None and len(self.mean) != len(rows):
            raise ValueError(
                f"observation must have {len(self.mean)} rows, as before; call reset() for other "
                f"environments, got {len(rows)}"
            )
        start = None if self.mean is None else F.pad(self.mean[:, 1:], (0, 0, 0, 1))
        with self._run(rows.device):
            latent = full(self._memory.see(rows, task))
            context, gamma = looked_up(self.model, task), self._gamma(task, latent)
            self.mean, action = self._search(latent, context, start, gamma, choice)
        self._memory.acted(action)
        return action if observation.dim() == 2 else action[0]

    @torch.no_grad()
    def __call__(self, latent: Tensor) -> Tensor:
        """Plan afresh from latents `[.., D]`, as a `Policy` without memory: actions `[.., A]`."""
        return self.given(looked_up(self.model, None))(latent)

    def given(self, context: Context) -> Callable[[Tensor], Tensor]:
        """Return this planner as a `Policy` without memory for looked-up tasks.

        Args:
            context: `model.context(task)` for task ids `[..]`, or the ids for a model without that
                method.

        Returns:
            Callable from latents `[.., D]` to actions `[.., A]`.
        """
        return partial(self._act, context=context)

    @torch.no_grad()
    def _act(self, latent: Tensor, context: Context) -> Tensor:
        """Plan afresh from latents `[.., D]`, every row by itself."""
        flat, context = latent.reshape(-1, latent.shape[-1]), _flat(context)
        task = task_of(context)
        task = task.squeeze(-1) if task is not None and task.dim() > 1 else task
        with self._run(flat.device):
            action = self._search(flat, context, None, self._gamma(task, flat), "mean")[1]
        return action.unflatten(0, latent.shape[:-1])

    @contextmanager
    def _run(self, device: torch.device) -> Iterator[None]:
        """Let products on a device have the wanted precision."""
        if self._running is None or self._running.device != device:
            value = self.value.q if isinstance(self.value, PolicyValue) else self.value
            halved = nn.ModuleList(
                part for part in (self.model, self.policy, value) if isinstance(part, nn.Module)
            )
            self._running = Runner(self._execution, device, [], model=halved)
        with self._running.running(), self._running.products():
            yield

    def _search(
        self,
        latent: Tensor,
        context: Context,
        start: Tensor | None,
        gamma: float | Tensor,
        choice: str,
    ) -> tuple[Tensor, Tensor]:
        """Return the final mean `[N, H, A]` and the chosen action `[N, A]` for latents `[N, D]`."""
        if choice not in CHOICES:
            raise ValueError(f"choice must be one of {CHOICES}, got {choice!r}")
        low, high = self.std
        shape = (len(latent), self.horizon, self.model.action_dim)
        mean = latent.new_zeros(shape) if start is None else start
        std = torch.full_like(mean, high)
        proposed = self._proposals(latent, context)
        wide = _over(context, self.samples)
        mask = action_mask_of(wide)  # [N, 1, A], or [A] where there are no tasks
        mask = latent.new_ones(shape[-1]) if mask is None else mask
        many = latent.unsqueeze(1).expand(-1, self.samples, -1)
        value = self._value(wide)
        free = self.samples - proposed.shape[1]
        elite, weight = proposed, proposed
        for _ in range(self.iterations):
            noise = self._draws.normal((shape[0], free, *shape[1:]), latent)
            drawn = (mean.unsqueeze(1) + std.unsqueeze(1) * noise).clamp(-1.0, 1.0)
            actions = torch.cat((proposed, drawn), 1) * mask.unsqueeze(-2)
            values = self._evaluate(many, actions, wide, gamma, value).squeeze(-1)
            index, weight = elite_weights(values, self.elites, self.temperature)
            elite = actions.gather(1, index[..., None, None].expand(-1, -1, *shape[1:]))
            mean, std = weighted_moments(elite, weight)
            mean, std = mean * mask, std.clamp(low, high) * mask
        if not mean.is_meta and not bool(torch.isfinite(mean).all()):
            raise ValueError("values of candidates must be finite, got none that is")
        return mean, self._choose(mean, std, elite, weight, choice)

    def _choose(
        self, mean: Tensor, std: Tensor, elite: Tensor, weight: Tensor, choice: str
    ) -> Tensor:
        if choice == "mean":
            return mean[:, 0].clamp(-1.0, 1.0)
        index = draw_by_weight(weight, self._draws.exponential(weight.shape, weight))
        action = elite[torch.arange(len(elite), device=elite.device), index, 0]
        if choice == "explore":
            action = action + std[:, 0] * self._draws.normal(action.shape, action)
        return action.clamp(-1.0, 1.0)

    def _proposals(self, latent: Tensor, context: Context) -> Tensor:
        """Unroll the policy: `[N, policy_samples, H, A]`."""
        count, width = self.policy_samples, self.model.action_dim
        if not count:
            return latent.new_zeros(len(latent), 0, self.horizon, width)
        wide, many = _over(context, count), latent.unsqueeze(1).expand(-1, count, -1)
        model: Any = self.model  # which takes what it looked up in place of ids
        policy = given(self.policy, wide)
        actions = []
        for t in range(self.horizon):
            many = model.step(many, actions[-1], wide)[0] if t else many
            action = sample_action(policy, features(self.model, many), self._draws)
            actions.append(padded("action", action, width, self.model))
        return torch.stack(actions, 2)

    def _evaluate(
        self,
        latent: Tensor,
        actions: Tensor,
        context: Context,
        gamma: float | Tensor,
        value: ValueFunction,
    ) -> Tensor:
        """Imagined returns `[N, S, 1]` of action sequences `[N, S, H, A]`."""
        model: Any = self.model
        total, discount = latent.new_zeros(*latent.shape[:-1], 1), torch.ones_like(latent[..., :1])
        for action in actions.unbind(2):
            latent, reward, *terminated = model.step(latent, action, context)
            total = total + discount * reward
            discount = discount * gamma
            if terminated:
                discount = discount * ~terminated[0]
        return total + discount * value(features(self.model, latent))

    def _value(self, context: Context) -> Any:
        """The value after the horizon for these tasks, with the planner's draws where it draws."""
        if isinstance(self.value, PolicyValue):
            return self.value.given(context, self._draws)
        return given(self.value, context)

    def _gamma(self, task: Tensor | None, like: Tensor | None = None) -> float | Tensor:
        """One discount, or those of the tasks `[N, 1, 1]`."""
        if isinstance(self.gamma, float):
            return self.gamma
        if task is None:
            raise ValueError(
                "task must be given where every task has its own gamma, as task of the context "
                "too, got None"
            )
        dtype = None if like is None else like.dtype
        return torch.as_tensor(self.gamma, dtype=dtype, device=task.device)[task].view(-1, 1, 1)


def _ids(task: Ids, rows: Tensor) -> Tensor:
    """One task id per row, `[N]`."""
    try:
        ids = torch.as_tensor(task, device=rows.device)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"task must be ids, got {task!r}") from error
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"task must be integer ids, got {ids.dtype}")
    if ids.dim() > 1 or ids.numel() not in (1, len(rows)):
        raise ValueError(f"task must be one id or have shape [{len(rows)}], got {list(ids.shape)}")
    return ids.expand(len(rows))


def _flat(context: Context) -> Context:
    """Bring what was looked up of tasks `[..]` into one row per task."""
    if isinstance(context, Tensor):
        return context.reshape(-1)
    if context is None:
        return None
    make: Any = type(context)
    return make(*(x if x is None or x.dim() == 1 else x.reshape(-1, x.shape[-1]) for x in context))


def _over(context: Context, count: int) -> Context:
    """Let what was looked up of `[N]` tasks apply to `[N, count]` candidates."""
    wide = with_time(context)
    return wide.expand(-1, count) if isinstance(wide, Tensor) else wide


def _check_settings(
    horizon: int,
    samples: int,
    elites: int,
    policy_samples: int,
    iterations: int,
    temperature: float,
    std: tuple[float, float],
    gamma: float | list[float],
) -> None:
    whole(1, horizon=horizon, elites=elites, iterations=iterations)
    if elites > samples:
        raise ValueError(f"elites must be at most samples {samples}, got {elites}")
    if not 0 <= policy_samples <= samples:
        raise ValueError(f"policy_samples must lie in 0..{samples}, got {policy_samples}")
    if temperature <= 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if not 0.0 < std[0] <= std[1]:
        raise ValueError(f"std must satisfy 0 < smallest <= largest, got {std}")
    rates = gamma if isinstance(gamma, list) else [gamma]
    if not all(0.0 <= rate <= 1.0 for rate in rates):
        raise ValueError(f"gamma must lie in [0, 1], got {gamma}")
