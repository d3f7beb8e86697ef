"""Tasks of gymnasium's own environments, with the sizes that these have."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from pwm_sdk import MissingSimulatorError, Task, make_env, make_gym, register_task


def test_a_name_of_gymnasium_is_enough() -> None:
    """Pendulum's torque lies in [-2, 2]; its episodes have 200 steps."""
    env, plain = make_gym("Pendulum-v1", seed=3), gymnasium.make("Pendulum-v1")
    assert (env.task.observation_dim, env.task.action_dim) == (3, 1)
    assert (env.task.episode_length, env.task.action_repeat) == (200, 1)
    seen, _ = env.reset()
    expected, _ = plain.reset(seed=3)
    np.testing.assert_array_equal(seen, expected)
    for action in (-1.0, 0.5, 1.0):
        seen, reward, *_ = env.step(np.array([action], np.float32))
        expected, paid, *_ = plain.step(np.array([2 * action], np.float32))
        np.testing.assert_array_equal(seen, expected)
        assert reward == pytest.approx(paid, rel=1e-6)


def test_the_same_task_comes_back_and_a_torchrl_environment() -> None:
    first, second = make_gym("Pendulum-v1"), make_env("Pendulum-v1")
    assert first.task.index == int(second.reset()["task"])
    assert first.task.index >= 200


def test_a_robot_of_mujoco_needs_no_sizes_by_hand() -> None:
    """HalfCheetah shows 17 numbers, has 6 actions and 1000 steps."""
    pytest.importorskip("imageio")  # of gymnasium[mujoco], which the package alone has not
    task = Task.from_env(partial(gymnasium.make, "HalfCheetah-v5"), "own-cheetah")
    assert task == Task("own-cheetah", -1, "own", 17, 6, 1000, 1, 1.0, 1.0)
    env, batch = make_env("HalfCheetah-v5", seed=3), make_env("HalfCheetah-v5", seed=3, batch=2)
    assert env.action_spec.shape == (6,) and batch.action_spec.shape == (2, 6)
    first, rows = env.reset(), batch.reset()
    np.testing.assert_array_equal(first["observation"], rows["observation"][0])
    plain = gymnasium.make("HalfCheetah-v5")
    seen, _ = plain.reset(seed=3)
    np.testing.assert_array_equal(first["observation"].numpy(), seen.astype(np.float32))
    for made in (env, batch, plain):
        made.close()


def test_a_robot_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """gymnasium's robots import imageio even where nothing is drawn."""
    monkeypatch.delitem(sys.modules, "gymnasium.envs.mujoco.mujoco_rendering", raising=False)
    monkeypatch.setitem(sys.modules, "imageio", None)
    with pytest.raises(MissingSimulatorError, match=r'pip install "gymnasium\[mujoco\]"'):
        make_env("Swimmer-v5")


def test_names_that_gymnasium_does_not_know() -> None:
    with pytest.raises(ValueError, match="got 'Pendulum-v9'; nearest of gymnasium's: Pendulum-v1"):
        make_gym("Pendulum-v9")
    with pytest.raises(ValueError, match="nearest: cheetah-run"):
        make_gym("cheetah-rn")
    with pytest.raises(
        ValueError, match=r"action_space must be a Box of shape \(n,\), got Discrete"
    ):
        make_gym("CartPole-v1")


class Endless(gymnasium.Env):
    """An environment without a time limit or an id."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))
    closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(4, np.float32), 0.0, False, False, {}


def test_sizes_of_an_own_environment() -> None:
    task = Task.from_env(Endless, "endless", episode_length=50, reward_scale=3.0)
    assert task == Task("endless", -1, "own", 4, 2, 50, 1, 3.0, 1.0)
    env = make_gym(register_task(task, Endless))
    assert env.reset()[0].shape == (4,)
    held = partial(gymnasium.make, "Pendulum-v1")
    assert Task.from_env(held, action_repeat=3).episode_length == 67  # 200 / 3, the rest too


@pytest.mark.parametrize(
    ("factory", "details", "message"),
    [
        (Endless, {"name": "endless"}, "episode_length must be given for endless"),
        (Endless, {"episode_length": 5}, "name must be given for an environment without an id"),
        (Endless(), {}, "factory must be a function that makes an environment"),
        (partial(gymnasium.make, "CartPole-v1"), {}, "action_space must be a Box of shape"),
    ],
)
def test_what_cannot_be_read_is_named(factory: Any, details: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Task.from_env(factory, **details)
