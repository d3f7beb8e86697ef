"""How good policies really are: whole episodes in the environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pwm_sdk.calls import checked, least, or_nothing
from pwm_sdk.contract.agents import ActingPolicy, Behaviour
from pwm_sdk.contract.pools import Pool
from pwm_sdk.envs.any_pool import make_pool, makes
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.training.collect import Episode, run_episodes


@checked()
def summarize(episodes: Sequence[Episode]) -> dict[str, float]:
    """Mean, deviation and minimum of returns, success at any and the last step, episode count."""
    if not episodes:
        raise ValueError("episodes must not be empty, got none")
    totals = np.asarray([e.total for e in episodes])
    return {
        "return": float(totals.mean()),
        "return_std": float(totals.std()),
        "return_min": float(totals.min()),
        "success_any": float(np.mean([e.success.any() for e in episodes])),
        "success_last": float(np.mean([e.success[-1] for e in episodes])),
        "episodes": float(len(episodes)),
    }


@checked(episodes=least(1), workers=least(0), env=or_nothing)
def evaluate(
    env: object,
    policy: ActingPolicy,
    episodes: int = 10,
    *,
    task: int | None = None,
    workers: int = 0,
    max_steps: int | None = None,
    timeout: float | None = None,
) -> dict[str, float]:
    """Run a policy for whole episodes.

    Args:
        env: the name of a task, an environment of any kind, a function that makes one, several of
            these, for example with seeds of their own, or a pool: whatever `make_pool` takes. Those
            of a pool run side by side and share the episodes out.
        policy: `policy()` of an algorithm, or any `ObservationPolicy`.
        episodes: number of episodes in all, at least 1.
        task: task id for a multi-task model; None: the environment's own task, if it has one.
        workers: processes in which the environments run, see `EnvPool`; 0: in this one.
        max_steps: most steps of an episode, more of which are an error; None: 20,000. A pool has
            its own.
        timeout: most seconds that a step or a reset may take, see `EnvPool`. A pool has its own.

    Returns:
        return, return_std, return_min, success_any, success_last (shares of episodes), episodes.

    Raises:
        ValueError: if there is less than one episode, a model of several tasks does not know the
            task, or `EnvPool` refuses an environment.
    """
    with _opened(env, workers, max_steps, timeout) as pool:
        count = len(pool)
        behaviour = _behaviour(policy, pool, pool.tasks if task is None else [task] * count)
        quota = [len(range(i, episodes, count)) for i in range(count)]
        found = run_episodes(pool, behaviour, quota)
    return summarize([episode for mine in found for episode in mine])


@checked(episodes=least(1), workers=least(0))
def evaluate_members(
    envs: Sequence[Any] | Pool,
    policy: ActingPolicy,
    episodes: int = 10,
    *,
    tasks: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    workers: int = 0,
    max_steps: int | None = None,
    timeout: float | None = None,
) -> list[dict[str, float]]:
    """Run every policy of a population in an environment of its own, all at once.

    Args:
        envs: one environment per policy, as for `evaluate`; or a pool of them, which is used as it
            is and stays open.
        policy: of a population of as many policies.
        episodes: number of episodes of each, at least 1.
        tasks: task id of each policy; None: those of the environments.
        seeds: restart the random stream of each environment, so that one that stays open gives the
            same episodes every time; None: its stream goes on.
        workers: processes in which the environments run, see `EnvPool`; 0: in this one.
        max_steps: as for `evaluate`; a pool has its own.
        timeout: as for `evaluate`; a pool has its own.

    Returns:
        For each policy what `evaluate` returns.

    Raises:
        ValueError: if there is less than one episode, numbers of policies differ, a model of
            several tasks does not know a task, or `EnvPool` refuses an environment.
    """
    for name, given in (("tasks", tasks), ("seeds", seeds)):
        if given is not None and len(given) != len(envs):
            raise ValueError(
                f"{name} must have one entry per policy ({len(envs)}), got {len(given)}"
            )
    with _opened(envs, workers, max_steps, timeout) as pool:
        behaviour = _behaviour(policy, pool, pool.tasks if tasks is None else tasks)
        found = run_episodes(pool, behaviour, [episodes] * len(pool), seeds=seeds)
    return [summarize(mine) for mine in found]


def _behaviour(policy: ActingPolicy, pool: Pool, tasks: Sequence[int | None]) -> Behaviour:
    """Return what acts in a pool; a planner's actions are as wide as its environments'."""
    if isinstance(policy, ObservationPolicy):
        return policy.behaviour(tasks, action_dim=pool.action_dims[0])
    return policy.behaviour(tasks)


@contextmanager
def _opened(
    envs: object, workers: int, max_steps: int | None, timeout: float | None
) -> Iterator[Pool]:
    """Give a pool, and close it where its environments are made for it."""
    given: Any = envs  # `make_pool` says what it cannot take
    pool = make_pool(given, workers=workers, max_steps=max_steps, timeout=timeout)
    try:
        yield pool
    finally:
        if makes(envs):
            pool.close()
