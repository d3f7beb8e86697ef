"""One function makes pools of whatever steps environments, and simulators step at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from counting import Counting
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torchrl.envs import GymWrapper, SerialEnv

from pwm_sdk import (
    EnvPool,
    MassSpring,
    SimulatorEnv,
    Task,
    check_pool,
    make_env,
    make_gym,
    make_pool,
    make_simulator,
    register_task,
)
from pwm_sdk.envs.simulator_pool import SimulatorPool
from pwm_sdk.envs.tensordict_pool import TensorDictPool
from pwm_sdk.envs.vector_pool import VectorPool

PENDULUM = partial(gymnasium.make, "Pendulum-v1")


@pytest.mark.parametrize(
    ("given", "options", "kind", "count", "task"),
    [
        ("mass-spring", {"batch": 4}, SimulatorPool, 4, 103),
        (MassSpring(2, 2), {"batch": 3}, SimulatorPool, 3, None),
        (MassSpring(2, 2), {}, SimulatorPool, 1, None),
        ("Pendulum-v1", {"batch": 2}, EnvPool, 2, ...),
        (PENDULUM, {"batch": 2}, EnvPool, 2, None),
        (Counting, {}, EnvPool, 1, None),
        (Counting(), {}, EnvPool, 1, None),
        (GymWrapper(Counting()), {}, EnvPool, 1, None),
        (["mass-spring", "mass-spring"], {"seed": 3}, EnvPool, 2, 103),
        (SyncVectorEnv([Counting] * 3), {}, VectorPool, 3, None),
        (SerialEnv(2, partial(GymWrapper, Counting())), {}, TensorDictPool, 2, None),
        (make_env("mass-spring", batch=2), {}, SimulatorPool, 2, 103),
        (EnvPool([Counting]), {}, EnvPool, 1, None),
    ],
)
def test_kinds(given: Any, options: dict, kind: type, count: int, task: Any) -> None:
    pool = make_pool(given, **options)
    assert type(pool) is kind
    assert len(pool) == len(pool.tasks) == len(pool.names) == count
    assert task is ... or pool.tasks == [task] * count


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        ("mass-sprin", {}, "got 'mass-sprin'; nearest: mass-spring"),
        ("mass-spring", {"batch": 0}, "batch must be at least 1, got 0"),
        ("mass-spring", {"seed": -1}, "seed must be an integer"),
        ("mass-spring", {"workers": -1}, "workers must be at least 0"),
        (Counting(), {"batch": 2}, "batch must be left out for Counting"),
        (SyncVectorEnv([Counting]), {"seed": 1}, "seed must be left out for SyncVectorEnv"),
        (EnvPool([Counting]), {"workers": 2}, "workers must be left out for EnvPool"),
        (MassSpring(2, 2), {"workers": 2}, "workers must be left out for MassSpring"),
        ([Counting, "mass-spring"], {"seed": 1}, "seed must be left out for list"),
        ([], {}, "at least one environment"),
        (
            GymWrapper(SyncVectorEnv([Counting], autoreset_mode=AutoresetMode.DISABLED)),
            {},
            "vector.VectorEnv, which make_pool takes",
        ),
    ],
)
def test_what_cannot_be_taken(given: Any, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_pool(given, **options)
    with pytest.raises(TypeError, match=r"environment 0 must be .* got int"):
        make_pool(3)  # pyright: ignore[reportArgumentType]


def test_dm_control_side_by_side_is_single_ones_to_the_bit() -> None:
    pool = make_pool("cartpole-swingup", batch=3, seed=5)
    alone = [make_gym("cartpole-swingup", seed=5 + i) for i in range(3)]
    first = pool.reset_many(range(3))
    for one, env in zip(first, alone, strict=True):
        np.testing.assert_array_equal(one, env.reset()[0])
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        for step, env, action in zip(
            pool.step_many(range(3), actions), alone, actions, strict=True
        ):
            observation, reward, *_ = env.step(action)
            np.testing.assert_array_equal(step.observation, observation)
            assert step.reward == reward


@pytest.mark.parametrize(("name", "action"), [("mass-spring", 159), ("hopper-forward", 4)])
def test_a_simulator_at_once_shows_the_episodes_of_single_environments(
    name: str, action: int
) -> None:
    pool = make_pool(name, batch=3, seed=5, workers=2)
    alone = [make_gym(name, seed=5 + i) for i in range(3)]
    for episode in range(2):
        seeds = None if episode == 0 else [9, 8, 7]
        first = pool.reset_many(range(3), seeds)
        for i, env in enumerate(alone):
            seed = None if seeds is None else seeds[i]
            np.testing.assert_array_equal(first[i], env.reset(seed=seed)[0])
        rng = np.random.default_rng(0)
        for _ in range(8):
            actions = rng.uniform(-1.5, 1.5, (3, action)).astype(np.float32)
            for step, env, one in zip(
                pool.step_many(range(3), actions), alone, actions, strict=True
            ):
                observation, reward, terminated, truncated, _ = env.step(one)
                np.testing.assert_allclose(step.observation, observation, rtol=1e-3, atol=1e-4)
                assert step.reward == pytest.approx(reward, rel=1e-3, abs=1e-4)
                assert (step.terminated, step.truncated) == (terminated, truncated)


def test_rows_of_a_simulator_are_stepped_and_started_alone() -> None:
    pool = make_pool(MassSpring(2, 2, episode_length=3), batch=3, seed=0)
    first = pool.reset_many([2, 0])
    push = np.ones((2, 6), np.float32)
    assert [s.truncated for s in pool.step_many([2, 0], push)] == [False, False]
    assert [s.truncated for s in pool.step_many([0, 2], push)] == [False, False]
    ends = pool.step_many([0], push[:1])
    assert (ends[0].truncated, ends[0].terminated) == (True, False)
    with pytest.raises(RuntimeError, match=r"outside an episode of environment 0 \(MassSpring\)"):
        pool.step_many([0, 2], push)
    assert pool.step_many([2], push[:1])[0].truncated  # still at its own third step
    assert not np.array_equal(pool.reset_many([2, 0])[0], first[0])  # its stream goes on
    with pytest.raises(RuntimeError, match="environment 1"):
        pool.step_many([1], push[:1])


def test_padded_simulators_have_the_sizes_of_their_set() -> None:
    small = register_task(
        Task("pools-springs", -1, "own", 16, 6, 5, action_repeat=1),
        lambda: SimulatorEnv(MassSpring(2, 2)),
    )
    pool = make_pool(small, batch=2, seed=1, padded=True)
    assert type(pool) is SimulatorPool and pool.action_dims == [6, 6]
    observation = pool.reset_many([0, 1])[1]
    single = make_gym(small, seed=2, padded=True)
    np.testing.assert_array_equal(observation, single.reset()[0])
    assert observation.shape == (39,) and not observation[16:].any()
    twice = Task("pools-springs", small.index, "own", 16, 6, 5, action_repeat=2)
    assert type(make_pool(twice, batch=2)) is EnvPool  # rewards are summed over steps


class Torn(MassSpring):
    """Fails where a row is pushed by nothing but ones, and shows NaN for a row of minus ones."""

    def step(self, latent: torch.Tensor, action: torch.Tensor, task: Any = None) -> Any:
        if (action == 1).all(-1).any():
            raise ValueError("torn")
        after, reward = super().step(latent, action)
        return torch.where((action == -1).all(-1, keepdim=True), torch.nan, after), reward


def test_faults_name_the_row_and_the_step() -> None:
    pool = make_pool(Torn(2, 2), batch=3, max_steps=4)
    pool.reset_many(range(3))
    push = np.zeros((3, 6), np.float32)
    pool.step_many(range(3), push)
    push[1] = 5.0  # clipped
    with pytest.raises(ValueError, match=r"environment 1 \(Torn\) must run in step 1, got .*torn"):
        pool.step_many(range(3), push)
    push[1] = np.nan
    with pytest.raises(ValueError, match=r"action of environment 1 .* be finite, .* in step 1"):
        pool.step_many(range(3), push)
    push[1] = 0.0
    push[2] = -1.0
    says = r"observation of environment 2 \(Torn\) must be finite, got nan in entry 0 in step 1"
    with pytest.raises(ValueError, match=says):
        pool.step_many(range(3), push)
    with pytest.raises(ValueError, match=r"have shape \(6,\), got \(7,\)"):
        pool.step_many(range(3), np.zeros((3, 7), np.float32))
    pool.reset_many(range(3))
    for _ in range(4):
        pool.step_many(range(3), np.zeros((3, 6)))
    with pytest.raises(ValueError, match=r"environment 0 \(Torn\) must end .* within 4 steps"):
        pool.step_many(range(3), np.zeros((3, 6)))


@pytest.mark.parametrize(
    "make",
    [
        partial(EnvPool, [PENDULUM, PENDULUM]),
        partial(make_pool, MassSpring(2, 2, episode_length=5), 3),
        partial(make_pool, "mass-spring", 2),
        lambda: make_pool(SerialEnv(3, lambda: GymWrapper(PENDULUM()))),
        lambda: make_pool(SyncVectorEnv([PENDULUM] * 2)),
        lambda: make_pool(make_env("Pendulum-v1", batch=2)),
    ],
)
def test_every_kind_keeps_the_contract(make: Any) -> None:
    check_pool(make(), steps=210)


def test_simulators_of_dm_control_bodies_can_be_batched() -> None:
    pool = make_pool(make_simulator("hopper-stand", threads=1), batch=2, seed=0)
    assert pool.reset_many([0, 1])[0].shape == (15,)
    assert pool.step_many([0, 1], np.zeros((2, 4)))[1].observation.dtype == np.float32
