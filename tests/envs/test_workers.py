"""Environments in worker processes: the same to the bit, and clear errors when one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import gymnasium
import numpy as np
import pytest

from pwm_sdk.envs.factory import make_env, make_gym
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.policies.behaviours import RandomBehaviour
from pwm_sdk.training.collect import run_episodes

PENDULUM = partial(gymnasium.make, "Pendulum-v1")
REAL = [partial(make_gym, name, seed=3, padded=True) for name in ("mw-reach", "cartpole-swingup")]


def test_episodes_are_the_same_to_the_bit() -> None:
    makers = [*REAL, partial(make_env, "cartpole-swingup", seed=4, padded=True)]
    found = []
    for workers in (0, 2):
        pool = EnvPool(makers, workers)
        assert pool.action_dims == [6, 6, 6]
        assert pool.tasks == [make_gym("mw-reach").task.index, *[pool.tasks[1]] * 2]
        behaviour = RandomBehaviour(3, 6, seed=0, hold=5)
        found.append(run_episodes(pool, behaviour, [2, 1, 2], lengths=[100, 20, 15]))
        pool.close()
    for ours, theirs in zip(*found, strict=True):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            for name in ("observation", "action", "reward", "success", "terminated"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_any_environments_can_be_asked_and_in_any_order() -> None:
    pool, alone = EnvPool([PENDULUM] * 3, workers=2), EnvPool([PENDULUM] * 3)
    for both in (pool, alone):
        assert len(both) == 3
        assert both.tasks == [None, None, None]
    seeds = [5, 6, 7]
    first = [both.reset_many(range(3), seeds) for both in (pool, alone)]
    np.testing.assert_array_equal(*first)
    actions = np.array([[0.5], [-1.0]], np.float32)
    for indices in ([2, 0], [0, 1]):
        steps = [both.step_many(indices, actions) for both in (pool, alone)]
        for ours, theirs in zip(*steps, strict=True):
            np.testing.assert_array_equal(ours.observation, theirs.observation)
            assert ours[1:] == theirs[1:]
    np.testing.assert_array_equal(pool.reset(1, seed=9), alone.reset(1, seed=9))
    assert pool.step(1, actions[0]).reward == alone.step(1, actions[0]).reward
    assert pool.reset_many([]) == []
    pool.close()
    with pytest.raises(RuntimeError, match="workers must be running, got closed ones"):
        pool.reset(0)


def test_an_error_names_its_environment_and_ends_the_pool() -> None:
    pool = EnvPool([PENDULUM] * 3, workers=2)
    pool.reset_many(range(3))
    processes = pool._workers._processes
    with pytest.raises(RuntimeError, match=r"environment 2 failed in its worker:\n(.|\n)*Error"):
        pool.step_many(range(3), [np.zeros(1), np.zeros(1), np.zeros(0)])
    assert not any(process.is_alive() for process in processes)


def test_what_cannot_be_made_is_said_when_the_pool_is_built() -> None:
    missing = partial(gymnasium.make, "Nothing-v0")
    with pytest.raises(RuntimeError, match=r"environment 1 failed in its worker:\n(.|\n)*Nothing"):
        EnvPool([PENDULUM, missing], workers=1)
    with pytest.raises(RuntimeError, match=r"worker of environments \[0\] .* exit code 7"):
        EnvPool([partial(os._exit, 7)], workers=1)


def test_a_killed_worker_is_noticed() -> None:
    pool = EnvPool([PENDULUM] * 2, workers=2)
    pool.reset_many([0, 1])
    pool._workers._processes[1].kill()
    with pytest.raises(RuntimeError, match=r"worker of environments \[1\] must run, got its end"):
        for _ in range(2):
            pool.step_many([0, 1], np.zeros((2, 1), np.float32))


def test_functions_make_environments_in_this_process_too() -> None:
    pool = EnvPool([PENDULUM, gymnasium.make("Pendulum-v1")])
    assert pool.reset(0, seed=1).tolist() == pool.reset(1, seed=1).tolist()
    assert pool.action_dims == [1, 1]
    with pytest.raises(ValueError, match="envs must be functions to be made in workers, got"):
        EnvPool([PENDULUM, gymnasium.make("Pendulum-v1")], workers=1)
    with pytest.raises(ValueError, match=r"envs must be functions that can be pickled .* environ"):
        EnvPool([PENDULUM, lambda: gymnasium.make("Pendulum-v1")], workers=1)
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        EnvPool([PENDULUM], workers=-1)


def test_workers_of_gymnasium_environments_import_no_torch() -> None:
    code = (
        "import sys, gymnasium; from pwm_sdk.envs.workers import member_of;"
        "from pwm_sdk.envs.factory import make_gym; member_of(lambda: make_gym('mw-reach'));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
