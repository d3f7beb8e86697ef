"""Vector environments of gymnasium as pools: no observation of a reset leaks into an episode."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from counting import Counting
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from pwm_sdk import EnvPool, check_pool, make_pool

MAKERS = [partial(Counting, 2), partial(Counting, 3, cut=True), partial(Counting, 5)]
MODES = list(AutoresetMode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_every_mode_shows_the_episodes_of_single_environments(kind: Any, mode: Any) -> None:
    pool, alone = make_pool(kind(MAKERS, autoreset_mode=mode)), EnvPool(MAKERS)
    rows, rng = range(3), np.random.default_rng(0)
    np.testing.assert_array_equal(
        pool.reset_many(rows, [1, 2, 3]), alone.reset_many(rows, [1, 2, 3])
    )
    episodes = [1, 1, 1]
    for t in range(20):
        actions = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        found, expected = pool.step_many(rows, actions), alone.step_many(rows, actions)
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.observation, two.observation)
            assert one[1:] == two[1:]
        assert [step.observation[1] for step in found] == episodes  # never of another one
        ended = [i for i in rows if found[i].terminated or found[i].truncated]
        seeds = [40 + i for i in ended] if t % 2 else None
        for i, one, two in zip(
            ended, pool.reset_many(ended, seeds), alone.reset_many(ended, seeds), strict=True
        ):
            assert one[0] == two[0] and one[2] == 0
            episodes[i] = int(one[1])
            alone._members[i].env.episode = episodes[i]  # a seed lets autoreset begin one more
    pool.close()


@pytest.mark.parametrize("mode", MODES)
def test_check_pool_accepts_every_mode(mode: Any) -> None:
    makers = [partial(maker, numbered=False) for maker in MAKERS]
    pool = make_pool(SyncVectorEnv(makers, autoreset_mode=mode))
    check_pool(pool, steps=10)
    assert pool.names == [f"environment {i} (Counting)" for i in range(3)]


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_are_not_stepped_lose_their_episode(mode: Any) -> None:
    pool = make_pool(SyncVectorEnv(MAKERS, autoreset_mode=mode))
    pool.reset_many([0, 1, 2])
    for _ in range(7):  # row 0 ends twice, unobserved; it would raise past its end
        if pool.step_many([2], np.ones((1, 1)))[0].terminated:
            pool.reset_many([2])
    with pytest.raises(RuntimeError, match=r"outside an episode of environment 0 \(Counting\)"):
        pool.step_many([0], np.ones((1, 1)))
    (first,) = pool.reset_many([0])
    step = pool.step_many([0], np.ones((1, 1)))[0]
    assert (step.observation[1], step.observation[2]) == (first[1], 1)
    assert step.observation[0] == pytest.approx(first[0] + 2.0)  # scaled to the bounds


def test_tasks_and_native_numbers_are_found() -> None:
    pool = make_pool(gymnasium.make_vec("Pendulum-v1", 2, vectorization_mode="sync"))
    alone = EnvPool([partial(gymnasium.make, "Pendulum-v1")] * 2)
    for one in (pool, alone):
        one.reset_many([0, 1], [3, 4])
    found, expected = (one.step_many([0, 1], np.full((2, 1), 0.3)) for one in (pool, alone))
    np.testing.assert_array_equal(found[1].observation, expected[1].observation)
    assert found[1].reward == pytest.approx(expected[1].reward, rel=1e-6)


class Foreign(gymnasium.vector.VectorEnv):
    """Resets its rows in the same step and knows no mask."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    num_envs = 2
    single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    final: Any = None

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return np.zeros((2, 1), np.float32), {}

    def step(self, actions: Any) -> Any:
        over, infos = np.array([True, False]), {}
        if self.final is not None:
            infos["final_obs"] = np.array([self.final, None], object)
        return np.zeros((2, 1), np.float32), np.ones(2), over, ~over & False, infos


def test_a_foreign_vector_environment_is_taken_as_far_as_it_goes() -> None:
    env = Foreign()
    pool = make_pool(env)
    pool.reset_many([0, 1])
    with pytest.raises(ValueError, match=r"infos of environment 0 .* must have 'final_obs'"):
        pool.step_many([0, 1], np.zeros((2, 1)))
    env.final = np.ones(1, np.float32)
    pool.reset_many([0, 1])
    assert pool.step_many([0, 1], np.zeros((2, 1)))[0].observation.tolist() == [1.0]
    assert pool.reset_many([0])[0].tolist() == [0.0]  # the one that came in its place
    with pytest.raises(ValueError, match="rows can be reset alone, got Foreign, which resets"):
        pool.reset_many([1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metadata": {}}, "metadata of env must say its autoreset_mode"),
        ({"metadata": {"autoreset_mode": AutoresetMode.NEXT_STEP}}, "rows can be reset alone"),
        ({"single_action_space": gymnasium.spaces.Discrete(2)}, "action_space of env must"),
        ({"single_observation_space": gymnasium.spaces.Discrete(2)}, "observation_space of env"),
    ],
)
def test_what_does_not_fit_is_refused(change: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_pool(type("Wrong", (Foreign,), change)())


def test_an_async_one_that_would_reset_twice_is_refused() -> None:
    kind: dict[str, Any] = {"shared_memory": False, "autoreset_mode": AutoresetMode.NEXT_STEP}
    env = AsyncVectorEnv(MAKERS[:1], **kind)
    with pytest.raises(ValueError, match="rows can be reset alone, got AsyncVectorEnv"):
        make_pool(env)
    env.close()


class Bad(Counting):
    """Shows NaN in its second step, or fails."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__(5)
        self.fails = fails

    def step(self, action: Any) -> Any:
        if self.t == 1 and self.fails:
            raise KeyError("lost")
        observation, *rest = super().step(action)
        return (observation * np.nan if self.t == 2 else observation, *rest)


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (False, r"observation of environment 1 \(Counting\) must be finite, got nan.* in step 1"),
        (True, r"environments 0, 1 \(Counting\) must run in step \[1\], got KeyError: 'lost'"),
    ],
)
def test_faults_name_the_environment_and_the_step(fails: bool, says: str) -> None:
    pool = make_pool(SyncVectorEnv([MAKERS[2], partial(Bad, fails)]))
    pool.reset_many([0, 1])
    pool.step_many([0, 1], np.zeros((2, 1)))
    with pytest.raises(ValueError, match=says):
        pool.step_many([0, 1], np.zeros((2, 1)))
