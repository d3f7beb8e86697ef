"""Where environments and behaviours meet: numbers of rows and their sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tensordict import TensorDict

from pwm_sdk import keys
from pwm_sdk.contract.pools import Pool

__all__ = ["acted", "packed", "renew", "stacked"]


def acted(behaviour: Callable[[np.ndarray], np.ndarray], observation: np.ndarray) -> np.ndarray:
    """Return a copy `[N, A]` float32 of a behaviour's actions for observations `[N, O]`.

    Raises:
        ValueError: if the number of actions is another, or they are no matrix.
    """
    with np.errstate(over="ignore"):  # the pool says which is not finite
        actions = np.array(behaviour(observation), np.float32)
    if actions.ndim != 2 or len(actions) != len(observation):
        raise ValueError(
            f"actions of the behaviour must have shape [{len(observation)}, A], "
            f"got {list(actions.shape)}"
        )
    return actions


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Stack the observations `[O]` of N environments."""
    if len({row.shape for row in rows}) > 1:
        raise ValueError(
            "environments must have observations of one size (padded=True of make_env and make_gym "
            f"brings it about), got {[list(row.shape) for row in rows]}"
        )
    return np.stack(rows)


def packed(
    before: np.ndarray,
    action: np.ndarray,
    after: np.ndarray,
    reward: np.ndarray,
    flags: np.ndarray,
) -> TensorDict:
    """Lay out transitions `[N, T]` as a TorchRL collector does."""
    terminated, truncated = flags[..., :1], flags[..., 1:]
    later = {
        keys.OBSERVATION: after,
        keys.REWARD: reward[..., None],
        keys.TERMINATED: terminated,
        keys.TRUNCATED: truncated,
        keys.DONE: terminated | truncated,
    }
    shape = before.shape[:2]
    return TensorDict(
        {
            keys.OBSERVATION: torch.from_numpy(before),
            keys.ACTION: torch.from_numpy(action),
            keys.NEXT: TensorDict({k: torch.from_numpy(v) for k, v in later.items()}, shape),
        },
        shape,
    )


def renew(pool: Pool, rng: np.random.Generator, number: int) -> None:
    """Start other random streams in all environments of a pool that is resumed.

    Args:
        pool: the environments.
        rng: whose state, which stays, decides the seeds.
        number: of the round, which does so too.
    """
    drawn = copy.deepcopy(rng).integers(2**32, size=4)
    seeds = np.random.SeedSequence([*drawn, number]).generate_state(len(pool))
    pool.reset_many(range(len(pool)), [int(seed) for seed in seeds])
