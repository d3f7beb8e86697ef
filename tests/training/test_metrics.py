"""The alarm: what imagination promises against what the environment paid, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.policies.behaviours import LatentBehaviour
from pwm_sdk.training.collect import Episode, run_episodes
from pwm_sdk.training.metrics import exploitation_gap, sample_segments


def episode(positions: list[float], rewards: list[float]) -> Episode:
    steps = len(rewards)
    return Episode(
        np.array(positions, np.float32)[:, None], np.zeros((steps, 1), np.float32),
        np.array(rewards, np.float32), np.zeros(steps, bool), np.zeros(steps, bool),
    )  # fmt: skip


class Stroll:
    """z' = z + a; the reward is the position before the step."""

    latent_dim = action_dim = 1

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        return latent + action, latent


class Ahead(nn.Module):
    """A population of one that always acts 1, plus noise where it is given."""

    action_dim = population = 1

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def loc(self, latent: Tensor) -> Tensor:
        return self.one.expand_as(latent)

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        return loc if noise is None else loc + 100 * noise

    def forward(self, latent: Tensor) -> Tensor:
        return self.loc(latent)


def test_segments_start_anywhere_and_fit() -> None:
    long = episode([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4])
    short = episode([90, 91], [90])
    starts, rewards, ends, ended, _ = sample_segments(
        [[short, long]], 3, 60, np.random.default_rng(0)
    )
    assert starts.shape == ends.shape == (1, 60, 1)
    assert set(starts.flatten()) == {0.0, 1.0, 2.0}  # never the short one
    np.testing.assert_array_equal(ends, starts + 3)
    np.testing.assert_array_equal(rewards, starts + np.arange(3))
    assert not ended.any()
    with pytest.raises(ValueError, match="one of at least 3 steps for policy 1, got none"):
        sample_segments([[long], [short]], 3, 60, np.random.default_rng(0))


def fallen(positions: list[float], rewards: list[float]) -> Episode:
    whole = episode(positions, rewards)
    whole.terminated[-1] = True
    return whole


def test_segments_reach_beyond_a_termination_but_not_beyond_a_cut() -> None:
    mine = [fallen([0, 1, 2], [5.0, 6.0]), episode([90, 91], [90])]
    starts, rewards, ends, ended, _ = sample_segments([mine], 3, 60, np.random.default_rng(0))
    assert {tuple(r) for r in rewards[0]} == {(5.0, 6.0, 0.0), (6.0, 0.0, 0.0)}
    assert set(starts.flatten()) == {0.0, 1.0}
    assert set(ends.flatten()) == {2.0}
    assert ended.all()


class Cliff(Stroll):
    """Ends behind position 1.5."""

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        following, reward = super().step(latent, action)
        return following, reward, following > 1.5


def test_nothing_counts_behind_an_end() -> None:
    # Imagined from 1: reward 1, then over. Really: reward 4, then over; no V(2) = 20 behind it.
    result = exploitation_gap(
        Cliff(), Ahead(), lambda z: 10 * z, [[fallen([1, 2], [4.0])]], [0], 0.5,
        reward_scale=[1.0], horizon=3, count=4, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert result["predicted"].tolist() == [1.0]
    assert result["real"].tolist() == [4.0]
    assert result["value_real"].tolist() == [4.0]


def table(deterministic: bool = True) -> dict[str, np.ndarray]:
    mine = [[episode([0, 1, 2], [6.0, 4.0])]]
    return exploitation_gap(
        Stroll(), Ahead(), lambda z: 10 * z, mine, [0], 0.5, reward_scale=[2.0], horizon=2,
        count=4, rng=np.random.default_rng(0), deterministic=deterministic,
    )  # fmt: skip


def test_the_gap_by_hand() -> None:
    # Imagined from 0: rewards 0 and 1. Real: 6 and 4 in units of 2, so 3 and 2.
    result = table()
    assert result["predicted"].tolist() == [1.0]
    assert result["real"].tolist() == [5.0]
    assert result["gap"].tolist() == [-4.0]
    # V(0) = 0, and really 3 + 2/2 + V(2)/4 = 9.
    assert result["value"].tolist() == [0.0]
    assert result["value_real"].tolist() == [9.0]


def test_noise_only_where_it_is_wanted() -> None:
    assert table(deterministic=False)["predicted"].tolist() != [1.0]


class TruePointMass:
    """The environment's own equations, as a latent model."""

    latent_dim, action_dim = 2, 1

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        velocity = 0.9 * latent[..., 1:] + 0.25 * action
        position = latent[..., :1] + 0.25 * velocity
        return torch.cat([position, velocity], -1), torch.exp(-4 * position.square())


def test_a_true_model_has_no_gap(point_mass) -> None:
    actor = FirstOrderActor.published(2, 1, (8,), population=2)
    pool = EnvPool([point_mass(start=-0.5), point_mass(start=0.3)])
    episodes = run_episodes(pool, LatentBehaviour(TruePointMass(), [actor], [0, 1]), [1, 1])
    result = exploitation_gap(
        TruePointMass(), actor, lambda z: z[..., :1], episodes, [0, 1],
        torch.tensor([0.9, 0.99]), reward_scale=[1.0, 1.0], rng=np.random.default_rng(0),
    )  # fmt: skip
    assert result["real"].min() > 0.0
    np.testing.assert_allclose(result["predicted"], result["real"], rtol=1e-4)
    np.testing.assert_allclose(result["gap"], 0.0, atol=1e-3)


def test_a_model_with_memory_sees_what_came_before_a_segment() -> None:
    class Counting(Stroll):
        def observe(
            self, latent: Tensor, action: Tensor, observation: Tensor, first: Tensor, task=None
        ) -> Tensor:
            return observation + (latent + 100 * action).masked_fill(first, 0.0)

    whole = episode([1, 2, 4, 8], [0, 0, 0])
    late = episode([1, 2, 4, 8, 16], [0, 0, 0, 0])
    late.action[:] = 1.0
    for mine, begins, ends in ((whole, {1.0}, {15.0}), (late, {1.0, 103.0}, {315.0, 431.0})):
        for _ in range(8):
            found = exploitation_gap(
                Counting(), Ahead(), lambda z: z, [[mine]], [0], 1.0, reward_scale=[1.0],
                horizon=3, count=1, rng=np.random.default_rng(_),
            )  # fmt: skip
            assert found["value"].item() in begins
            assert found["value_real"].item() in ends
