"""Meta-World tasks against recorded episodes and against the traps of the suite."""

from pathlib import Path

import numpy as np
import pytest

from pwm_sdk.envs.factory import make_gym
from pwm_sdk.envs.metaworld import MetaWorldEnv

GOLDEN = Path(__file__).parents[1] / "golden" / "g6_metaworld.npz"


@pytest.mark.parametrize("name", ["mw-reach", "mw-drawer-open", "mw-button-press-topdown-wall"])
def test_equals_the_recorded_episodes(name: str) -> None:
    """The recordings drew their goals from the global numpy state, so this test does too."""
    env = make_gym(name)
    env.unwrapped.simulator.seeded_rand_vec = False
    state = np.random.get_state()
    with np.load(GOLDEN) as golden:
        np.random.seed(int(golden["meta/numpy_seed"]))
        for episode in range(2):
            expected = {key: golden[f"{name}/{episode}/{key}"] for key in ("obs", "reward")}
            observations, rewards, successes = [env.reset()[0]], [], []
            for action in golden[f"{name}/{episode}/actions"]:
                observation, reward, _, truncated, info = env.step(action)
                observations.append(observation)
                rewards.append(reward)
                successes.append(info["success"][0])
            assert truncated
            np.testing.assert_array_equal(observations, expected["obs"])
            # Rewards are powers and exponentials, whose last bit depends on the processor.
            np.testing.assert_allclose(rewards, expected["reward"], rtol=1e-14)
            np.testing.assert_array_equal(successes, golden[f"{name}/{episode}/success"] == 1.0)
    np.random.set_state(state)


def test_goal_is_visible_and_new_in_every_episode() -> None:
    env = make_gym("mw-reach", seed=0)
    goals = np.stack([env.reset()[0][36:] for _ in range(4)])
    assert len(np.unique(goals, axis=0)) == 4
    assert (np.abs(goals).sum(axis=1) > 0).all()
    observation, *_ = env.step(np.zeros(4))
    np.testing.assert_array_equal(observation[36:], goals[-1])


def test_observation_is_inside_its_space() -> None:
    """The suite's own bounds exclude the visible goal."""
    env = make_gym("mw-push", seed=0)
    assert env.observation_space.contains(env.reset()[0])
    assert env.observation_space.contains(env.step(np.ones(4))[0])


def test_zero_step_is_taken_and_discarded() -> None:
    env = make_gym("mw-reach", seed=0)
    reset, _ = env.reset()
    np.testing.assert_array_equal(reset[:18], reset[18:36])  # as the simulator's reset shows it
    assert env.unwrapped.simulator.curr_path_length == 1


def test_episode_is_100_agent_steps() -> None:
    env = make_gym("reach", seed=0)
    env.reset()
    steps = [env.step(np.zeros(4)) for _ in range(100)]
    assert [step[2] for step in steps] == [False] * 100
    assert [step[3] for step in steps] == [False] * 99 + [True]
    assert all(0.0 <= step[1] <= env.task.reward_scale for step in steps)


def test_global_numpy_state_is_left_alone() -> None:
    state = np.random.get_state()
    env = make_gym("mw-pick-place", seed=0)
    env.reset()
    env.step(np.zeros(4))
    assert np.random.get_state()[2] == state[2]
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])


def test_unseeded_environments_differ() -> None:
    first, second = (make_gym("mw-reach").reset()[0] for _ in range(2))
    assert (first[36:] != second[36:]).any()


def test_unknown_task() -> None:
    with pytest.raises(ValueError, match="Meta-World's, got 'fly'"):
        MetaWorldEnv("fly")
