"""Environments by name: TorchRL contract, padding, own tasks."""

import re
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
import torch
from torchrl.envs import EnvBase, SerialEnv, check_env_specs

from pwm_sdk.envs import factory
from pwm_sdk.envs.factory import make_env, make_gym, register_task
from pwm_sdk.tasks import MT30, MT80, Task

PENDULUM = Task("my-pendulum", -1, "mine", 3, 1, episode_length=20, action_repeat=1)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict:
    """An empty registry for one test."""
    monkeypatch.setattr(factory, "_REGISTERED", {})
    return factory._REGISTERED


def make_pendulum() -> gymnasium.Env:
    return gymnasium.make("Pendulum-v1")


@pytest.mark.parametrize("name", ["walker-walk", "mw-reach"])
def test_keys_shapes_and_types(name: str) -> None:
    env, task = make_env(name, seed=0), MT80[name]
    rollout = env.rollout(3)
    following = rollout["next"]
    for step in (rollout, following):
        assert step["observation"].shape == (3, task.observation_dim)
        assert step["observation"].dtype == torch.float32
        assert step["task"].tolist() == [task.index] * 3  # an index, never a one-hot
        assert step["task"].dtype == torch.int64
        for key in ("done", "terminated", "truncated", "success"):
            assert step[key].shape == (3, 1)
            assert step[key].dtype == torch.bool
    assert rollout["action"].shape == (3, task.action_dim)
    assert rollout["action"].dtype == following["reward"].dtype == torch.float32
    assert following["reward"].shape == (3, 1)
    assert env.action_spec.space.low.eq(-1).all()
    assert env.action_spec.space.high.eq(1).all()


def test_one_rollout_is_one_episode() -> None:
    """The action repeat never steps through a reset, and the end of time is a truncation."""
    rollout = make_env("mw-reach", seed=0).rollout(150)
    assert len(rollout) == 100
    assert not rollout["next", "terminated"].any()
    assert rollout["next", "truncated"].squeeze(-1).tolist() == [False] * 99 + [True]


def test_padded_tasks_stack_densely() -> None:
    names = ["pendulum-swingup", "mw-reach"]
    env = SerialEnv(2, [lambda name=name: make_env(name, padded=True) for name in names])
    rollout = env.rollout(2)
    assert rollout["observation"].shape == (2, 2, 39)
    assert rollout["action"].shape == (2, 2, 6)
    assert rollout["task"].tolist() == [[7, 7], [65, 65]]
    assert rollout["observation"][0, :, 3:].eq(0).all()
    env.close()


def test_padding_of_a_smaller_set() -> None:
    env = make_env("hopper-hop", padded=True, tasks=MT30)
    assert env.observation_spec["observation"].shape == (24,)
    assert env.action_spec.shape == (6,)
    assert env.observation_spec["task"].n == 30
    with pytest.raises(ValueError, match="known name, got 'mw-reach'"):
        make_env("mw-reach", tasks=MT30)


def test_task_tensor_belongs_to_its_step() -> None:
    env = make_env("pendulum-swingup", seed=0)
    first = env.reset()
    first["task"].fill_(0)
    assert env.reset()["task"].item() == 7


def test_own_task(registry: dict) -> None:
    task = register_task(PENDULUM, make_pendulum)
    assert task.index == 200
    env = make_env("my-pendulum", seed=1, padded=True)
    assert isinstance(env, EnvBase)
    check_env_specs(env)
    env.set_seed(1)
    rollout = env.rollout(50)
    assert rollout["next", "observation"].shape == (20, 39)
    assert rollout["task"].unique().tolist() == [200]
    assert make_gym(task, seed=1).reset()[0] == pytest.approx(rollout["observation"][0, :3])


def test_own_tasks_get_their_own_indices(registry: dict) -> None:
    register_task(PENDULUM, make_pendulum)
    given = Task("given", 210, "mine", 3, 1, 20)
    assert register_task(given, make_pendulum).index == 210
    assert register_task(Task("next", -1, "mine", 3, 1, 20), make_pendulum).index == 211
    assert register_task(PENDULUM, make_pendulum).index == 200  # again: replaced, same index


def test_bad_registrations(registry: dict) -> None:
    with pytest.raises(ValueError, match="name must not be"):
        register_task(Task("mw-reach", -1, "mine", 3, 1, 20), make_pendulum)
    with pytest.raises(ValueError, match="name must not be one of the built-in tasks, got 'dog-r"):
        register_task(Task("dog-run", -1, "mine", 3, 1, 20), make_pendulum)
    with pytest.raises(ValueError, match="index must not be taken by another task, got 5"):
        register_task(Task("five", 5, "mine", 3, 1, 20), make_pendulum)
    register_task(PENDULUM, make_pendulum)
    with pytest.raises(ValueError, match="got 200"):
        register_task(Task("other", 200, "mine", 3, 1, 20), make_pendulum)
    with pytest.raises(ValueError, match="registered with register_task, got 'unknown'"):
        make_gym(Task("unknown", 99, "mine", 3, 1, 20))


@pytest.mark.parametrize("make", [make_env, make_gym])
@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("walker-wlk", "walker-walk"),
        ("cup-spn", "cup-spin"),
        ("drawer-opn", "mw-drawer-open"),
        ("reacher-three-medium", "reacher-three"),
        ("humanoid-forwar", "humanoid-forward"),
    ],
)
def test_unknown_task(make: Callable, name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"known name, got '{name}'; nearest: {nearest}"):
        make(name)


@pytest.mark.parametrize("name", ["walker-walk", "reacher-three-easy", "mw-reach"])
@pytest.mark.parametrize("padded", [False, True])
def test_action_of_the_wrong_shape(name: str, padded: bool) -> None:
    env = make_env(name, seed=0, padded=padded)
    size = 6 if padded else MT80[name].action_dim
    start = env.reset()
    for shape in ((size - 1,), (size + 1,), (1, size), ()):
        message = rf"action must have shape \({size},\), got {re.escape(str(shape))}"
        with pytest.raises(ValueError, match=message):
            env.step(start.clone().set("action", torch.zeros(shape)))
        with pytest.raises(ValueError, match=message):
            env.gym_env.step(np.zeros(shape))


def test_an_environment_is_registered_as_a_function_that_makes_it():
    task = Task("made", -1, "mine", 2, 1, episode_length=5)
    with pytest.raises(ValueError, match="factory must be a function that makes an environment"):
        register_task(task, gymnasium.Env())
