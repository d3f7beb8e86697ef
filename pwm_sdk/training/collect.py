"""Running policies in environments: behaviours act, episodes come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tensordict import TensorDict

from pwm_sdk.calls import checked, least, outside
from pwm_sdk.contract.agents import Behaviour
from pwm_sdk.contract.pools import Pool, PoolStep
from pwm_sdk.envs.member import no_end
from pwm_sdk.training.border import acted, packed, stacked

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


class Collector:
    """The one loop that steps a pool: its behaviour acts for all N environments at once.

    Args:
        pool: of N environments with observations of one size.
        behaviour: acts; its `start` is called where an episode begins.
    """

    def __init__(self, pool: Pool, behaviour: Behaviour) -> None:
        self.pool, self.behaviour = pool, behaviour
        self._seen: np.ndarray | None = None  # [N, O], what each environment shows
        self._begun = np.zeros(len(pool), bool)

    def begin(self, rows: Sequence[int], seeds: Sequence[int] | None = None) -> None:
        """Start episodes in some environments.

        Raises:
            ValueError: if observations differ in size, or the pool refuses to start.
        """
        if not rows:
            return
        first = self.pool.reset_many(rows, seeds)
        if self._seen is None:
            self._seen = np.repeat(stacked(first)[:1], len(self.pool), 0)
        self._seen[rows] = stacked([*first, self._seen[0]])[:-1]
        self._begun[rows] = True
        for i in rows:
            self.behaviour.start(i)

    def step(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray, Sequence[PoolStep]]:
        """Let some environments take a step.

        Args:
            rows: of them; the behaviour is asked for all N.

        Returns:
            What all environments showed before `[N, O]`, the actions `[N, A]`, and what the step
            led to in each of `rows`.

        Raises:
            ValueError: if actions do not fit, or the pool refuses them.
        """
        if self._seen is None:
            raise ValueError("rows must have begun an episode, got none that did")
        if not self._begun.all():  # of those that never begin, any observation
            self._seen[~self._begun] = self._seen[self._begun.argmax()]
        before = self._seen.copy()
        actions = acted(self.behaviour, before)
        steps = self.pool.step_many(rows, actions if len(rows) == len(actions) else actions[rows])
        for i, step in zip(rows, steps, strict=True):
            self._seen[i] = step.observation
        return before, actions, steps

    def episodes(
        self,
        quota: Sequence[int],
        *,
        lengths: Sequence[int] | None = None,
        seeds: Sequence[int] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> list[list[Episode]]:
        """Return `quota[i]` episodes of environment i; see `run_episodes`."""
        pool, count = self.pool, len(self.pool)
        _check_plan(count, quota, lengths, seeds)
        unlimited = lengths is None and pool.max_steps is None
        done: list[list[Episode]] = [[] for _ in range(count)]
        open_: list[_Recorder] = [_Recorder() for _ in range(count)]
        live = [i for i in range(count) if quota[i] > 0]
        self._open(open_, live, None if seeds is None else [seeds[i] for i in live])
        while live:
            _, actions, steps = self.step(live)
            ended = []
            for i, step in zip(live, steps, strict=True):
                open_[i].add(actions[i], step)
                cut = lengths is not None and len(open_[i].reward) >= lengths[i]
                if step.terminated or step.truncated or cut:
                    done[i].append(open_[i].end())
                    ended.append(i)
                elif unlimited and len(open_[i].reward) >= _MOST_STEPS:
                    raise no_end(pool.names[i], _MOST_STEPS)
            live = [i for i in live if len(done[i]) < quota[i]]
            self._open(open_, [i for i in ended if len(done[i]) < quota[i]])
            if on_step is not None:
                outside(on_step)()
        return done

    def _open(
        self, recorders: list[_Recorder], rows: list[int], seeds: list[int] | None = None
    ) -> None:
        self.begin(rows, seeds)
        for i in rows:
            recorders[i].begin(self._seen[i].copy())  # pyright: ignore[reportOptionalSubscript]

    def transitions(self, steps: int) -> Iterator[TensorDict]:
        """Yield batches of `steps` transitions of every environment; see `transitions`."""
        while True:
            yield self.batch(steps)

    def batch(self, steps: int) -> TensorDict:
        """Return the next `steps` transitions of every environment; see `transitions`."""
        every = range(len(self.pool))
        if not self._begun.all():
            self.begin(every)
        rows = [self._transition(every) for _ in range(steps)]
        return packed(*(np.stack(part, 1) for part in zip(*rows, strict=True)))

    def _transition(self, every: Sequence[int]) -> tuple[np.ndarray, ...]:
        """Let every environment take a step, and begin an episode where one ended."""
        before, action, steps = self.step(every)
        after = self._seen.copy()  # pyright: ignore[reportOptionalMemberAccess]
        reward = np.array([step.reward for step in steps], np.float32)
        flags = np.array([(step.terminated, step.truncated) for step in steps], bool)
        self.begin(np.flatnonzero(flags.any(-1)).tolist())
        return before, action, after, reward, flags


@checked(quota=least(0), lengths=least(1))
def run_episodes(
    pool: Pool,
    behaviour: Behaviour,
    quota: Sequence[int],
    *,
    lengths: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    on_step: Callable[[], None] | None = None,
) -> list[list[Episode]]:
    """Run `quota[i]` episodes in environment i, all environments in lockstep.

    Args:
        pool: N environments of any kind, from `make_pool` or `EnvPool`.
        behaviour: acts for all N at once.
        quota: episodes per environment.
        lengths: cut episodes after so many agent steps; None: the environment's own length, which
            is an error beyond 20,000 steps, if the pool has no `max_steps`.
        seeds: restart the random stream of each environment; None: it goes on.
        on_step: called after each step of the pool, for progress bars.

    Returns:
        Episodes per environment.

    Raises:
        ValueError: if numbers of environments or sizes of observations differ, an episode does not
            end, or the pool refuses a call.
    """
    collector = Collector(pool, behaviour)
    return collector.episodes(quota, lengths=lengths, seeds=seeds, on_step=on_step)


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

    def begin(self, observation: np.ndarray) -> None:
        self.__init__()
        self.observation.append(observation)

    def add(self, action: np.ndarray, step: PoolStep) -> None:
        self.observation.append(step.observation)
        self.action.append(action)
        self.reward.append(step.reward)
        self.flags.append((step.success, step.terminated))

    def end(self) -> Episode:
        flags = np.asarray(self.flags, bool)
        reward = np.asarray(self.reward, np.float32)
        return Episode(
            np.stack(self.observation), np.stack(self.action), reward, flags[:, 0], flags[:, 1]
        )
