"""Running policies in environments: behaviours act, episodes come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pwm_sdk.calls import array, checked, each, has, least, outside
from pwm_sdk.checks import in_unit
from pwm_sdk.contract.agents import Behaviour
from pwm_sdk.contract.memory import LatentTracker
from pwm_sdk.contract.models import Encoder, features
from pwm_sdk.contract.places import device_of
from pwm_sdk.contract.policies import Policy, action_size, drawn, is_stochastic, population_of
from pwm_sdk.envs.member import no_end
from pwm_sdk.training.border import acted, stacked, task_ids, wide_enough

_MOST_STEPS = 20_000  # of an episode that nothing limits: twenty times the longest of our tasks


@checked()
@dataclass(frozen=True)
class Episode:
    """One episode of T agent steps.

    Attributes:
        observation: `[T+1, O]` float32.
        action: `[T, A]` float32, as the behaviour gave it; the environment gets it clipped and in
            its own units.
        reward: `[T]` float32, environment units.
        success: `[T]` bool.
        terminated: `[T]` bool.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    success: np.ndarray
    terminated: np.ndarray

    @property
    def total(self) -> float:
        """Undiscounted return."""
        return float(self.reward.sum(dtype=np.float64))


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
    actors=each(has("__call__")),
)
class LatentBehaviour:
    """Policies on the latents of one model, each in its own environment.

    Args:
        model: encodes observations.
        actors: a single policy for all N environments, or several policies and populations that
            share the N environments out in order.
        tasks: task id of each environment.
        rng: source of exploration noise, for `StochasticPolicy`s; None: mean actions.
        correlation: in every other episode (drawn) the noise is autoregressive with this
            coefficient and the same marginal std, which carries further than white noise.

    Raises:
        ValueError: for numbers of policies and environments that differ, for a task that is not
            known to a model of several, and for noise where a policy takes none.
    """

    def __init__(
        self,
        model: Encoder,
        actors: Sequence[Policy],
        tasks: Sequence[int | None],
        rng: np.random.Generator | None = None,
        correlation: float = 0.0,
    ) -> None:
        self.model, self.actors, self.rng = model, list(actors), rng
        self.memory = LatentTracker(model)
        alone = len(tasks) if len(self.actors) == 1 else 1
        sizes = [population_of(a) or alone for a in self.actors]
        if sum(sizes) != len(tasks):
            raise ValueError(f"actors must cover {len(tasks)} environments, got {sizes}")
        if rng is not None and not all(is_stochastic(a) for a in self.actors):
            kinds = sorted({type(a).__name__ for a in self.actors})
            raise ValueError(f"actors must be StochasticPolicies where there is rng, got {kinds}")
        self.bounds = np.cumsum([0, *sizes]).tolist()
        self.tasks = task_ids(tasks, model)
        self.first = np.ones((len(tasks), 1), bool)
        self.noise = np.zeros((len(tasks), action_size(self.actors[0]) or 0))
        self.share = np.zeros((len(tasks), 1))
        self.correlation = correlation

    def start(self, index: int) -> None:
        """Forget what was seen; choose white or correlated noise for the next episode."""
        self.first[index] = True
        self.memory.start(index)
        if self.rng is not None:
            self.share[index] = self.correlation * (self.rng.random() < 0.5)

    @torch.no_grad()
    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]`."""
        device = device_of(self.actors[0])
        seen = wide_enough(observation, self.model, device, *self.actors)
        latent = features(self.model, self.memory.see(seen, self.tasks.to(device)))
        noise = None
        if self.rng is not None:
            fresh = self.rng.standard_normal(self.noise.shape)
            later = self.share * self.noise + np.sqrt(1.0 - self.share**2) * fresh
            self.noise = np.where(self.first, fresh, later)  # stationary from the first step on
            self.first[:] = False
            noise = torch.as_tensor(self.noise, dtype=latent.dtype, device=device)
        actions = []
        for actor, low, high in zip(self.actors, self.bounds, self.bounds[1:], strict=False):
            part, eps = latent[low:high], None if noise is None else noise[low:high]
            if population_of(actor) is None:
                actions.append(drawn(actor, part, eps))
            else:
                actions.append(
                    drawn(
                        actor, part.unsqueeze(1), None if eps is None else eps.unsqueeze(1)
                    ).squeeze(1)
                )
        action = torch.cat(actions)
        self.memory.acted(action)
        return action.float().cpu().numpy()


@checked(pool=has("reset_many", "step_many"), quota=least(0), lengths=least(1))
def run_episodes(
    pool: Any,
    behaviour: Behaviour,
    quota: Sequence[int],
    *,
    lengths: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    on_step: Callable[[], None] | None = None,
) -> list[list[Episode]]:
    """Run `quota[i]` episodes in environment i, all environments in lockstep.

    Args:
        pool: an `EnvPool` of N environments.
        behaviour: acts for all N at once.
        quota: episodes per environment.
        lengths: cut episodes after so many agent steps; None: the environment's own length, which
            is an error beyond 20,000 steps, if the pool has no `max_steps`.
        seeds: restart the random stream of each environment; None: it goes on.
        on_step: called after each step of the pool, for progress bars.

    Returns:
        Episodes per environment.

    Raises:
        ValueError: for numbers of environments that differ, observations of different sizes,
            episodes without end, and what the pool refuses.
    """
    count = len(pool)
    unlimited = lengths is None and pool.max_steps is None
    _check_plan(count, quota, lengths, seeds)
    done: list[list[Episode]] = [[] for _ in range(count)]
    open_: list[_Recorder] = [_Recorder() for _ in range(count)]
    live = [i for i in range(count) if quota[i] > 0]
    observation: list[np.ndarray | None] = [None] * count

    def begin(indices: list[int], seeds: list[int] | None = None) -> None:
        for i, first in zip(indices, pool.reset_many(indices, seeds), strict=True):
            observation[i] = open_[i].begin(first)
            behaviour.start(i)

    begin(live, None if seeds is None else [seeds[i] for i in live])
    while live:
        filler = next(o for o in observation if o is not None)
        actions = acted(behaviour, stacked([filler if o is None else o for o in observation]))
        steps, ended = pool.step_many(live, actions[live]), []
        for i, step in zip(live, steps, strict=True):
            observation[i] = open_[i].add(actions[i], step)
            cut = lengths is not None and len(open_[i].reward) >= lengths[i]
            if step.terminated or step.truncated or cut:
                done[i].append(open_[i].end())
                ended.append(i)
            elif unlimited and len(open_[i].reward) >= _MOST_STEPS:
                raise no_end(pool.names[i], _MOST_STEPS)
        live = [i for i in live if len(done[i]) < quota[i]]
        begin([i for i in ended if len(done[i]) < quota[i]])
        if on_step is not None:
            outside(on_step)()
    return done


def _check_plan(
    count: int,
    quota: Sequence[int],
    lengths: Sequence[int] | None,
    seeds: Sequence[int] | None,
) -> None:
    if len(quota) != count or (lengths is not None and len(lengths) != count):
        raise ValueError(
            f"quota and lengths must have one entry per environment ({count}), "
            f"got {len(quota)} and {'none' if lengths is None else len(lengths)}"
        )
    if seeds is not None and len(seeds) != count:
        raise ValueError(f"seeds must have one entry per environment ({count}), got {len(seeds)}")


class _Recorder:
    """Gathers one episode."""

    def __init__(self) -> None:
        self.observation: list[np.ndarray] = []
        self.action: list[np.ndarray] = []
        self.reward: list[float] = []
        self.flags: list[tuple[bool, bool]] = []

    def begin(self, observation: np.ndarray) -> np.ndarray:
        self.__init__()
        self.observation.append(observation)
        return observation

    def add(self, action: np.ndarray, step: Any) -> np.ndarray:
        self.observation.append(step.observation)
        self.action.append(action)
        self.reward.append(step.reward)
        self.flags.append((step.success, step.terminated))
        return step.observation

    def end(self) -> Episode:
        flags = np.asarray(self.flags, bool)
        reward = np.asarray(self.reward, np.float32)
        return Episode(
            np.stack(self.observation), np.stack(self.action), reward, flags[:, 0], flags[:, 1]
        )
