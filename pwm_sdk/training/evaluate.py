"""How good policies really are: deterministic episodes in the environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pwm_sdk.calls import checked, has, least, or_nothing
from pwm_sdk.checks import whole
from pwm_sdk.contract.agents import Behaviour
from pwm_sdk.contract.policies import is_planner
from pwm_sdk.envs.member import is_maker
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.training.collect import Episode, LatentBehaviour, run_episodes
from pwm_sdk.training.planning import PlannerBehaviour
from pwm_sdk.training.transitions import ObservationBehaviour


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


@checked(
    model=(has("encode"), or_nothing),
    actor=has("__call__"),
    episodes=least(1),
    workers=least(0),
    env=or_nothing,
)
def evaluate(
    env: Any,
    model: Any,
    actor: Any,
    episodes: int = 10,
    *,
    task: int | None = None,
    workers: int = 0,
    max_steps: int | None = None,
    timeout: float | None = None,
) -> dict[str, float]:
    """Run the mean action of a policy for whole episodes.

    Args:
        env: an environment of `make_env` or `make_gym`, any unbatched TorchRL or gymnasium
            environment, or a function that makes one; or several of them, for example with seeds
            of their own, which run side by side and share the episodes out.
        model: encodes observations; None: the policy sees them as they are.
        actor: one policy on its latents (without a model: on observations, for example an `SAC`),
            or an `MPPI`, which plans at every step.
        episodes: number of episodes in all, at least 1.
        task: task id for a multi-task model; None: the environment's own task, if it has one.
        workers: processes in which the environments run, see `EnvPool`; 0: in this one.
        max_steps: most steps of an episode, more of which are an error; None: 20,000.
        timeout: most seconds that a step or a reset may take, see `EnvPool`.

    Returns:
        return, return_std, return_min, success_any, success_last (shares of episodes), episodes.

    Raises:
        ValueError: for fewer than one episode, a task that is not known to a model of several, and
            what `EnvPool` refuses.
    """
    episodes = whole(1, episodes=episodes)
    envs = list(env) if isinstance(env, Sequence) else [env]
    with _opened(envs, workers, max_steps, timeout) as pool:
        ids = pool.tasks if task is None else [task] * len(pool)
        if is_planner(actor):
            behaviour = PlannerBehaviour(actor, ids, action_dim=pool.action_dims[0])
        elif model is None:
            behaviour = ObservationBehaviour(actor)
        else:
            behaviour = LatentBehaviour(model, [actor], ids)
        quota = [len(range(i, episodes, len(pool))) for i in range(len(pool))]
        found = run_episodes(pool, behaviour, quota)
    return summarize([episode for mine in found for episode in mine])


@checked(model=has("encode"), actor=has("__call__"), episodes=least(1), workers=least(0))
def evaluate_members(
    envs: Sequence[Any] | EnvPool,
    model: Any,
    actor: Any,
    episodes: int = 10,
    *,
    tasks: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    workers: int = 0,
    max_steps: int | None = None,
    timeout: float | None = None,
) -> list[dict[str, float]]:
    """Run the mean action of every policy of a population, all at once.

    Args:
        envs: one environment per policy, as for `evaluate`; or a pool of them, which is used as it
            is and stays open.
        model: encodes observations.
        actor: population of as many policies.
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
        ValueError: for fewer than one episode, numbers of policies that differ, a task that is not
            known to a model of several, and what `EnvPool` refuses.
    """
    episodes = whole(1, episodes=episodes)
    for name, given in (("tasks", tasks), ("seeds", seeds)):
        if given is not None and len(given) != len(envs):
            raise ValueError(
                f"{name} must have one entry per policy ({len(envs)}), got {len(given)}"
            )
    with _opened(envs, workers, max_steps, timeout) as pool:
        ids = pool.tasks if tasks is None else tasks
        behaviour = LatentBehaviour(model, [actor], ids)
        found = run_episodes(pool, behaviour, [episodes] * len(pool), seeds=seeds)
    return [summarize(mine) for mine in found]


def evaluate_pool(pool: EnvPool, behaviour: Behaviour, episodes: int) -> list[list[Episode]]:
    """Run `episodes` whole episodes in every environment of a pool."""
    return run_episodes(pool, behaviour, [episodes] * len(pool))


@contextmanager
def _opened(
    envs: Sequence[Any] | EnvPool, workers: int, max_steps: int | None, timeout: float | None
) -> Iterator[EnvPool]:
    """Give a pool, and close it where its environments are made for it."""
    if isinstance(envs, EnvPool):
        yield envs
        return
    pool = EnvPool(envs, workers, max_steps=max_steps, timeout=timeout)
    try:
        yield pool
    finally:
        if all(is_maker(env) for env in envs):
            pool.close()
