"""Behaviours act, episodes come back: quotas, cuts, noise and who acts where."""

from __future__ import annotations

import numpy as np
import pytest

from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.training.collect import run_episodes


class Push:
    """Pushes every environment with the same action and notes which ones began an episode."""

    def __init__(self, action: float) -> None:
        self.action, self.started = action, []

    def start(self, index: int) -> None:
        self.started.append(index)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return np.full((len(observation), 1), self.action, np.float32)


def test_an_episode_by_hand(point_mass) -> None:
    pool = EnvPool([point_mass(start=0.0, length=2)])
    ((episode,),) = run_episodes(pool, Push(1.0), [1])
    # v = .25, then .475; p = .0625, then .18125.
    np.testing.assert_allclose(
        episode.observation, [[0, 0], [0.0625, 0.25], [0.18125, 0.475]], rtol=1e-6
    )
    np.testing.assert_array_equal(episode.action, [[1.0], [1.0]])
    reward = np.exp([-4 * 0.0625**2, -4 * 0.18125**2])
    np.testing.assert_allclose(episode.reward, reward, rtol=1e-6)
    assert episode.total == pytest.approx(reward.sum(), rel=1e-6)
    assert episode.success.tolist() == [True, True]
    assert episode.terminated.tolist() == [False, False]
    assert {a.dtype for a in (episode.observation, episode.action, episode.reward)} == {
        np.dtype(np.float32)
    }


def test_quotas_cuts_and_ends(point_mass) -> None:
    pool = EnvPool([point_mass(start=0.0), point_mass(start=0.0, wall=0.1), point_mass()])
    behaviour, steps = Push(1.0), []
    episodes = run_episodes(
        pool, behaviour, [2, 3, 0], lengths=[7, 7, 7], on_step=lambda: steps.append(1)
    )
    assert [len(mine) for mine in episodes] == [2, 3, 0]
    assert [len(e.reward) for e in episodes[0]] == [7, 7]  # cut, but not ended
    assert not any(e.terminated.any() for e in episodes[0])
    # p = .0625, .18125: beyond the wall at the second step.
    assert [len(e.reward) for e in episodes[1]] == [2, 2, 2]
    assert all(e.terminated.tolist() == [False, True] for e in episodes[1])
    assert sorted(behaviour.started) == [0, 0, 1, 1, 1]
    assert len(steps) == 14  # in lockstep: the longest, two episodes of 7 steps


def test_quotas_and_lengths_must_fit(point_mass) -> None:
    pool = EnvPool([point_mass(), point_mass()])
    with pytest.raises(ValueError, match=r"quota and lengths must have one entry per .* \(2\)"):
        run_episodes(pool, Push(0.0), [1])
    with pytest.raises(ValueError, match="quota and lengths must have one entry"):
        run_episodes(pool, Push(0.0), [1, 1], lengths=[5])
