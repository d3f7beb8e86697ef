"""Flat arrays of steps, as D4RL has them, cut into episodes."""

from __future__ import annotations

import numpy as np
import pytest
from tensordict import TensorDict

from pwm_sdk import ReplayBuffer
from pwm_sdk.data.arrays import array_episodes


def seen_of(episodes: list[TensorDict]) -> list[list[float]]:
    return [episode["observation"][:, 0].tolist() for episode in episodes]


FLAT = (
    np.arange(6.0)[:, None], np.zeros((6, 1)), np.arange(6.0),
    np.array([0, 0, 1, 0, 0, 0]), np.array([0, 0, 0, 0, 1, 0]),
)  # fmt: skip


def test_flat_arrays_with_and_without_next_observations() -> None:
    """By hand: steps 0 to 2 terminate, 3 and 4 are cut, 5 is alone."""
    episodes = array_episodes(*FLAT)
    assert seen_of(episodes) == [[0, 1, 2, 2], [3, 4]]
    assert episodes[0]["reward"][1:, 0].tolist() == [0, 1, 2]
    assert episodes[1]["reward"][1:, 0].tolist() == [3]
    episodes = array_episodes(*FLAT, next_observations=np.arange(6.0)[:, None] + 0.5)
    assert seen_of(episodes) == [[0, 1, 2, 2.5], [3, 4, 4.5], [5, 5.5]]
    replay = ReplayBuffer.from_arrays(*FLAT, slice_len=4, batch_size=1)
    assert (replay.num_episodes(), replay.left_out) == (1, 1)


def test_arrays_of_several_lengths_are_named() -> None:
    with pytest.raises(ValueError, match=r"rewards must have 6 entries as observations, got \[5\]"):
        array_episodes(FLAT[0], FLAT[1], FLAT[2][:5], FLAT[3])
