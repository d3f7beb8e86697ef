"""Episodes that are cut before they are as long as a window: left out, counted, and not fatal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.contract.pools import PoolStep
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.training.online import GrowingBatch, Learner, RoundConfig


class Scripted:
    """A pool of one environment whose episodes have given lengths; the last state is far off."""

    def __init__(self, lengths: Sequence[int], terminates: bool) -> None:
        self.lengths, self.terminates, self.max_steps = iter(lengths), terminates, None
        self.tasks, self.action_dims, self.names = [0], [1], ["scripted"]

    def __len__(self) -> int:
        return 1

    def reset_many(self, indices: Any, seeds: Any = None) -> list[np.ndarray]:
        if not indices:
            return []
        self.left, self.steps = next(self.lengths), 0
        return [np.zeros(2, np.float32)]

    def step_many(self, indices: Any, actions: np.ndarray) -> list[PoolStep]:
        self.left, self.steps = self.left - 1, self.steps + 1
        over = not self.left
        seen = np.float32([self.steps, 1000.0 * (over and self.terminates)])
        return [PoolStep(seen, 1.0, False, over and self.terminates, over and not self.terminates)]

    def close(self) -> None:
        pass


def loop_of(lengths: Sequence[int], terminates: bool = False) -> GrowingBatch:
    torch.manual_seed(0)
    model = WorldModel.published(
        2, 1, latent_dim=8, hidden=(8,), encoder_hidden=(8,), simnorm_size=4, num_bins=0,
        standardize=True, episodic=terminates,
    )  # fmt: skip
    pwm = PWM(
        model, FirstOrderActor.published(8, 1, (8,)), Critic.published(8, (8,), 1),
        PWMConfig.paper(horizon=2, critic_epochs=1, critic_splits=1),
    )  # fmt: skip
    return GrowingBatch(
        Scripted(lengths, terminates),
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3),
        [Learner(pwm, [0], starts=64)],
        ReplayBuffer(500, 5, 8, seed=0),
        RoundConfig(updates=1, first_updates=1),
        reward_scale=[1.0],
        lengths=[50],
        episodes=[3],
    )


def test_short_ones_are_left_out_and_counted() -> None:
    loop = loop_of([2, 9, 3, 9, 2, 4, 3, 2, 1])
    loop.collect_seed([3])
    assert (loop.replay.num_episodes(), loop.left_out) == (1, 2)
    reports = [loop.run_round(0.0), loop.run_round(0.5)]  # of the last three none is kept
    assert [len(e) for e in loop.replay.episodes()] == [10, 10, 5]
    assert [report.left_out for report in reports] == [1, 3]
    assert loop.left_out == 6
    assert np.isfinite(reports[-1].train_return).all()
    again = loop_of([9, 9, 9])
    again.load_state_dict(loop.state_dict())
    assert again.left_out == 6


def test_only_short_ones_are_an_error_that_says_what_is_needed() -> None:
    loop = loop_of([2, 3])
    message = "environment of task 0 must play episodes of at least 4 steps.*, got 3 at most"
    with pytest.raises(ValueError, match=message):
        loop.collect_seed([2])


def test_a_short_one_that_terminated_is_kept_and_its_end_starts_nothing() -> None:
    loop = loop_of([1, 2, 3, 9], terminates=True)
    loop.collect_seed([4])
    assert (loop.replay.num_episodes(), loop.left_out) == (4, 0)
    starts = loop.replay.sample_starts([0], 2000)["observation"]
    assert float(starts[..., 1].max()) == 0.0
    assert float(loop.replay.statistics(0)["reward_mean"]) == 1.0
    assert float(loop.replay.statistics(0)["reward_var"]) == 0.0
    assert float(loop.reward_weight[0]) == 20.0
    loop.improve(2)
