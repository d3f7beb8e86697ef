"""The layout of an episode and what it refuses."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk import MT80, Task
from pwm_sdk.data.episode import check_episode, make_episode, task_index

CPU = torch.device("cpu")


def steps(count: int = 2) -> dict:
    """Return the arguments of `make_episode` for `count` steps with O = 2 and A = 1."""
    return {
        "observations": torch.arange(2.0 * (count + 1)).reshape(-1, 2),
        "actions": torch.arange(1.0, count + 1)[:, None] / 10,
        "rewards": torch.arange(1.0, count + 1),
        "task": 7,
    }


def test_row_t_holds_the_step_that_led_to_observation_t():
    episode = make_episode(**steps(), terminated=[False, True])
    assert episode.batch_size == (3,)
    assert episode["observation"].tolist() == [[0, 1], [2, 3], [4, 5]]
    torch.testing.assert_close(episode["action"][1:], torch.tensor([[0.1], [0.2]]))
    assert episode["reward"][1:].tolist() == [[1], [2]]
    assert episode["terminated"].tolist() == [[False], [False], [True]]
    assert episode["task"].tolist() == [7, 7, 7]
    assert episode["action"][0].isnan().all()
    assert episode["reward"][0].isnan().all()


def test_a_terminated_episode_stays_where_it_ended_a_cut_one_does_not():
    ended = make_episode(**steps(), terminated=[False, True], absorbing=2)
    assert ended["observation"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]
    torch.testing.assert_close(ended["action"][1:3, 0], torch.tensor([0.1, 0.2]))
    many = make_episode(**steps(), terminated=[False, True], absorbing=50)["action"][3:]
    assert many.unique().tolist() == steps()["actions"].flatten().tolist()  # of the episode
    again = make_episode(**steps(), terminated=[False, True], absorbing=50)["action"][3:]
    assert torch.equal(many, again)
    assert ended["reward"][1:, 0].tolist() == [1, 2, 0, 0]
    assert ended["terminated"][:, 0].tolist() == [False, False, True, True, True]
    assert ended["task"].tolist() == [7] * 5
    assert ended["real"][:, 0].tolist() == [True, True, True, False, False]
    check_episode(ended, CPU)
    assert make_episode(**steps(), absorbing=2).batch_size == (3,)
    with pytest.raises(ValueError, match="absorbing must be at least 0, got -1"):
        make_episode(**steps(), absorbing=-1)


def test_arrays_lists_and_columns_are_taken():
    as_arrays = {k: v.double().numpy() if torch.is_tensor(v) else v for k, v in steps().items()}
    as_arrays["rewards"] = as_arrays["rewards"][:, None]
    as_arrays["task"] = MT80[7]
    expected, episode = make_episode(**steps()), make_episode(**as_arrays)
    for name in ("observation", "action", "reward", "task", "terminated"):
        torch.testing.assert_close(episode[name], expected[name], equal_nan=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": torch.zeros(3)}, r"observations must be \[T\+1, O\].*got \[3\]"),
        ({"actions": torch.zeros(3, 1)}, r"actions must be \[2, A\], got \[3, 1\]"),
        ({"rewards": torch.zeros(3)}, r"rewards must be \[2\] or \[2, 1\], got \[3\]"),
        ({"terminated": [True]}, r"terminated must be \[2\] or \[2, 1\], got \[1\]"),
        ({"task": 0.5}, "task must be an integer index or a Task, got 0.5"),
    ],
)
def test_make_episode_names_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        make_episode(**{**steps(), **change})


def test_check_fills_in_task_and_terminated_and_drops_the_rest():
    episode = dict(make_episode(**steps()).exclude("terminated").items())
    episode["task"] = torch.tensor(7, dtype=torch.int16)
    rows = check_episode({**episode, "other": torch.zeros(3)}, CPU)
    assert set(rows.keys()) == {"observation", "action", "reward", "task", "terminated", "real"}
    assert rows["task"].tolist() == [7, 7, 7]
    assert rows["task"].dtype == torch.int64
    assert not rows["terminated"].any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("observation", torch.zeros(3, 2).double(), "observation must be torch.float32, got .*64"),
        ("observation", torch.zeros(3), r"observation must be \[T\+1, O\]"),
        ("observation", torch.full((3, 2), torch.inf), r"finite, got \[inf, inf\] in row 0"),
        ("action", torch.zeros(2, 1), r"action must be \[3, A\], got \[2, 1\]"),
        ("action", torch.tensor([[0.0], [0.0], [torch.nan]]), "action must be finite.*row 2"),
        ("reward", torch.zeros(3), r"reward must be \[3, 1\], got \[3\]"),
        ("reward", torch.tensor([[0.0], [torch.nan], [0.0]]), r"got \[nan\] in row 1"),
        ("terminated", torch.zeros(3, 1), "terminated must be torch.bool, got torch.float32"),
        ("task", torch.zeros(3), "task must be an integer, got torch.float32"),
        ("task", torch.tensor([7, 7, 8]), r"task must be one number .*\[3\] times the same"),
    ],
)
def test_check_names_the_entry_at_fault(name, value, message):
    episode = {**dict(make_episode(**steps()).items()), name: value}
    with pytest.raises(ValueError, match=message):
        check_episode(episode, CPU)


def test_check_names_missing_entries_and_the_wrong_device():
    with pytest.raises(ValueError, match=r"episode must have the entries \['reward'\]"):
        check_episode(make_episode(**steps()).exclude("reward"), CPU)
    with pytest.raises(ValueError, match="must be on meta, got cpu"):
        check_episode(make_episode(**steps()), torch.device("meta"))


def test_task_index_takes_numbers_and_tasks():
    assert task_index(3) == task_index(torch.tensor(3)) == task_index(MT80[3]) == 3
    with pytest.raises(ValueError, match="got 'reach'"):
        task_index("reach")


def test_actions_lie_within_the_bounds_that_policies_have():
    rounded = make_episode(**{**steps(), "actions": torch.tensor([[1.0 + 1e-6], [-1.0]])})
    check_episode(rounded, CPU)
    with pytest.raises(ValueError, match=r"actions must lie in \[-1, 1\], got \[50.0\] in step 1"):
        make_episode(**{**steps(), "actions": [[0.5], [50.0]]})
    rounded["action"][2] = -1.5
    with pytest.raises(ValueError, match=r"action must lie in \[-1, 1\], got \[-1.5\] in step 1"):
        check_episode(rounded, CPU)


def test_a_task_has_an_index():
    task = Task("mine", -1, "mine", 2, 1, episode_length=2)
    with pytest.raises(ValueError, match=r"at least 0 \(register_task\), got Task\(name='mine'"):
        make_episode(**{**steps(), "task": task})
    with pytest.raises(ValueError, match=r"at least 0 .*, got tensor\(-1\)"):
        check_episode({**make_episode(**steps()), "task": torch.tensor(-1)}, CPU)
