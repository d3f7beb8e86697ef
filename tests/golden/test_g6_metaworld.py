"""Meta-World tasks against recorded episodes of the published setting on metaworld 3.1.1."""

import functools

import numpy as np
import pytest
from vectors import load, text

from pwm_sdk.envs.factory import make_gym

EPISODES = [str(name) for name in text("g6_metaworld.npz")["meta/tasks"]]

# A published program may add the rewards of inner steps in float32; that is no error of ours.
FLOAT32 = 1e-6


@functools.cache
def recordings() -> dict[str, np.ndarray]:
    """The whole file."""
    return {key: value.numpy() for key, value in load("g6_metaworld.npz").items()}


def recorded(name: str) -> list[dict[str, np.ndarray]]:
    """Arrays of the consecutive episodes of one task."""
    keys = [key.split("/") for key in recordings() if key.startswith(name + "/")]
    return [
        {key: recordings()[f"{name}/{number}/{key}"] for _, at, key in keys if at == number}
        for number in sorted({number for _, number, _ in keys}, key=int)
    ]


@pytest.fixture
def numpy_state():
    """The global numpy state, given back after the test."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def test_every_recorded_task_is_replayed() -> None:
    assert {key.split("/")[0] for key in recordings()} - {"meta"} == set(EPISODES)
    assert all(recorded(name) for name in EPISODES)


@pytest.mark.usefixtures("numpy_state")
@pytest.mark.parametrize("name", EPISODES)
def test_equals_the_recorded_episodes(name: str) -> None:
    """The recordings drew their goals from the global numpy state, so this test does too."""
    env = make_gym(name)
    env.unwrapped.simulator.seeded_rand_vec = False
    np.random.seed(int(recordings()["meta/numpy_seed"]))
    for expected in recorded(name):
        observations, rewards, successes = [env.reset()[0]], [], []
        np.testing.assert_array_equal(env.unwrapped.simulator._target_pos, expected["target_pos"])
        for action in expected["actions"]:
            observation, reward, _, truncated, info = env.step(action)
            observations.append(observation)
            rewards.append(reward)
            successes.append(info["success"][0])
        assert truncated
        np.testing.assert_array_equal(observations, expected["obs"])
        np.testing.assert_allclose(rewards, expected["reward"], rtol=FLOAT32)
        np.testing.assert_array_equal(successes, expected["success"] == 1.0)
