"""Behaviours act, episodes come back: quotas, cuts, noise and who acts where."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.training.collect import LatentBehaviour, RandomBehaviour, run_episodes


class Push:
    """Pushes every environment with the same action and notes which ones began an episode."""

    def __init__(self, action: float) -> None:
        self.action, self.started = action, []

    def start(self, index: int) -> None:
        self.started.append(index)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return np.full((len(observation), 1), self.action, np.float32)


class Identity:
    """A model whose latent is the observation plus the task id."""

    def encode(self, observation: Tensor, task: Tensor) -> Tensor:
        return observation + task.unsqueeze(-1)


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


def act(behaviour: RandomBehaviour, steps: int) -> np.ndarray:
    """Actions `[steps, N, A]`."""
    return np.stack([behaviour(np.zeros((1, 1))) for _ in range(steps)])


def test_random_actions_are_uniform_and_seeded() -> None:
    actions = act(RandomBehaviour(3, 2, seed=0), 500)
    assert actions.shape == (500, 3, 2)
    assert actions.dtype == np.float32
    assert abs(actions).max() <= 1.0
    assert actions.mean() == pytest.approx(0.0, abs=0.05)
    assert actions.var() == pytest.approx(1 / 3, abs=0.02)
    np.testing.assert_array_equal(actions, act(RandomBehaviour(3, 2, seed=0), 500))
    assert not np.array_equal(actions, act(RandomBehaviour(3, 2, seed=1), 500))


def test_held_actions_last_and_some_episodes_are_bang_bang_or_white() -> None:
    kinds, behaviour = set(), RandomBehaviour(1, 2, seed=0, hold=5)
    for _ in range(40):
        behaviour.start(0)
        actions = act(behaviour, 100)[:, 0]
        changes = np.flatnonzero((np.diff(actions, axis=0) != 0).any(-1)) + 1
        runs = np.diff([0, *changes, 100])
        extreme = bool((abs(actions) == 1).all())
        kinds.add((extreme, runs.max() > 1))
        if not extreme and runs.max() > 1:
            assert runs.max() <= 5
            assert runs.mean() == pytest.approx(3.0, abs=0.8)
    assert kinds == {(True, True), (False, True), (False, False)}


class Echo(nn.Module):
    """A policy that shows its latent, and adds the noise."""

    def __init__(self, population: int | None = None) -> None:
        super().__init__()
        self.population, self.action_dim, self.gain = population, 1, nn.Parameter(torch.ones(1))

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Tensor:
        if self.population is not None:
            assert latent.shape == (self.population, 1, 1)
        return latent * self.gain if noise is None else latent * self.gain + noise


def test_each_environment_gets_its_policy_and_its_task() -> None:
    behaviour = LatentBehaviour(Identity(), [Echo(2), Echo(1)], tasks=[10, 20, 30])
    actions = behaviour(np.array([[1.0], [2.0], [3.0]], np.float32))
    assert actions.tolist() == [[11.0], [22.0], [33.0]]
    one_for_all = LatentBehaviour(Identity(), [Echo()], tasks=[10, 20])
    assert one_for_all(np.ones((2, 1), np.float32)).tolist() == [[11.0], [21.0]]
    with pytest.raises(ValueError, match=r"actors must cover 3 environments, got \[2\]"):
        LatentBehaviour(Identity(), [Echo(2)], tasks=[0, 1, 2])


def test_a_population_acts_as_its_members_alone() -> None:
    population = FirstOrderActor.published(2, 1, (4,), population=2)
    behaviour = LatentBehaviour(Identity(), [population], tasks=[0, 1])
    observation = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)
    actions = behaviour(observation)
    for i in range(2):
        alone = FirstOrderActor.published(2, 1, (4,))
        alone.load_state_dict({k: v[i] for k, v in population.state_dict().items()})
        expected = alone(torch.from_numpy(observation[i : i + 1] + i))
        np.testing.assert_allclose(actions[i : i + 1], expected.detach(), rtol=1e-5)


def test_noise_is_white_or_correlated_by_episode_with_the_same_spread() -> None:
    behaviour = LatentBehaviour(
        Identity(), [Echo()], [0], rng=np.random.default_rng(0), correlation=0.8
    )
    correlations = []
    for _ in range(12):
        behaviour.start(0)
        noise = np.array([behaviour(np.zeros((1, 1), np.float32))[0, 0] for _ in range(1500)])
        assert noise[20:].std() == pytest.approx(1.0, abs=0.2)
        correlations.append(np.corrcoef(noise[20:-1], noise[21:])[0, 1])
    white = [c for c in correlations if abs(c) < 0.1]
    red = [c for c in correlations if abs(c - 0.8) < 0.1]
    assert len(white) + len(red) == 12
    assert len(white) >= 2
    assert len(red) >= 2


def test_correlated_noise_has_its_spread_from_the_first_step_on() -> None:
    count = 4000
    behaviour = LatentBehaviour(
        Identity(), [Echo(count)], [0] * count, rng=np.random.default_rng(0), correlation=0.8
    )
    for i in range(count):
        behaviour.start(i)
    for _ in range(4):
        spread = behaviour(np.zeros((count, 1), np.float32)).std()
        assert spread == pytest.approx(1.0, abs=0.04)


def test_noise_follows_the_seed_and_is_absent_without_one() -> None:
    def actions(seed: int) -> list[float]:
        behaviour = LatentBehaviour(Identity(), [Echo()], [0], rng=np.random.default_rng(seed))
        behaviour.start(0)
        return [float(behaviour(np.zeros((1, 1), np.float32))[0, 0]) for _ in range(5)]

    assert actions(0) == actions(0)
    assert actions(0) != actions(1)
