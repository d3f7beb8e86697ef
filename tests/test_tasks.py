"""The task tables, look-ups and padding."""

from dataclasses import replace

import pytest

from pwm_sdk.tasks import (
    BUILT_IN,
    FIRST_OWN_INDEX,
    MT30,
    MT80,
    SINGLE_TASKS,
    Task,
    TaskSet,
)


def test_sizes_and_order() -> None:
    assert len(MT30) == 30
    assert len(MT80) == 80
    assert [task.index for task in MT80] == list(range(80))
    assert MT80.names[:30] == MT30.names
    assert (MT30.observation_dim, MT30.action_dim) == (24, 6)
    assert (MT80.observation_dim, MT80.action_dim) == (39, 6)


@pytest.mark.parametrize(
    ("name", "index", "observation_dim", "action_dim"),
    [
        ("walker-stand", 0, 24, 6),
        ("acrobot-swingup", 6, 6, 1),
        ("cartpole-swingup-sparse", 11, 5, 1),
        ("fish-swim", 16, 24, 5),
        ("hopper-hop", 18, 15, 4),
        ("reacher-three-hard", 27, 8, 3),
        ("pendulum-spin", 29, 3, 1),
        ("mw-assembly", 30, 39, 4),
        ("mw-reach", 65, 39, 4),
        ("mw-hand-insert", 79, 39, 4),
    ],
)
def test_entries(name: str, index: int, observation_dim: int, action_dim: int) -> None:
    task = MT80[name]
    assert task is MT80[index]
    assert (task.index, task.observation_dim, task.action_dim) == (
        index,
        observation_dim,
        action_dim,
    )


def test_suites() -> None:
    assert [task.suite for task in MT80] == ["dmcontrol"] * 30 + ["metaworld"] * 50
    assert [task.index for task in MT80 if task.custom] == list(range(19, 30))
    assert {task.episode_length for task in MT30} == {500}
    assert {task.episode_length for task in MT80 if task.suite == "metaworld"} == {100}
    assert {task.action_repeat for task in MT80} == {2}


def test_single_tasks_grow_and_share_the_indices_of_mt80() -> None:
    sizes = {task.action_dim for task in SINGLE_TASKS}
    assert sizes == {1, 2, 4, 5, 6, 12, 14, 21, 38, 76, 152, 159, 168}
    assert SINGLE_TASKS["walker-walk"] is MT80["walker-walk"]
    others = [task for task in SINGLE_TASKS if task not in MT80]
    assert all(len(MT80) <= task.index < FIRST_OWN_INDEX for task in others)
    assert set(BUILT_IN) == {*MT80, *SINGLE_TASKS, BUILT_IN["soft-body"]}
    ending = {task.name for task in BUILT_IN if task.terminates}
    assert ending == {"hopper-forward", "humanoid-forward", "muscle-humanoid"}


def test_discount() -> None:
    assert MT80["walker-run"].discount == pytest.approx(0.99)  # f = 100
    assert MT80["mw-reach"].discount == pytest.approx(0.95)  # f = 20
    assert replace(MT80["mw-reach"], episode_length=1).discount == 0.95
    assert replace(MT80["mw-reach"], episode_length=10_000).discount == 0.995


def test_score() -> None:
    assert MT80["walker-run"].score(episode_return=250.0, success=1.0) == 0.25
    assert MT80["mw-reach"].score(episode_return=250.0, success=1.0) == 1.0


def test_bare_meta_world_name() -> None:
    assert MT80["reach"] is MT80["mw-reach"]
    assert "reach" in MT80
    assert "reach" not in MT30


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"got 'walker-rn'; nearest: walker-run"):
        MT80["walker-rn"]
    with pytest.raises(ValueError, match="nearest: mw-reach"):
        MT80["reech"]


@pytest.mark.parametrize("index", [-1, 80])
def test_unknown_index(index: int) -> None:
    with pytest.raises(ValueError, match=f"got {index}"):
        MT80[index]


def test_subset_keeps_indices_and_padding() -> None:
    subset = MT80.subset(["mw-reach", 3, MT80["walker-run"]])
    assert subset.names == ("mw-reach", "cheetah-run", "walker-run")
    assert [task.index for task in subset] == [65, 3, 2]
    assert (subset.observation_dim, subset.action_dim) == (39, 6)
    assert subset[65].name == "mw-reach"
    assert MT80["walker-walk"] not in subset
    assert MT80.subset(["pendulum-spin"]).observation_dim == 39


def test_own_set() -> None:
    own = Task("my-env", 80, "mine", 50, 7, 10)
    tasks = TaskSet([*MT80, own])
    assert (tasks.observation_dim, tasks.action_dim, len(tasks)) == (50, 7, 81)
    assert tasks == TaskSet([*MT80, own])
    assert hash(tasks) == hash(TaskSet([*MT80, own]))
    assert tasks != MT80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "name must"),
        ({"index": -2}, "index must"),
        ({"action_dim": 0}, "action_dim must"),
        ({"episode_length": 0}, "episode_length must"),
    ],
)
def test_bad_task(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(MT80[0], **options)


def test_bad_set() -> None:
    with pytest.raises(ValueError, match="at least one task"):
        TaskSet([])
    with pytest.raises(ValueError, match="unique"):
        TaskSet([MT80[0], MT80[0]])
    with pytest.raises(
        ValueError, match="observation_dim must be at least 24 to hold every task, got 10"
    ):
        TaskSet(MT30, observation_dim=10)
