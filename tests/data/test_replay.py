"""The replay: hand-computed batches, the ring, the traps of other samplers, and its state."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk import MT80
from pwm_sdk.data.replay import ReplayBuffer, make_episode


def numbered(first: int, rows: int, task: int = 0, terminated=None):
    """Return an episode with observation `first + row`, action / 1e4 and reward * 10 of it."""
    count = first + torch.arange(float(rows))[:, None]
    return make_episode(count, count[1:] / 1e4, 10 * count[1:], task, terminated)


def filled(capacity: int = 100, slice_len: int = 3, batch_size: int = 4, **settings):
    """Return a replay of two tasks: rows 0..9 and 20..29 of task 0, rows 40..44 of task 1."""
    replay = ReplayBuffer(capacity, slice_len, batch_size, **{"seed": 0, **settings})
    for first, rows, task in ((0, 10, 0), (20, 10, 0), (40, 5, 1)):
        replay.add(numbered(first, rows, task))
    return replay


def same(left, right) -> bool:
    """Whether two TensorDicts are equal to the bit."""
    return left.keys() == right.keys() and all(v.equal(right[k]) for k, v in left.items())


def test_the_only_window_of_one_short_episode():
    replay = ReplayBuffer(capacity=10, slice_len=3, batch_size=2)
    replay.add(numbered(5, rows=3, task=4, terminated=[False, True]))
    batch = replay.sample()
    assert batch.batch_size == (2,)
    assert batch["observation"].tolist() == [[[5], [6], [7]]] * 2
    torch.testing.assert_close(batch["action"], torch.tensor([[[0.0006], [0.0007]]] * 2))
    assert batch["reward"].tolist() == [[[60], [70]]] * 2
    assert batch["terminated"].tolist() == [[[False], [True]]] * 2
    assert batch["task"].tolist() == [4, 4]
    assert batch["task"].dtype == torch.int64


def test_windows_are_consecutive_rows_of_one_episode_with_their_own_steps():
    batch = filled().sample(5000)
    observation = batch["observation"][..., 0]
    assert (observation.diff(dim=1) == 1).all()  # adjacent episodes, 9 and 20, never merge
    torch.testing.assert_close(batch["action"][..., 0], observation[:, 1:] / 1e4)
    torch.testing.assert_close(batch["reward"][..., 0], observation[:, 1:] * 10)
    assert batch["task"].equal((observation[:, 0] >= 40).long())


def test_neighbours_with_equal_rows_do_not_merge():
    replay = ReplayBuffer(100, slice_len=4, batch_size=64, seed=0)
    for _ in range(10):
        replay.add(numbered(0, rows=4))
    assert (replay.sample(1000)["observation"][..., 0] == torch.arange(4.0)).all()


def test_the_fillers_of_row_0_never_leave_sample():
    replay = filled(slice_len=2)
    assert replay.episodes()[0]["reward"][0].isnan().all()
    batch = replay.sample(5000)
    assert (batch["observation"][:, 0, 0] == 0).any()
    assert all(batch[name].isfinite().all() for name in ("observation", "action", "reward"))


def test_steps_not_episodes_are_equally_likely():
    replay = ReplayBuffer(1000, slice_len=2, batch_size=700, seed=0)
    for task, rows in ((0, 101), (1, 501)):
        replay.add(numbered(0, rows, task))
    assert replay.sample(600)["task"].bincount().tolist() == [100, 500]


def test_equal_seeds_give_equal_draws_and_others_do_not():
    def draw(seed):
        torch.manual_seed(torch.randint(100, ()).item())  # the global generator has no say
        replay = filled(seed=seed, recent=0.3)
        return torch.cat([replay.sample(50)["observation"] for _ in range(3)])

    assert draw(1).equal(draw(1))
    assert not draw(1).equal(draw(2))
    assert not draw(None).equal(draw(None))
    before = torch.get_rng_state()
    filled().sample()
    assert torch.get_rng_state().equal(before)


def test_starts_of_several_policies():
    starts = filled().sample_starts([MT80[1], 0, 0], count=6)
    assert starts.batch_size == (3, 6)
    assert starts["observation"].shape == (3, 6, 1)
    assert starts["task"].tolist() == [[1] * 6, [0] * 6, [0] * 6]
    assert (starts["observation"][0] >= 40).all()
    assert (starts["observation"][1:] < 30).all()


def test_statistics_by_hand():
    replay = ReplayBuffer(100, slice_len=3, batch_size=4)
    replay.add(make_episode([[0.0, 1], [2, 1], [4, 1]], torch.zeros(2, 1), [1.0, 3.0], 0))
    replay.add(make_episode([[2.0, 1], [2, 1], [2, 1]], torch.zeros(2, 1), [2.0, 2.0], 0))
    replay.add(make_episode(torch.full((3, 2), 90.0), torch.zeros(2, 1), [9.0, 9.0], 1))
    found = replay.statistics(0)
    assert found["observation_mean"].tolist() == [2, 1]
    torch.testing.assert_close(found["observation_std"], torch.tensor([(8 / 6) ** 0.5, 0.0]))
    assert found["reward_mean"].tolist() == [2]  # of 1, 3, 2, 2
    assert found["reward_var"].tolist() == [0.5]


def test_counts_and_episodes_by_task():
    replay = filled()
    assert len(replay) == 25
    assert replay.tasks == [0, 1]
    assert [replay.num_episodes(task) for task in (None, 0, 1, 2)] == [3, 2, 1, 0]
    assert [e["observation"][0].item() for e in replay.episodes(0)] == [0, 20]
    assert replay.episodes(1)[0]["observation"].flatten().tolist() == [40, 41, 42, 43, 44]


def test_a_full_ring_evicts_the_oldest_episodes_whole():
    replay = filled(capacity=25)
    replay.add(numbered(60, 3, task=1))  # 25 + 3 rows do not fit: the first 10 leave
    assert [len(episode) for episode in replay.episodes()] == [10, 5, 3]
    assert len(replay) == 18
    replay.add(numbered(70, 7, task=2))  # rows 3..9 of the ring, none of them in use
    assert len(replay) == 25
    replay.add(numbered(80, 12, task=2))  # the second leaves, the third for the last two rows
    assert [len(episode) for episode in replay.episodes()] == [3, 7, 12]
    assert replay.tasks == [1, 2]
    with pytest.raises(ValueError, match=r"tasks must be among \[1, 2\], got \[0\]"):
        replay.sample_starts([0], 1)


def test_windows_stay_whole_while_the_ring_turns():
    replay = ReplayBuffer(capacity=40, slice_len=5, batch_size=64, seed=0)
    for number in range(60):
        replay.add(numbered(100 * number, rows=5 + number % 13, task=number % 2))
        kept = replay.episodes()
        assert len(replay) == sum(map(len, kept)) <= 40
        assert replay.num_episodes() == len(kept) <= number + 1
        starts = {int(e["observation"][0, 0]) + i for e in kept for i in range(len(e) - 4)}
        observation = replay.sample()["observation"][..., 0]
        assert (observation.diff(dim=1) == 1).all()
        assert set(observation[:, 0].int().tolist()) <= starts
        assert all((episode["observation"].diff(dim=0) == 1).all() for episode in kept)
        rows = {int(row) for episode in kept for row in episode["observation"]}
        tasks = replay.tasks
        assert set(replay.sample_starts(tasks, 16)["observation"].int().flatten().tolist()) <= rows


def test_an_episode_may_fill_the_ring_alone():
    replay = ReplayBuffer(capacity=5, slice_len=2, batch_size=3)
    for first in (0, 10):
        replay.add(numbered(first, 5))
        assert replay.num_episodes() == 1
        assert (replay.sample()["observation"] >= first).all()


def test_what_was_added_may_be_changed_afterwards():
    replay, episode = ReplayBuffer(10, 2, 2), numbered(0, 5)
    replay.add(episode)
    episode["observation"].fill_(-1)
    assert (replay.sample()["observation"] >= 0).all()


def test_a_state_continues_to_the_bit_even_after_eviction(tmp_path):
    replay = filled(capacity=30, recent=0.4, task_weights={0: 1, 1: 2})
    replay.add(numbered(60, 12, task=1))
    replay.sample()
    replay.save(tmp_path)
    copies = [ReplayBuffer(c, 3, 4, recent=0.4, task_weights={0: 1, 1: 2}) for c in (30, 30, 99)]
    copies[0].load_state_dict(replay.state_dict())
    copies[1].add(numbered(7, 9, task=3))  # what was there before is replaced
    copies[1].load(tmp_path)
    copies[2].load(tmp_path)
    for step in range(3):
        batch, starts = replay.sample(), replay.sample_starts([1, 0], 5)
        for copy in copies[: 2 if step else 3]:
            assert same(copy.sample(), batch)
            assert same(copy.sample_starts([1, 0], 5), starts)
            copy.add(numbered(100, 4, task=0))
        replay.add(numbered(100, 4, task=0))
    assert [len(e) for e in copies[1].episodes()] == [len(e) for e in replay.episodes()]


def test_an_empty_replay_can_be_saved(tmp_path):
    ReplayBuffer(10, 2, 2).save(tmp_path)
    replay = filled()
    replay.load(tmp_path)
    assert len(replay) == 0
    replay.add(make_episode(torch.zeros(5, 3), torch.zeros(4, 2), torch.zeros(4), 0))
    assert replay.sample()["observation"].shape == (4, 3, 3)


def test_from_dataset_keeps_the_tasks_asked_for(tmp_path):
    filled().save(tmp_path)
    everything = ReplayBuffer.from_dataset(tmp_path, slice_len=4, batch_size=2, seed=1)
    assert (len(everything), everything.capacity, everything.tasks) == (25, 25, [0, 1])
    one = ReplayBuffer.from_dataset(tmp_path, [MT80[0]], 4, 2, copy=True, capacity=30, recent=1.0)
    assert (len(one), one.capacity, one.tasks) == (20, 30, [0])
    assert one.sample()["observation"].shape == (2, 4, 1)
    with pytest.raises(ValueError, match=r"tasks must be among \[0, 1\], got \[5\]"):
        ReplayBuffer.from_dataset(tmp_path, tasks=[0, 5])
    longer = ReplayBuffer.from_dataset(tmp_path, slice_len=6)
    assert (longer.num_episodes(), longer.left_out) == (2, 1)  # one has five rows
    with pytest.raises(ValueError, match=r"slice_len=11 rows, got 5 \(3 of 3 are too short\)"):
        ReplayBuffer.from_dataset(tmp_path, slice_len=11)
    with pytest.raises(FileNotFoundError, match="manifest"):
        ReplayBuffer.from_dataset(tmp_path / "elsewhere")


def test_errors_name_the_value():
    replay = ReplayBuffer(capacity=20, slice_len=4, batch_size=2, task_weights={0: 1, 7: 1})
    with pytest.raises(ValueError, match="replay is empty"):
        replay.sample()
    with pytest.raises(ValueError, match="replay is empty"):
        replay.sample_starts([0], 1)
    with pytest.raises(ValueError, match=r"length >= slice_len=4 rows, got 3 \(1 of 1"):
        replay.add(numbered(0, rows=3))
    with pytest.raises(ValueError, match="capacity must hold 21 rows, got 20"):
        replay.add(numbered(0, rows=21))
    replay.add(numbered(0, rows=8))
    with pytest.raises(ValueError, match=r"task_weights must name stored tasks only, got \[7\]"):
        replay.sample()
    with pytest.raises(ValueError, match="batch_size must be at least 2, got 1"):
        replay.sample(1)
    with pytest.raises(ValueError, match="observation must have 1 entries a row, got 2"):
        replay.add(make_episode(torch.zeros(5, 2), torch.zeros(4, 1), torch.zeros(4), 0))
    with pytest.raises(ValueError, match=r"task must be among \[0\], got 9"):
        replay.statistics(9)
    with pytest.raises(ValueError, match="rewards must be finite"):
        replay.add(make_episode(torch.zeros(5, 1), torch.zeros(4, 1), [0, 0, torch.inf, 0], 0))
    assert len(replay) == 8  # a refused episode leaves no trace
    with pytest.raises(ValueError, match="capacity must hold 8 rows, got 7"):
        ReplayBuffer(7, 4, 2).load_state_dict(replay.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slice_len": 1}, "slice_len must be at least 2 rows"),
        ({"capacity": 3}, "capacity must be at least slice_len=4, got 3"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 1, "task_weights": {0: 1, 1: 1}}, "batch_size must be at least 2, got 1"),
        ({"task_weights": {0: -1.0, 1: 1.0}}, "task_weights must be finite, >= 0"),
        ({"task_weights": {0: 0.0}}, "task_weights must be finite, >= 0, not all 0"),
        ({"task_weights": {}}, "task_weights must be finite, >= 0, not all 0"),
        ({"task_weights": {"reach": 1.0}}, "task must be an integer index or a Task"),
        ({"recent": 1.5}, "recent must be between 0 and 1, got 1.5"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(**{"capacity": 20, "slice_len": 4, "batch_size": 2, **change})


@pytest.mark.parametrize("name", ["capacity", "slice_len", "batch_size"])
def test_sizes_are_integers(name):
    sizes = {"capacity": 10, "slice_len": 3, "batch_size": 4}
    with pytest.raises(ValueError, match=rf"{name} must be an integer, got 5\.0"):
        ReplayBuffer(**sizes | {name: 5.0})
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        filled().sample_starts([0], 0)
