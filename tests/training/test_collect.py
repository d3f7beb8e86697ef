"""Behaviours act, episodes come back: quotas, cuts, noise and who acts where."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor
from torchrl.envs import GymWrapper, SerialEnv

from pwm_sdk.envs.any_pool import make_pool
from pwm_sdk.envs.factory import make_env
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.policies.behaviours import RandomBehaviour
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.training.collect import run_episodes
from pwm_sdk.training.evaluate import evaluate
from pwm_sdk.training.transitions import transitions


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


def test_episodes_and_transitions_are_the_same_steps(point_mass) -> None:
    def pool() -> EnvPool:
        return EnvPool([point_mass(start=0.0, wall=0.3), point_mass(start=0.5, length=4)])

    episodes = run_episodes(pool(), Push(1.0), [2, 2])
    batch = next(transitions(pool(), Push(1.0), 6))
    for i, mine in enumerate(episodes):
        after = np.concatenate([e.observation[1:] for e in mine])[:6]
        before = np.concatenate([e.observation[:-1] for e in mine])[:6]
        np.testing.assert_array_equal(batch["next", "observation"][i], after)
        np.testing.assert_array_equal(batch["observation"][i], before)
        paid = np.concatenate([e.reward for e in mine])[:6]
        np.testing.assert_array_equal(batch["next", "reward"][i, :, 0], paid)


@pytest.mark.parametrize("kind", ["vector", "torchrl", "simulator"])
def test_every_kind_of_pool_feeds_both_doors(point_mass, kind: str) -> None:
    made = {
        "vector": lambda: gymnasium.vector.SyncVectorEnv([point_mass] * 2),
        "torchrl": lambda: SerialEnv(2, lambda: GymWrapper(point_mass())),
        "simulator": lambda: make_env("mass-spring", batch=2, seed=0),
    }[kind]()
    pool = make_pool(made)
    width = pool.action_dims[0]
    episodes = run_episodes(pool, RandomBehaviour(2, width, 0), [2, 1], seeds=[3, 4])
    length = 120 if kind == "simulator" else 40
    assert [[len(e.reward) for e in mine] for mine in episodes] == [[length] * 2, [length]]
    assert not np.array_equal(episodes[0][0].observation[0], episodes[0][1].observation[0])
    cut = run_episodes(pool, RandomBehaviour(2, width, 0), [1, 2], lengths=[5, 7])
    assert [[len(e.reward) for e in mine] for mine in cut] == [[5], [7, 7]]
    batch = next(transitions(pool, RandomBehaviour(2, width, 0), length + 1))
    assert batch["next", "truncated"][:, length - 1].all()
    assert batch["next", "truncated"].sum() + batch["next", "terminated"].sum() == 2
    last, fresh = batch["next", "observation"][:, length - 1], batch["observation"][:, length]
    assert not torch.equal(last, fresh)
    assert (
        evaluate(pool, ObservationPolicy(lambda seen: torch.zeros(len(seen), width)), 4)["episodes"]
        == 4
    )
