"""The custom dm_control tasks against resets, episodes and states of the published program."""

import functools
from pathlib import Path

import numpy as np
import pytest
from vectors import load

from pwm_sdk import MT30
from pwm_sdk.envs.dmcontrol import DMControlEnv
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.envs.task_env import TaskEnv

# Rewards are exponentials and roots, whose last bit depends on the processor.
LAST_BITS = {"rtol": 1e-13, "atol": 1e-15}


@functools.cache
def recordings() -> dict[str, np.ndarray]:
    """The whole file."""
    return {key: value.numpy() for key, value in load("g6_dmcontrol_custom.npz").items()}


def recorded(name: str) -> dict[str, np.ndarray]:
    """Arrays of one task by key."""
    start = name + "/"
    return {key.removeprefix(start): a for key, a in recordings().items() if key.startswith(start)}


RECORDED = sorted({key.split("/")[0] for key in recordings()})


def physics_of(env: TaskEnv) -> object:
    return env.unwrapped.simulator.physics


def test_every_custom_task_is_recorded() -> None:
    custom = {task.name for task in MT30 if task.custom}
    with np.load(Path(__file__).with_name("g6_dmcontrol_custom.npz")) as shipped:
        assert custom <= {key.split("/")[0] for key in shipped.files}
    assert len(custom) == 11


@pytest.mark.parametrize("name", RECORDED)
def test_seeded_resets_and_an_episode(name: str) -> None:
    """A reset, agent steps of two summed control steps, and a reset that goes on in the stream."""
    expected = recorded(name)
    env = make_gym(name, seed=int(expected["seed"]))
    observation, _ = env.reset()
    np.testing.assert_array_equal(observation, expected["reset_obs"][0])
    np.testing.assert_array_equal(physics_of(env).data.qpos, expected["reset_qpos"])
    np.testing.assert_array_equal(physics_of(env).data.qvel, expected["reset_qvel"])
    for action, following, total in zip(
        expected["seq_actions"], expected["seq_obs"], expected["seq_reward"], strict=True
    ):
        observation, reward, terminated, truncated, _ = env.step(action)
        np.testing.assert_array_equal(observation, following)
        np.testing.assert_allclose(reward, total, **LAST_BITS)
        assert not terminated
        assert not truncated
    np.testing.assert_array_equal(env.reset()[0], expected["reset_obs"][1])


@pytest.mark.parametrize("name", RECORDED)
def test_rewards_and_steps_from_given_states(name: str) -> None:
    expected = recorded(name)
    env = DMControlEnv(name)
    env.reset(seed=0)
    simulator = env.simulator
    for row in range(len(expected["qpos"])):
        with simulator.physics.reset_context():
            simulator.physics.data.qpos[:] = expected["qpos"][row]
            simulator.physics.data.qvel[:] = expected["qvel"][row]
            if "target" in expected:
                simulator.physics.named.model.geom_pos["target", :2] = expected["target"][row]
        seen = simulator.task.get_observation(simulator.physics)
        seen = np.concatenate([np.ravel(value) for value in seen.values()])
        reward = simulator.task.get_reward(simulator.physics)
        first = env.step(expected["action"][row])
        second = env.step(expected["action"][row])
        np.testing.assert_array_equal(seen, expected["obs_at_state"][row])
        np.testing.assert_array_equal(first[0], expected["obs_1"][row])
        np.testing.assert_array_equal(second[0], expected["obs_2"][row])
        np.testing.assert_allclose(reward, expected["reward_at_state"][row], **LAST_BITS)
        np.testing.assert_allclose(first[1], expected["reward_1"][row], **LAST_BITS)
        np.testing.assert_allclose(first[1] + second[1], expected["reward_sum2"][row], **LAST_BITS)


@pytest.mark.parametrize("name", [name for name in RECORDED if name.startswith("walker-")])
def test_stock_walker_starts_as_the_custom_one(name: str) -> None:
    expected = recorded(name)
    env = make_gym("walker-walk", seed=int(expected["seed"]))
    np.testing.assert_array_equal([env.reset()[0], env.reset()[0]], expected["reset_obs"])
