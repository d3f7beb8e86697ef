"""Episodes in Minari's layout, and as data sets that Minari loads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import torch

from pwm_sdk import ReplayBuffer, Task, make_episode, to_minari
from pwm_sdk.data.minari_files import minari_episodes

SMALL: dict[str, Any] = {"slice_len": 3, "batch_size": 2}
TASK = Task("walk", 4, "own", 2, 1, 2)
ABOUT = {"author": "me", "author_email": "me@here", "code_permalink": "https://here/v1"}
ABOUT |= {"algorithm_name": "random", "description": "three episodes by hand"}
# Minari misses an environment that gymnasium knows by name, which ours are not.
pytestmark = pytest.mark.filterwarnings("ignore:.*(eval_env. is set to None|env_spec is None)")


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


def test_minari_loads_the_episodes_that_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    replay = ReplayBuffer(100, 2, 1)
    for i in range(3):
        replay.add(episode([False, i == 2], first=10.0 * i))
    replay.add(make_episode(torch.zeros(3, 3), torch.zeros(2, 2), torch.zeros(2), 5))
    written = to_minari(replay, "own/walk/pwm-v0", TASK, **ABOUT)
    assert (written.total_episodes, written.total_steps) == (3, 6)
    found = minari.load_dataset("own/walk/pwm-v0")
    assert (found.total_episodes, found.total_steps) == (3, 6)
    assert found.storage.metadata["author"] == {"me"}
    assert (found.observation_space.shape, found.action_space.shape) == ((2,), (1,))
    for i, loaded in enumerate(found.iterate_episodes()):
        first = 10.0 * i
        assert loaded.id == i and "infos" in repr(loaded)
        rows = [[first, first + 1], [first + 3, first + 4], [first + 6, first + 7]]
        assert loaded.observations.tolist() == rows  # without the padded entry
        assert loaded.observations[0] in found.observation_space
        assert loaded.actions.tolist() == [[0.5], [-0.5]]
        assert loaded.rewards.tolist() == [1.0, 2.0]
        assert loaded.terminations.tolist() == [False, i == 2]
        assert loaded.truncations.tolist() == [False, i != 2]
    with pytest.raises(ValueError, match="already exists"):
        to_minari(replay, "own/walk/pwm-v0", TASK, **ABOUT)


def test_a_folder_without_the_task_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    replay = ReplayBuffer(100, 2, 1)
    replay.add(episode())
    replay.save(tmp_path / "data")
    with pytest.raises(ValueError, match="episodes of other, got none"):
        to_minari(tmp_path / "data", "other/pwm-v0", Task("other", 9, "own", 2, 1, 2))
    assert not list(tmp_path.glob("minari/**/data"))
    assert to_minari(tmp_path / "data", "walk/pwm-v0", TASK, **ABOUT).total_episodes == 1


class Dataset:
    """What is used of a `minari.MinariDataset`."""

    def __init__(self, low: float, high: float) -> None:
        from gymnasium.spaces import Box

        self.action_space = Box(low, high, (1,))

    def iterate_episodes(self) -> Any:
        from types import SimpleNamespace

        steps = np.zeros(3, bool)
        yield SimpleNamespace(
            observations=np.arange(4.0)[:, None],
            actions=np.array([[0.0], [1.0], [2.0]]),
            rewards=np.ones(3),
            terminations=np.array([False, False, True]),
            truncations=steps,
        )


def test_episodes_of_minari() -> None:
    replay = ReplayBuffer.from_minari(Dataset(0.0, 2.0), **SMALL)
    (episode,) = replay.episodes()
    assert episode["observation"][:4, 0].tolist() == [0, 1, 2, 3]
    assert episode["action"][1:4, 0].tolist() == [-1, 0, 1]
    assert episode["terminated"][3]
    with pytest.raises(ValueError, match="dataset must have actions of a bounded Box"):
        ReplayBuffer.from_minari(Dataset(-np.inf, np.inf), **SMALL)


def test_out_to_minari_and_back(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rng = np.random.default_rng(0)
    source = ReplayBuffer(100, 3, 2)
    parts = rng.normal(size=(6, 2)), rng.uniform(-1, 1, (5, 1)), rng.normal(size=5)
    source.add(make_episode(*parts, task=0))
    to_minari(source, "own/task-v0", Task("own", 0, "own", 2, 1, 5), **ABOUT)
    (episode,) = ReplayBuffer.from_minari("own/task-v0", **SMALL).episodes()
    (expected,) = source.episodes()
    for key in ("observation", "action", "reward", "terminated"):
        torch.testing.assert_close(episode[key], expected[key], equal_nan=True)
