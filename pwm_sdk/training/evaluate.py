"""How good policies really are: deterministic episodes in the environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.training.collect import Behaviour, Episode, LatentBehaviour, run_episodes


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
        model: encodes observations.
        actor: one policy on its latents.
        episodes: number of episodes, at least 1.
        task: task id for a multi-task model; None: the environment's own task, if it has one.

    Returns:
        return, return_std, return_min, success_any, success_last (shares of episodes), episodes.

    Raises:
        ValueError: for fewer than one episode.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    own = getattr(env, "task", None)
    index = task if task is not None else getattr(own, "index", 0)
    return summarize(
        run_episodes(EnvPool([env]), LatentBehaviour(model, [actor], [index]), [episodes])[0]
    )


def evaluate_pool(pool: EnvPool, behaviour: Behaviour, episodes: int) -> list[list[Episode]]:
    """Run `episodes` whole episodes in every environment of a pool."""
    return run_episodes(pool, behaviour, [episodes] * len(pool))
