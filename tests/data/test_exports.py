"""Episodes in Minari's layout; the writer itself is Minari's."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pwm_sdk import ReplayBuffer, Task, make_episode, to_minari
from pwm_sdk.data.exports import minari_episodes

TASK = Task("walk", 4, "own", 2, 1, 2)


def episode(terminated: Any = None, first: float = 0.0) -> Any:
    observation = first + torch.arange(9.0).reshape(3, 3)  # one padded entry
    return make_episode(observation, [[0.5, 0.0], [-0.5, 0.0]], [1.0, 2.0], 4, terminated)


def test_an_episode_by_hand() -> None:
    (found,) = minari_episodes([episode()], TASK)
    assert found["observations"].tolist() == [[0, 1], [3, 4], [6, 7]]
    assert found["actions"].tolist() == [[0.5], [-0.5]]  # without row 0 and padding
    assert found["rewards"].tolist() == [1, 2]
    assert found["rewards"].dtype == np.float64
    assert found["terminations"].tolist() == [False, False]
    assert found["truncations"].tolist() == [False, True]


def test_an_episode_that_ended_is_not_truncated() -> None:
    (found,) = minari_episodes([episode([False, True])], TASK)
    assert found["terminations"].tolist() == [False, True]
    assert found["truncations"].tolist() == [False, False]


def test_episodes_of_a_larger_task_are_refused() -> None:
    with pytest.raises(ValueError, match=r"action must have 3 entries of big, got \[3, 2\]"):
        next(minari_episodes([episode()], Task("big", 4, "own", 2, 3, 2)))


def test_a_missing_minari_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r'pip install "pwm-sdk\[minari\]"'):
        to_minari(ReplayBuffer(10, 2, 1), "walk/pwm-v0", TASK)


def test_the_writer_gets_buffers_and_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def create(**arguments: Any) -> str:
        calls.append(arguments)
        return "dataset"

    names = ("minari", "minari.data_collector", "minari.data_collector.episode_buffer")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules[names[0]], "create_dataset_from_buffers", create, raising=False)
    monkeypatch.setattr(sys.modules[names[2]], "EpisodeBuffer", SimpleNamespace, raising=False)
    replay = ReplayBuffer(100, 2, 1)
    for i in range(3):
        replay.add(episode(first=10.0 * i))
    replay.add(make_episode(torch.zeros(3, 3), torch.zeros(2, 2), torch.zeros(2), 5))
    assert to_minari(replay, "walk/pwm-v0", TASK, author="me") == "dataset"
    (call,) = calls
    assert (call["dataset_id"], call["author"]) == ("walk/pwm-v0", "me")
    assert [buffer.id for buffer in call["buffer"]] == [0, 1, 2]
    assert [buffer.observations[0, 0] for buffer in call["buffer"]] == [0, 10, 20]
    assert all(call["observation_space"].contains(x) for x in call["buffer"][2].observations)
    assert all(call["action_space"].contains(x) for x in call["buffer"][2].actions)
    with pytest.raises(ValueError, match="episodes of other, got none"):
        to_minari(replay, "other/pwm-v0", Task("other", 9, "own", 2, 1, 2))
