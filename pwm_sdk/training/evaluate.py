"""How good policies really are: deterministic episodes in the environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.training.collect import Behaviour, Episode, LatentBehaviour, run_episodes
from pwm_sdk.training.planning import PlannerBehaviour
from pwm_sdk.training.transitions import ObservationBehaviour


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


def evaluate(
    env: Any, model: Any, actor: Any, episodes: int = 10, *, task: int | None = None
) -> dict[str, float]:
    """Run the mean action of a policy for whole episodes.

    Args:
        env: an environment of `make_env` or `make_gym`, or any unbatched TorchRL or gymnasium
            environment.
        model: encodes observations; None: the policy sees them as they are.
        actor: one policy on its latents (without a model: on observations, for example an `SAC`),
            or an `MPPI`, which plans at every step.
        episodes: number of episodes, at least 1.
        task: task id for a multi-task model; None: the environment's own task, if it has one.

    Returns:
        return, return_std, return_min, success_any, success_last (shares of episodes), episodes.

    Raises:
        ValueError: for fewer than one episode.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    index = _task_id(env, task)
    if hasattr(actor, "plan"):
        behaviour = PlannerBehaviour(actor, [index], action_dim=_action_dim(env))
    elif model is None:
        behaviour = ObservationBehaviour(actor)
    else:
        behaviour = LatentBehaviour(model, [actor], [index])
    return summarize(run_episodes(EnvPool([env]), behaviour, [episodes])[0])


def evaluate_members(
    envs: Sequence[Any],
    model: Any,
    actor: Any,
    episodes: int = 10,
    *,
    tasks: Sequence[int] | None = None,
) -> list[dict[str, float]]:
    """Run the mean action of every policy of a population, all at once.

    Args:
        envs: one environment per policy, as for `evaluate`.
        model: encodes observations.
        actor: population of as many policies.
        episodes: number of episodes of each, at least 1.
        tasks: task id of each policy; None: those of the environments.

    Returns:
        For each policy what `evaluate` returns.

    Raises:
        ValueError: for fewer than one episode, or numbers of policies that differ.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    if tasks is not None and len(tasks) != len(envs):
        raise ValueError(f"tasks must have one entry per policy ({len(envs)}), got {len(tasks)}")
    ids = [_task_id(env, None if tasks is None else tasks[i]) for i, env in enumerate(envs)]
    pool = EnvPool(list(envs))
    return [
        summarize(e) for e in evaluate_pool(pool, LatentBehaviour(model, [actor], ids), episodes)
    ]


def evaluate_pool(pool: EnvPool, behaviour: Behaviour, episodes: int) -> list[list[Episode]]:
    """Run `episodes` whole episodes in every environment of a pool."""
    return run_episodes(pool, behaviour, [episodes] * len(pool))


def _task_id(env: Any, task: int | None) -> int:
    return task if task is not None else getattr(getattr(env, "task", None), "index", 0)


def _action_dim(env: Any) -> int:
    space = getattr(env, "action_space", None)
    return (env.action_spec if space is None else space).shape[-1]
