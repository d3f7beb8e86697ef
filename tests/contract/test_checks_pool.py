"""The checker of pools accepts a good one and names what a bad one breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pwm_sdk import EnvPool, MassSpring, PoolStep, check_pool, make_pool


class Good:
    """The smallest pool: two points that count their steps from a drawn start, three steps long."""

    max_steps: int | None = None

    def __init__(self) -> None:
        self.tasks: list[int | None] = [None, None]
        self.action_dims, self.names = [1, 1], ["point 0", "point 1"]
        self.rngs = [np.random.default_rng(i) for i in range(2)]
        self.left, self.x = [0, 0], [0.0, 0.0]

    def __len__(self) -> int:
        return 2

    def reset_many(self, indices: Sequence[int], seeds: Any = None) -> list[np.ndarray]:
        for k, i in enumerate(indices):
            if seeds is not None and seeds[k] is not None:
                self.rngs[i] = np.random.default_rng(seeds[k])
            self.left[i], self.x[i] = 3, self.rngs[i].uniform()
        return [self.seen(i) for i in indices]

    def step_many(self, indices: Sequence[int], actions: Any) -> list[PoolStep]:
        return [self.step(i, action) for i, action in zip(indices, actions, strict=True)]

    def step(self, i: int, action: np.ndarray) -> PoolStep:
        if i not in (0, 1) or np.shape(action) != (1,) or not np.isfinite(action).all():
            raise ValueError("action")
        if self.left[i] == 0:
            raise RuntimeError("over")
        self.left[i] -= 1
        self.x[i] += float(np.clip(action, -1, 1)[0])
        return PoolStep(self.seen(i), 1.0, False, self.left[i] == 0, False)

    def seen(self, i: int) -> np.ndarray:
        return np.array([self.x[i], self.left[i]], np.float32)

    def close(self) -> None:
        pass


def changed(**changes: Any) -> Good:
    """Return an instance of a `Good` with some members replaced."""
    return type("Broken", (Good,), changes)()


def after_step(change: Callable[[PoolStep], PoolStep]) -> Good:
    return changed(step=lambda self, i, action: change(Good.step(self, i, action)))


def test_accepts_pools_that_keep_the_contract() -> None:
    check_pool(Good())
    check_pool(make_pool(MassSpring(2, 2, episode_length=4), batch=3), steps=6)
    check_pool(EnvPool([lambda: __import__("gymnasium").make("Pendulum-v1")]), steps=201)


class Forgetful(Good):
    """Starts the next episode itself."""

    def step(self, i: int, action: np.ndarray) -> PoolStep:
        step = super().step(i, action)
        if step.terminated:
            self.reset_many([i])
        return step


class Unclipped(Good):
    def step(self, i: int, action: np.ndarray) -> PoolStep:
        step = super().step(i, action)
        self.x[i] += float(np.maximum(action, 1.0)[0]) - 1.0
        return step._replace(observation=self.seen(i))


class Together(Good):
    """Starts all episodes where one is asked for."""

    def reset_many(self, indices: Sequence[int], seeds: Any = None) -> list[np.ndarray]:
        given = [None, None]
        for k, i in enumerate(indices):
            given[i] = None if seeds is None else seeds[k]
        found = super().reset_many([0, 1], given)
        return [found[i] for i in indices]


class Seedless(Good):
    def reset_many(self, indices: Sequence[int], seeds: Any = None) -> list[np.ndarray]:
        return super().reset_many(indices)


class Lax(Good):
    """Takes the first number of any action, for any place."""

    def step(self, i: int, action: np.ndarray) -> PoolStep:
        return super().step(i % 2, np.nan_to_num(action[:1]))


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        (changed(__len__=lambda self: 0), "at least one environment, got none"),
        (changed(__len__=lambda self: 3), "pool.tasks must have 3 entries, got 2"),
        (Forgetful(), "pool.step_many must refuse an ended episode, got no error"),
        (Unclipped(), r"pool must clip actions to \[-1, 1\]"),
        (Together(), "pool must reset rows alone"),
        (Seedless(), "seeds of pool must reproduce start states"),
        (Lax(), "pool.step_many must refuse wide"),
        (
            after_step(lambda s: s._replace(reward=np.nan)),
            "reward of a step must be a finite",
        ),
        (after_step(lambda s: s._replace(reward=np.float32(1))), "reward of a step must be a fin"),
        (after_step(lambda s: s._replace(terminated=0)), "terminated of a step must be a bool"),
        (
            after_step(lambda s: s._replace(observation=s.observation.astype(float))),
            "observations of pool must be float32 vectors, got float64",
        ),
        (
            after_step(lambda s: s._replace(observation=s.observation[:1])),
            r"float32 vectors, got float32 of shape \[1\]",
        ),
        (
            after_step(lambda s: s._replace(observation=s.observation * np.nan)),
            "observations of pool must be finite",
        ),
    ],
)
def test_names_what_is_broken(pool: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_pool(pool)


def test_what_is_no_pool_is_named() -> None:
    with pytest.raises(ValueError, match="pool must be an object with max_steps, tasks"):
        check_pool([Good()])  # pyright: ignore[reportArgumentType]
