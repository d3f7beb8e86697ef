"""Simulators as environments: the same rewards as the model, episodes, seeds, TorchRL."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from pwm_sdk.envs.factory import make_env, make_gym, register_task
from pwm_sdk.envs.simulated import SimulatorEnv
from pwm_sdk.simulators.mass_spring import MassSpring
from pwm_sdk.simulators.suite import make_simulator
from pwm_sdk.tasks import SINGLE_TASKS, Task

SIMULATED = [task.name for task in SINGLE_TASKS if task.suite == "simulator"]


@pytest.mark.parametrize("name", SIMULATED)
def test_environments_show_what_the_simulator_does(name: str) -> None:
    env, model = make_gym(name, seed=3), make_simulator(name)
    observation, _ = env.reset()
    state = model.reset(1, torch.Generator().manual_seed(3))
    assert (env.task.observation_dim, env.task.action_dim, env.task.episode_length) == (
        model.observation_dim, model.action_dim, model.episode_length,
    )  # fmt: skip
    for _ in range(3):
        np.testing.assert_allclose(observation, model.features(state)[0].float(), atol=1e-6)
        action = np.random.default_rng(0).uniform(-1, 1, model.action_dim).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        state, expected, *_ = model.step(state, torch.from_numpy(action).unsqueeze(0))
        assert reward == pytest.approx(float(expected), rel=1e-5, abs=1e-6)
        assert not (terminated or truncated)


def test_an_episode_is_cut_in_time_or_ends_by_itself() -> None:
    env = make_gym("hopper-forward", seed=0)
    env.reset()
    flags = [(False, False)]
    while not any(flags[-1]):
        flags.append(env.step(np.zeros(4, np.float32))[2:4])
    assert flags[-1] == (True, False)
    assert len(flags) < 100
    small = Task("small-walker", -1, "own", 16, 6, 3, action_repeat=1)
    register_task(small, lambda: SimulatorEnv(MassSpring(2, 2)))
    env = make_gym("small-walker", seed=0)
    env.reset()
    cuts = [env.step(np.zeros(6, np.float32))[3] for _ in range(3)]
    assert cuts == [False, False, True]


@pytest.mark.parametrize(
    "name", ["mass-spring", "humanoid-forward", "muscle-humanoid", "swimmer-5", "quadruped-walk"]
)
def test_torchrl_takes_it(name: str) -> None:
    env = make_env(name, seed=0)
    check_env_specs(env)
    assert env.rollout(2)["next", "reward"].shape == (2, 1)
    assert int(env.reset()["task"]) == SINGLE_TASKS[name].index
