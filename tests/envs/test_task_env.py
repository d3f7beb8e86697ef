"""The agent step around a toy environment whose every number is known."""

import re
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from pwm_sdk.envs.task_env import TaskEnv
from pwm_sdk.tasks import Task

TASK = Task("toy", 80, "toy", observation_dim=2, action_dim=1, episode_length=3)


class Toy(gymnasium.Env):
    """Counts inner steps; observation (count, last action), reward = count."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def __init__(self, low: float = -1.0, high: float = 1.0, terminate_at: int = -1) -> None:
        self.action_space = gymnasium.spaces.Box(low, high, (1,), np.float64)
        self.terminate_at = terminate_at
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        self.count = 0
        self.seeds.append(seed)
        return np.zeros(2), {}

    def step(self, action: np.ndarray) -> tuple:
        self.count += 1
        observation = np.array([self.count, action[0]])
        ended = self.count == self.terminate_at
        return observation, float(self.count), ended, False, {"success": self.count % 2 == 0}


def test_step_repeats_sums_and_truncates() -> None:
    env = TaskEnv(Toy(), TASK)
    observation, info = env.reset()
    assert observation.dtype == np.float32
    assert info["success"].tolist() == [False]
    outcomes = [env.step(np.array([0.5])) for _ in range(3)]
    assert [outcome[0].tolist() for outcome in outcomes] == [[2, 0.5], [4, 0.5], [6, 0.5]]
    assert [outcome[1] for outcome in outcomes] == [1 + 2, 3 + 4, 5 + 6]
    assert [outcome[2:4] for outcome in outcomes] == [(False, False), (False, False), (False, True)]
    assert outcomes[0][4]["success"].tolist() == [True]  # of the last inner step


def test_each_repeat_is_given_the_action_as_it_was() -> None:
    class Careless(Toy):
        """Writes into its action, and keeps it."""

        given: list[np.ndarray] = []  # noqa: RUF012 - one environment

        def step(self, action: np.ndarray) -> tuple:
            result = super().step(action.copy())
            action *= 2.0
            self.given.append(action)
            return result

    env, action = TaskEnv(Careless(), replace(TASK, action_repeat=3)), np.array([0.25], np.float32)
    env.reset()
    assert env.step(action)[0].tolist() == [3, 0.25]
    assert [given.tolist() for given in Careless.given] == [[0.5]] * 3
    assert action.tolist() == [0.25]


def test_repeat_stops_at_the_end_of_the_episode() -> None:
    env = TaskEnv(Toy(terminate_at=3), TASK)
    env.reset()
    env.step(np.zeros(1))
    _, reward, terminated, truncated, info = env.step(np.zeros(1))
    assert (reward, terminated, truncated) == (3.0, True, False)
    assert info["success"].tolist() == [False]


def test_padding() -> None:
    env = TaskEnv(Toy(), TASK, observation_dim=4, action_dim=3)
    assert env.reset()[0].tolist() == [0, 0, 0, 0]
    assert env.step(np.array([0.5, 9.0, 9.0]))[0].tolist() == [2, 0.5, 0, 0]
    with pytest.raises(ValueError, match=r"action must have shape \(3,\), got \(1,\)"):
        env.step(np.zeros(1))


@pytest.mark.parametrize(("action", "native"), [(-3.0, 2.0), (-1.0, 2.0), (0.0, 4.0), (7.0, 6.0)])
def test_actions_are_clipped_and_scaled(action: float, native: float) -> None:
    env = TaskEnv(Toy(low=2.0, high=6.0), TASK)
    env.reset()
    assert env.step(np.array([action]))[0][1] == native


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_action_must_be_finite(value: float) -> None:
    env = TaskEnv(Toy(), TASK)
    env.reset()
    with pytest.raises(ValueError, match="action must be finite, got"):
        env.step(np.array([value]))


def test_step_must_follow_reset() -> None:
    env = TaskEnv(Toy(), TASK)
    with pytest.raises(RuntimeError, match="step must follow reset"):
        env.step(np.zeros(1))
    env.reset()
    for _ in range(3):
        env.step(np.zeros(1))
    with pytest.raises(RuntimeError, match="step must follow reset"):
        env.step(np.zeros(1))


def test_seed_is_for_the_first_reset_only() -> None:
    toy = Toy()
    env = TaskEnv(toy, TASK, seed=5)
    env.reset()
    env.reset()
    env.reset(seed=7)
    env.seed_next_reset(8)
    env.reset()
    env.reset()
    assert toy.seeds == [5, None, 7, 8, None]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_bad_seed(seed: int) -> None:
    with pytest.raises(ValueError, match=r"seed must be an integer in 0\.\.2\*\*32 - 1, got"):
        TaskEnv(Toy(), TASK, seed=seed)
    with pytest.raises(ValueError, match="seed must be"):
        TaskEnv(Toy(), TASK).reset(seed=seed)


def test_spaces_must_be_the_tasks() -> None:
    with pytest.raises(ValueError, match=r"observation_space must be a Box of shape \(3,\)"):
        TaskEnv(Toy(), replace(TASK, observation_dim=3))
    with pytest.raises(ValueError, match="action_space must be a Box"):
        TaskEnv(Toy(), replace(TASK, action_dim=2))
    with pytest.raises(ValueError, match="action_space must be bounded"):
        TaskEnv(Toy(low=-np.inf, high=np.inf), TASK)
    with pytest.raises(ValueError, match="observation_dim must be at least 2, got 1"):
        TaskEnv(Toy(), TASK, observation_dim=1)


class Wrong(gymnasium.Env):
    """Shows observations of a shape of one's choice, and such a reward."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, first: Any, later: Any, reward: float = 0.0) -> None:
        self.first, self.later, self.reward = first, later, reward

    def reset(self, *, seed=None, options=None):
        return self.first, {}

    def step(self, action):
        return self.later, self.reward, False, False, {}


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2)])
def test_observations_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    task = Task("wrong", 300, "mine", 2, 1, episode_length=5)
    bad = np.zeros(shape, np.float32)
    message = rf"observation .* shape \(2,\), got {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=message):
        TaskEnv(Wrong(bad, bad), task).reset()
    env = TaskEnv(Wrong(np.zeros(2), bad), task)
    env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(np.zeros(1))


def test_rewards_that_are_not_finite_are_refused() -> None:
    task = Task("wrong", 300, "mine", 2, 1, episode_length=5)
    env = TaskEnv(Wrong(np.zeros(2), np.zeros(2), float("nan")), task)
    env.reset()
    with pytest.raises(ValueError, match="reward of the environment must be finite, got nan"):
        env.step(np.zeros(1))
