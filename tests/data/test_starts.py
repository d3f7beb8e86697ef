"""Starts: first observations of windows, a stream of random numbers for each policy."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk import MT80
from pwm_sdk.data.replay import ReplayBuffer, make_episode


def filled(slice_len: int = 3) -> ReplayBuffer:
    """Rows 0..9 and 20..29 of task 0, rows 40..44 of task 1."""
    replay = ReplayBuffer(100, slice_len, 4, seed=0)
    for first, rows, task in ((0, 10, 0), (20, 10, 0), (40, 5, 1)):
        count = first + torch.arange(float(rows))[:, None]
        replay.add(make_episode(count, count[1:] / 100, count[1:], task))
    return replay


def test_starts_are_first_rows_of_windows_and_all_equally_likely() -> None:
    drawn = filled(slice_len=4).starts([0, MT80[1]], 30_000, seeds=[0, 0]).sample()
    assert drawn.batch_size == (2, 30_000)
    assert drawn["observation"].shape == (2, 30_000, 1)
    assert drawn["task"].dtype == torch.int64
    assert drawn["task"].unique(dim=1).tolist() == [[0], [1]]
    assert sorted(drawn.keys()) == ["action", "observation", "real", "task"]  # nothing else is read
    assert drawn["real"].all()
    taken = (drawn["observation"] + 1) / 100  # the action that led to the next row
    assert torch.equal(drawn["action"], taken)
    rows, counts = drawn["observation"][0].unique(return_counts=True)
    assert rows.tolist() == [*range(7), *range(20, 27)]  # the last three rows begin no window
    assert (counts - 30_000 / 14).abs().max() < 5 * (30_000 / 14) ** 0.5
    assert drawn["observation"][1].unique().tolist() == [40, 41]


def test_a_policy_draws_the_same_whoever_is_beside_it() -> None:
    replay = filled()
    together = replay.starts([1, 0, 0], 6, seeds=[7, 8, 7])
    alone = [replay.starts(task, 6, seed) for task, seed in ((1, 7), (0, 8), (0, 7))]
    other = replay.starts([0, 1], 6, seeds=[8, 7])
    for _ in range(3):
        batch, second = together.sample(), other.sample()
        for i, one in enumerate(alone):
            mine = one.sample()
            assert mine.batch_size == (6,)
            assert mine["observation"].equal(batch["observation"][i])
            assert mine["task"].equal(batch["task"][i])
        assert second["observation"].equal(batch["observation"][[1, 0]])
    assert not batch["observation"][1].equal(batch["observation"][2])


def test_the_rest_goes_on_where_it_was() -> None:
    through, shrinking = (filled().starts([1, 0, 0], 6, seeds=[0, 1, 2]) for _ in range(2))
    through.sample(), shrinking.sample()
    shrinking.keep([2, 0])
    assert shrinking.tasks == [0, 1]
    assert shrinking.sample()["observation"].equal(through.sample()["observation"][[2, 0]])
    state = shrinking.generator.get_state()
    ahead = shrinking.sample()["observation"]
    shrinking.generator.set_state(state)
    assert shrinking.sample()["observation"].equal(ahead)


def test_new_episodes_are_drawn_too() -> None:
    replay = filled()
    starts = replay.starts(1, 500, 0)
    starts.sample()
    count = 60 + torch.arange(5.0)[:, None]
    replay.add(make_episode(count, count[1:] / 100, count[1:], 1))
    assert set(starts.sample()["observation"].flatten().tolist()) == {40, 41, 42, 60, 61, 62}


def test_errors_name_the_value() -> None:
    replay = filled()
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        replay.starts(0, 0, 0)
    for tasks, seeds in (([0, 1], [0]), ([0, 1], 0), (0, [0])):
        with pytest.raises(ValueError, match="seeds must be given as tasks are"):
            replay.starts(tasks, 4, seeds)
    with pytest.raises(ValueError, match=r"tasks must be among \[0, 1\], got \[5\]"):
        replay.starts([0, 5], 4, [0, 0]).sample()


def test_starts_come_with_their_history() -> None:
    """Row t of the episode shows t, the action that led there is t / 100."""
    replay = ReplayBuffer(7, slice_len=3, batch_size=2, seed=0)
    for _ in range(2):  # the second one is written around the end of the ring
        rows = torch.arange(6.0)[:, None]
        replay.add(make_episode(rows, rows[1:] / 100, rows[1:, 0], 0))
    batch = replay.sample_starts([0], 200, history=3)
    seen, action, first = (batch[name][0, ..., 0] for name in ("observation", "action", "first"))
    assert seen.shape == action.shape == first.shape == (200, 4)
    assert set(seen[:, -1].tolist()) == set(range(6))
    expected = (seen[:, -1:] + torch.arange(-3, 1)).clamp_min(0)
    assert torch.equal(seen, expected)
    assert torch.equal(first, seen[:, -1:] + torch.arange(-3, 1) <= 0)
    taken = torch.where(first[:, 1:], 0.0, seen[:, 1:] / 100)
    assert torch.equal(action[:, :-1], taken)
    last = torch.where(batch["real"][0, :, 0], (seen[:, -1] + 1) / 100, 0.0)
    assert torch.allclose(action[:, -1], last)
    assert replay.sample_starts([0], 5)["observation"].shape == (1, 5, 1)
