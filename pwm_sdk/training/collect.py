"""Running behaviours in environments: episodes come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pwm_sdk.calls import checked, has, least, outside
from pwm_sdk.contract.agents import Behaviour
from pwm_sdk.envs.member import no_end
from pwm_sdk.training.border import acted, stacked

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
    unlimited = lengths is None and getattr(pool, "max_steps", None) is None
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
