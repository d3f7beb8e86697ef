"""Which windows are drawn: shares, uniformity, the newest episodes, and the cost of a draw."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pwm_sdk.data.replay import ReplayBuffer, make_episode


def numbered(first: int, rows: int, task: int):
    """Return an episode whose observation is `first` plus the number of the row."""
    count = torch.arange(float(rows))[:, None]
    return make_episode(first + count, count[1:] / rows, first + count[1:], task)


def filled(lengths: dict[int, list[int]], slice_len: int = 5, **settings) -> ReplayBuffer:
    """Return a replay with episodes of these lengths, in rows, by task; rows numbered in order."""
    total = sum(map(sum, lengths.values()))
    replay = ReplayBuffer(max(total, slice_len), slice_len, 8, seed=0, **settings)
    first = 0
    for task, task_lengths in lengths.items():
        for rows in task_lengths:
            replay.add(numbered(first, rows, task))
            first += rows
    return replay


def first_rows(batch) -> torch.Tensor:
    return batch["observation"][:, 0, 0].long()


def chi_square(counts: torch.Tensor) -> float:
    """Return the distance of counts from equal ones in standard deviations of its own law."""
    expected = counts.double().mean()
    distance = ((counts - expected) ** 2 / expected).sum()
    freedom = len(counts) - 1
    return float((distance - freedom) / (2 * freedom) ** 0.5)


def test_every_window_is_equally_likely_and_no_other_is_drawn():
    lengths = [5, 50, 500, 5, 17]
    replay = filled({3: lengths})
    valid, first = [], 0
    for rows in lengths:
        valid += range(first, first + rows - 4)
        first += rows
    counts = torch.bincount(first_rows(replay.sample(200_000)), minlength=first)
    assert counts.nonzero().flatten().tolist() == valid
    assert abs(chi_square(counts[valid])) < 4.0


def test_every_window_is_equally_likely_across_tasks_without_weights():
    replay = filled({0: [101] * 4, 1: [501], 2: [5]})
    shares = torch.bincount(replay.sample(4 * 97 + 497 + 1)["task"]).tolist()
    assert shares == [388, 497, 1]  # one window each: 101 rows hold 97 windows, not a third of all


@pytest.mark.parametrize("batch_size", [8, 37, 288])
def test_weighted_shares_are_exact_up_to_rounding_in_every_batch(batch_size):
    weights = {4: 1.0, 9: 2.0, 6: 5.0}
    replay = filled({9: [7], 4: [500], 6: [20, 30], 1: [40]}, task_weights=weights)
    total = torch.zeros(3)
    for _ in range(200):
        tasks = replay.sample(batch_size)["task"]
        assert (tasks.diff() >= 0).all()
        counts = torch.stack([(tasks == task).sum() for task in (4, 6, 9)])
        exact = batch_size * torch.tensor([1.0, 5.0, 2.0]) / 8
        assert counts.sum() == batch_size
        assert ((counts - exact).abs() < 1.0).all()
        total += counts
    torch.testing.assert_close(total / 200, exact, rtol=0, atol=0.15)


def test_a_weighted_task_is_uniform_too():
    replay = filled({0: [50, 500], 1: [10]}, task_weights={0: 3, 1: 1})
    batch = replay.sample(100_000)
    counts = torch.bincount(first_rows(batch)[batch["task"] == 0])
    assert abs(chi_square(counts[counts > 0])) < 4.0
    assert (counts > 0).sum() == 46 + 496


def test_recent_windows_come_from_the_newest_tenth_and_at_least_five():
    replay = filled({0: [10] * 100, 1: [10] * 8}, recent=0.5, task_weights={0: 1, 1: 1})
    batch = replay.sample(40_000)
    episode, task = first_rows(batch) // 10, batch["task"]
    newest = torch.where(task == 0, (episode >= 90) & (episode < 100), episode >= 103)
    for number, chance in ((0, 0.5 + 0.5 * 10 / 100), (1, 0.5 + 0.5 * 5 / 8)):
        share = newest[task == number].double().mean().item()
        assert share == pytest.approx(chance, abs=0.015)  # 4 standard deviations of 20,000 draws


@pytest.mark.parametrize("episodes", [1, 3])
def test_recent_only_draws_nothing_older_and_works_with_few_episodes(episodes):
    replay = filled({0: [10] * episodes}, recent=1.0)
    assert set((first_rows(replay.sample(200)) // 10).tolist()) == set(range(episodes))
    replay = filled({0: [10] * 60}, recent=1.0)
    assert (first_rows(replay.sample(2000)) // 10).unique().tolist() == [54, 55, 56, 57, 58, 59]


def test_starts_are_uniform_over_all_rows_of_the_task():
    replay = filled({2: [5, 50], 5: [30]})
    starts = replay.sample_starts([5, 2, 2], 40_000)
    assert starts["task"][:, 0].tolist() == [5, 2, 2]
    rows = starts["observation"][..., 0].long()
    for policy, (low, high) in enumerate([(55, 85), (0, 55), (0, 55)]):
        counts = torch.bincount(rows[policy], minlength=high)
        assert counts[:low].sum() == 0
        assert abs(chi_square(counts[low:high])) < 4.0


class Work(TorchDispatchMode):
    """Counts the numbers written by tensor operations; views write none."""

    written = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        fresh = all(output.alias_info is None for output in func._schema.returns)
        if fresh and isinstance(result, torch.Tensor):
            self.written += result.numel()
        return result


def work_of_a_draw(episodes: int, draw) -> int:
    replay = filled({0: [20] * episodes, 1: [20] * episodes}, recent=0.2)
    draw(replay)  # the first draw after adding sets up the tables
    with Work() as work:
        draw(replay)
    return work.written


@pytest.mark.parametrize(
    "draw",
    [lambda r: r.sample(64), lambda r: r.sample_starts([0, 1], 16)],
    ids=["sample", "starts"],
)
def test_the_work_of_a_draw_does_not_grow_with_the_replay(draw):
    small, large = work_of_a_draw(4, draw), work_of_a_draw(400, draw)
    assert 0 < small == large
