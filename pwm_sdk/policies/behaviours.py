"""What acts in N environments at once, with a memory that starts again with every episode."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.calls import acts, array, checked, each, least
from pwm_sdk.checks import in_unit
from pwm_sdk.contract.memory import LatentTracker
from pwm_sdk.contract.models import Encoder, features, looked_up
from pwm_sdk.contract.places import device_of, dtype_of
from pwm_sdk.contract.policies import (
    Planner,
    Policy,
    RecurrentPolicy,
    TaskPart,
    action_size,
    depends_on_task,
    drawn,
    given,
    population_of,
    takes_noise,
)
from pwm_sdk.policies.observations import task_ids, wide_enough

__all__ = ["LatentBehaviour", "RandomBehaviour"]


@checked(count=least(1), action_dim=least(1), hold=least(1), index=least(0), observation=array)
class RandomBehaviour:
    """Uniform random actions; held for random times, they reach states that white noise does not.

    Args:
        count: N, number of environments.
        action_dim: A.
        seed: seed of the actions.
        hold: longest time an action is held; 1 is white noise. With holding, a quarter of the
            episodes is bang-bang (-1 or 1) and a quarter white.
    """

    def __init__(self, count: int, action_dim: int, seed: int, hold: int = 1) -> None:
        self.rng, self.hold = np.random.default_rng(seed), hold
        self.action = np.zeros((count, action_dim), np.float32)
        self.left, self.mode = np.zeros(count, int), np.zeros(count, int)

    def start(self, index: int) -> None:
        """Draw the kind of the next episode."""
        self.left[index], self.mode[index] = 0, self.rng.integers(4)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]`."""
        for i in np.flatnonzero(self.left == 0):
            draw = self.rng.uniform(-1.0, 1.0, self.action.shape[1])
            self.action[i] = np.sign(draw) if self.hold > 1 and self.mode[i] == 1 else draw
            white = self.hold == 1 or self.mode[i] == 3
            self.left[i] = 1 if white else self.rng.integers(1, self.hold + 1)
        self.left -= 1
        return self.action.copy()


