"""Meta-World tasks against the traps of the suite."""

import numpy as np
import pytest

from pwm_sdk.envs.factory import make_gym
from pwm_sdk.envs.metaworld import MetaWorldEnv


def test_goal_is_visible_and_new_in_every_episode() -> None:
    env = make_gym("mw-reach", seed=0)
    goals = np.stack([env.reset()[0][36:] for _ in range(4)])
    assert len(np.unique(goals, axis=0)) == 4
    assert (np.abs(goals).sum(axis=1) > 0).all()
    observation, *_ = env.step(np.zeros(4))
    np.testing.assert_array_equal(observation[36:], goals[-1])


def test_goals_follow_the_seed() -> None:
    env = make_gym("mw-pick-place", seed=5)
    goals = [env.reset()[0][36:].tolist() for _ in range(3)]
    again = [env.reset(seed=5)[0][36:].tolist(), *(env.reset()[0][36:].tolist() for _ in range(2))]
    other = [env.reset(seed=6)[0][36:].tolist(), *(env.reset()[0][36:].tolist() for _ in range(2))]
    assert again == goals
    assert not any(goal in goals for goal in other)


def test_success_is_that_of_the_last_simulator_step(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_gym("mw-reach", seed=0)
    env.reset()
    simulator, seen = env.unwrapped.simulator, []
    evaluate = simulator.evaluate_state

    def scripted(*arguments):
        reward, info = evaluate(*arguments)
        seen.append(len(seen))
        return reward, {**info, "success": float(len(seen) in (2, 3))}

    monkeypatch.setattr(simulator, "evaluate_state", scripted)
    successes = [env.step(np.zeros(4))[4]["success"].tolist() for _ in range(2)]
    assert seen == [0, 1, 2, 3]
    assert successes == [[True], [False]]  # of simulator steps 2 and 4


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
