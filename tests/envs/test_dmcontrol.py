"""dm_control tasks against the suite itself."""

import numpy as np
import pytest
from dm_control import suite

from pwm_sdk.envs.dmcontrol import DMControlEnv
from pwm_sdk.envs.factory import make_gym


@pytest.mark.parametrize(
    ("name", "domain", "task"),
    [
        ("walker-walk", "walker", "walk"),
        ("finger-turn-hard", "finger", "turn_hard"),
        ("cup-catch", "ball_in_cup", "catch"),
        ("cartpole-swingup-sparse", "cartpole", "swingup_sparse"),
        ("fish-swim", "fish", "swim"),
    ],
)
def test_equals_the_suite(name: str, domain: str, task: str) -> None:
    """Two suite steps with summed rewards, entries in the order in which the suite reports them."""
    reference = suite.load(domain, task, task_kwargs={"random": 4})
    env = make_gym(name, seed=4)
    generator = np.random.default_rng(0)
    for _ in range(2):
        step = reference.reset()
        observation, _ = env.reset()
        expected = np.concatenate([np.ravel(value) for value in step.observation.values()])
        np.testing.assert_array_equal(observation, expected.astype(np.float32))
        for _ in range(20):
            action = generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            steps = [reference.step(action.astype(np.float64)) for _ in range(2)]
            observation, reward, _, _, info = env.step(action)
            values = steps[1].observation.values()
            expected = np.concatenate([np.ravel(value) for value in values])
            np.testing.assert_array_equal(observation, expected.astype(np.float32))
            assert reward == steps[0].reward + steps[1].reward
            assert not info["success"].any()


def test_keys_are_not_sorted() -> None:
    """Sorting would put the height (1) in front of the 14 orientations."""
    env = make_gym("walker-walk", seed=0)
    observation, _ = env.reset()
    physics = env.unwrapped.simulator.physics
    assert observation[14] == np.float32(physics.torso_height())
    np.testing.assert_array_equal(observation[:14], physics.orientations().astype(np.float32))
    np.testing.assert_array_equal(observation[15:], physics.velocity().astype(np.float32))


@pytest.mark.parametrize(
    "name", ["pendulum-swingup", "reacher-easy", "cheetah-jump", "reacher-three-hard"]
)
def test_episode_is_500_agent_steps(name: str) -> None:
    env = make_gym(name, seed=0)
    env.reset()
    action = np.zeros(env.action_space.shape, np.float32)
    flags = [env.step(action)[2:4] for _ in range(500)]
    assert flags == [(False, False)] * 499 + [(False, True)]
    assert env.unwrapped.simulator._step_count == 1000


def test_out_of_range_actions_are_clipped() -> None:
    first, second = make_gym("walker-walk", seed=1), make_gym("walker-walk", seed=1)
    first.reset()
    second.reset()
    for _ in range(5):
        wild, clipped = first.step(np.full(6, 3.0)), second.step(np.ones(6))
        np.testing.assert_array_equal(wild[0], clipped[0])
        assert wild[1] == clipped[1]


def test_unknown_task() -> None:
    with pytest.raises(ValueError, match="dm_control suite or of MT30, got 'walker-fly'"):
        DMControlEnv("walker-fly")