@checked(
    correlation=in_unit,
    index=least(0),
    observation=array,
    actors=each(acts),
)
class LatentBehaviour:
    """Policies on the latents of one model, each in its own environment.

    Args:
        model: encodes observations, with what came before them if it has memory; None: the policies
            see them as they are.
        actors: a single policy for all N environments, or several policies and populations that
            share the N environments out in order.
        tasks: task id of each environment.
        rng: source of exploration noise, for policies that take it (`StochasticPolicy`,
            `SampledPolicy`); None: mean actions.
        correlation: in every other episode (drawn) the noise is autoregressive with this
            coefficient and the same marginal std, which carries further than white noise.

    Raises:
        ValueError: if the numbers of policies and environments differ, a model of several tasks
            does not know a task, or there is `rng` for a policy that takes no noise.
    """

    def __init__(
        self,
        model: Encoder | None,
        actors: Sequence[Policy | TaskPart],
        tasks: Sequence[int | None],
        rng: np.random.Generator | None = None,
        correlation: float = 0.0,
    ) -> None:
        self.model, self.rng = model, rng
        self.actors: list[Any] = list(actors)
        self.memory = None if model is None else LatentTracker(model)
        alone = len(tasks) if len(self.actors) == 1 else 1
        sizes = [population_of(a) or alone for a in self.actors]
        if sum(sizes) != len(tasks):
            raise ValueError(f"actors must cover {len(tasks)} environments, got {sizes}")
        if rng is not None and not all(map(takes_noise, self.actors)):
            kinds = sorted({type(a).__name__ for a in self.actors})
            raise ValueError(f"actors must be StochasticPolicies where there is rng, got {kinds}")
        self.bounds = np.cumsum([0, *sizes]).tolist()
        self.set_tasks(tasks)
        self.first = np.ones((len(tasks), 1), bool)
        self.noise = np.zeros((len(tasks), 1))
        self.share = np.zeros((len(tasks), 1))
        self.correlation = correlation

    def set_tasks(self, tasks: Sequence[int | None]) -> None:
        """Go on with other tasks, one id for each environment."""
        self.tasks = task_ids(tasks, self.model)

    def start(self, index: int) -> None:
        """Forget what was seen; choose white or correlated noise for the next episode."""
        self.first[index] = True
        if self.memory is not None:
            self.memory.start(index)
        if self.rng is not None:
            self.share[index] = self.correlation * (self.rng.random() < 0.5)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]`."""
        return self.actions(_tensor(observation)).float().cpu().numpy()

    @torch.no_grad()
    def actions(self, observation: Tensor) -> Tensor:
        """Return actions `[N, A]` for observations `[N, O]`, where the policies are."""
        device = device_of(*self.actors)
        seen = wide_enough(observation, self.model, device, *self.actors)
        context = None
        if self.memory is not None:
            ids = self.tasks.to(device)
            context = looked_up(self.model, ids) if any(map(depends_on_task, self.actors)) else None
            seen = features(self.model, self.memory.see(seen, ids))
        noise = self._drawn(seen)
        parts = []
        for actor, low, high in zip(self.actors, self.bounds, self.bounds[1:], strict=False):
            part, eps = seen[low:high], None if noise is None else noise[low:high]
            if population_of(actor) is None:
                parts.append(drawn(given(actor, context), part, eps))
            else:
                eps = None if eps is None else eps.unsqueeze(1)
                policies = given(actor, context)
                parts.append(drawn(policies, part.unsqueeze(1), eps).squeeze(1))
        action = torch.cat(parts)
        if self.memory is not None:
            self.memory.acted(action)
        return action

    def _drawn(self, like: Tensor) -> Tensor | None:
        if self.rng is None:
            return None
        fresh = self.rng.standard_normal((len(self.tasks), action_size(self.actors[0]) or 0))
        later = self.share * self.noise + np.sqrt(1.0 - self.share**2) * fresh
        self.noise = np.where(self.first, fresh, later)  # stationary from the first step on
        self.first[:] = False
        return torch.as_tensor(self.noise, dtype=like.dtype, device=like.device)


def _tensor(observation: np.ndarray) -> Tensor:
    return torch.as_tensor(observation, device="cpu")


class RecurrentBehaviour:
    """A policy with a memory, which it loses where an episode begins.

    Args:
        policy: carries the memory.
        tasks: task id of each environment.
    """

    def __init__(self, policy: RecurrentPolicy, tasks: Sequence[int | None]) -> None:
        self.policy = policy
        self.set_tasks(tasks)
        self.first = torch.ones(len(tasks), dtype=torch.bool, device="cpu")
        self.memory: Any = None

    def set_tasks(self, tasks: Sequence[int | None]) -> None:
        """Go on with other tasks, one id for each environment."""
        self.tasks = task_ids(tasks, self.policy)

    def start(self, index: int) -> None:
        """Note that environment `index` begins an episode."""
        self.first = self.first.clone()  # it may be of `inference_mode`
        self.first[index] = True

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]`."""
        return self.actions(_tensor(observation)).float().cpu().numpy()

    @torch.no_grad()
    def actions(self, observation: Tensor) -> Tensor:
        """Return actions `[N, A]` for observations `[N, O]`, where the policy is."""
        device = device_of(self.policy)
        seen = observation.to(device, dtype_of(self.policy))
        ids, first = self.tasks.to(device), self.first.to(device)
        action, self.memory = self.policy.carry(seen, self.memory, first, ids)
        self.first = torch.zeros_like(self.first)
        return action


class PlannerBehaviour:
    """A planner that acts in N environments at once and forgets at the start of an episode.

    Args:
        planner: an `MPPI`; a shallow copy of it plans.
        tasks: task id of each environment.
        choice: how it chooses among the elites, see `MPPI.plan`; None: as the planner does.
        action_dim: width of the environments' actions, where the model's is larger; None: the
            model's.

    Raises:
        ValueError: if a model of several tasks does not know a task.
    """

    def __init__(
        self,
        planner: Planner,
        tasks: Sequence[int | None],
        *,
        choice: str | None = None,
        action_dim: int | None = None,
    ) -> None:
        self.planner, self.choice, self.action_dim = copy.copy(planner), choice, action_dim
        self.model = planner.model
        self.set_tasks(tasks)
        self.planner.reset()

    def set_tasks(self, tasks: Sequence[int | None]) -> None:
        """Go on with other tasks, one id for each environment."""
        self.tasks = task_ids(tasks, self.model)

    def start(self, index: int) -> None:
        """Forget the plan of environment `index`."""
        self.planner.reset(index)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]`."""
        return self.actions(_tensor(observation)).float().cpu().numpy()

    @torch.no_grad()
    def actions(self, observation: Tensor) -> Tensor:
        """Return actions `[N, A]` for observations `[N, O]`, where the model is."""
        device = device_of(self.model)
        seen = wide_enough(observation, self.model, device)
        chosen: Any = {} if self.choice is None else {"choice": self.choice}
        return self.planner.plan(seen, self.tasks.to(device), **chosen)[:, : self.action_dim]
