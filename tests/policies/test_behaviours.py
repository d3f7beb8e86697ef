"""What acts: uniform and held noise, policies on latents with theirs, memories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.policies.behaviours import LatentBehaviour, RandomBehaviour
from pwm_sdk.policies.policy import ObservationPolicy


class Identity:
    """A model whose latent is the observation plus the task id."""

    def encode(self, observation: Tensor, task: Tensor) -> Tensor:
        return observation + task.unsqueeze(-1)


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

    def loc(self, latent: Tensor) -> Tensor:
        if self.population is not None:
            assert latent.shape == (self.population, 1, 1)
        return latent * self.gain

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        return loc if noise is None else loc + noise

    def forward(self, latent: Tensor) -> Tensor:
        return self.loc(latent)


def test_each_environment_gets_its_policy_and_its_task() -> None:
    behaviour = LatentBehaviour(Identity(), [Echo(2), Echo(1)], tasks=[10, 20, 30])
    actions = behaviour(np.array([[1.0], [2.0], [3.0]], np.float32))
    assert actions.tolist() == [[11.0], [22.0], [33.0]]
    one_for_all = LatentBehaviour(Identity(), [Echo()], tasks=[10, 20])
    assert one_for_all(np.ones((2, 1), np.float32)).tolist() == [[11.0], [21.0]]
    with pytest.raises(ValueError, match=r"actors must cover 3 environments, got \[2\]"):
        LatentBehaviour(Identity(), [Echo(2)], tasks=[0, 1, 2])


def test_a_population_acts_as_its_members_alone() -> None:
    population = FirstOrderActor(2, 1, (4,), population=2)
    behaviour = LatentBehaviour(Identity(), [population], tasks=[0, 1])
    observation = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)
    actions = behaviour(observation)
    for i in range(2):
        alone = FirstOrderActor(2, 1, (4,))
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


class Counting:
    """Carries the number of calls since an episode began, and shows it."""

    def carry(self, seen: Tensor, memory: Any, first: Tensor, task: Any) -> tuple[Tensor, Any]:
        calls = torch.zeros(len(seen)) if memory is None else torch.where(first, 0.0, memory)
        return (seen[:, :1] + 10 * calls.unsqueeze(-1)), calls + 1


def test_a_memory_lasts_as_long_as_its_episode() -> None:
    """The memory counts the calls of each environment since its episode began."""

    behaviour = ObservationPolicy(Counting()).behaviour([None, None])
    seen = np.asarray([[0.0, 9.0], [1.0, 9.0]], np.float32)
    for i in range(2):
        behaviour.start(i)
    assert behaviour(seen).tolist() == [[0.0], [1.0]]
    assert behaviour(seen).tolist() == [[10.0], [11.0]]
    behaviour.start(1)
    assert behaviour(seen).tolist() == [[20.0], [1.0]]
    assert behaviour(seen).tolist() == [[30.0], [11.0]]
