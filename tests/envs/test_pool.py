"""Lockstep stepping of environments of every kind."""

import gymnasium
import numpy as np
import pytest
from torchrl.envs import SerialEnv, StepCounter, TransformedEnv

from pwm_sdk.envs.factory import make_env, make_gym
from pwm_sdk.envs.pool import EnvPool


@pytest.mark.parametrize("name", ["cartpole-swingup", "mw-reach"])
def test_every_kind_shows_the_same_episode(name: str) -> None:
    torchrl, gym = make_env(name, seed=2), make_gym(name, seed=2)
    transformed = TransformedEnv(make_env(name, seed=2), StepCounter())
    pool = EnvPool([torchrl, gym, transformed])
    assert len(pool) == 3
    first = [pool.reset(index) for index in range(3)]
    assert all(observation.dtype == np.float32 for observation in first)
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])
    generator = np.random.default_rng(0)
    for _ in range(100):
        action = generator.uniform(-1, 1, gym.task.action_dim).astype(np.float32)
        steps = [pool.step(index, action) for index in range(3)]
        for step in steps[1:]:
            np.testing.assert_array_equal(step.observation, steps[0].observation)
            assert step.reward == pytest.approx(steps[0].reward, rel=1e-6)
            assert step[2:] == steps[0][2:]
    assert steps[0].truncated is (gym.task.episode_length == 100)
    assert not steps[0].terminated
    assert isinstance(steps[2].success, bool)
    pool.close()


def test_members_are_independent() -> None:
    pool = EnvPool([make_gym("pendulum-swingup"), make_gym("reacher-easy")])
    assert pool.reset(0, seed=1).shape == (3,)
    assert pool.reset(1, seed=1).shape == (6,)
    pool.step(1, np.zeros(2))
    observation = pool.step(0, np.zeros(1)).observation
    alone = make_gym("pendulum-swingup", seed=1)
    alone.reset()
    np.testing.assert_array_equal(observation, alone.step(np.zeros(1))[0])


def test_seeded_reset_of_every_kind() -> None:
    name = "pendulum-swingup"
    pool = EnvPool([make_env(name), make_gym(name), TransformedEnv(make_env(name), StepCounter())])
    first, *others = (pool.reset(index, seed=6) for index in range(3))
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_plain_gymnasium_environment() -> None:
    pool = EnvPool([gymnasium.make("Pendulum-v1")])
    pool.reset(0, seed=0)
    step = pool.step(0, np.zeros(1, np.float32))
    assert step.observation.shape == (3,)
    assert step.success is False
    assert isinstance(step.reward, float)


def test_bad_members() -> None:
    with pytest.raises(ValueError, match="at least one environment"):
        EnvPool([])
    with pytest.raises(TypeError, match="got int"):
        EnvPool([3])
    batched = SerialEnv(2, lambda: make_env("pendulum-swingup"))
    with pytest.raises(ValueError, match=r"no batch dimensions, got \(2,\)"):
        EnvPool([batched])
    pool = EnvPool([TransformedEnv(make_env("pendulum-swingup"), StepCounter())])
    with pytest.raises(RuntimeError, match="step must follow reset"):
        pool.step(0, np.zeros(1))
