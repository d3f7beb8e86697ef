"""Discounted returns: numbers worked out by hand, limits, gradients and published vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pwm_sdk.functional.returns import (
    alive_steps,
    discounted_return,
    lambda_returns,
    restarted_return,
)


def column(*values: float) -> Tensor:
    """One trajectory `[1, H, 1]`."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1)


REWARD, VALUE = column(1.0, 2.0, 3.0), column(10.0, 20.0, 30.0)
AT_1 = torch.tensor([False, True, False]).view(1, 3, 1)


def test_lambda_returns_by_hand() -> None:
    # G_2 = 3 + .5 * 30 = 18
    # G_1 = 2 + .5 * (.5 * 20 + .5 * 18) = 11.5
    # G_0 = 1 + .5 * (.5 * 10 + .5 * 11.5) = 6.375
    result = lambda_returns(REWARD, VALUE, gamma=0.5, lam=0.5)
    torch.testing.assert_close(result, column(6.375, 11.5, 18.0))


def test_lambda_zero_is_the_one_step_target() -> None:
    result = lambda_returns(REWARD, VALUE, gamma=0.5, lam=0.0)
    torch.testing.assert_close(result, column(1 + 5, 2 + 10, 3 + 15))


def test_lambda_one_is_the_h_step_return() -> None:
    # G_2 = 18, G_1 = 2 + .5 * 18 = 11, G_0 = 1 + .5 * 11 = 6.5
    result = lambda_returns(REWARD, VALUE, gamma=0.5, lam=1.0)
    torch.testing.assert_close(result, column(6.5, 11.0, 18.0))
    torch.testing.assert_close(result[:, 0], discounted_return(REWARD, VALUE[:, -1], gamma=0.5))


def test_a_terminated_step_bootstraps_nothing() -> None:
    # G_1 = 2, G_0 = 1 + .5 * (.5 * 10 + .5 * 2) = 4; what follows is another life.
    result = lambda_returns(REWARD, VALUE, 0.5, 0.5, terminated=AT_1)
    torch.testing.assert_close(result, column(4.0, 2.0, 18.0))


def test_a_truncated_step_bootstraps_its_value() -> None:
    # G_1 = 2 + .5 * 20 = 12, G_0 = 1 + .5 * (.5 * 10 + .5 * 12) = 6.5
    result = lambda_returns(REWARD, VALUE, 0.5, 0.5, truncated=AT_1)
    torch.testing.assert_close(result, column(6.5, 12.0, 18.0))


def test_termination_wins_over_truncation() -> None:
    both = lambda_returns(REWARD, VALUE, 0.5, 0.5, terminated=AT_1, truncated=AT_1)
    # G_1 = 2 and G_0 = 1 + .5 * (.5 * 10 + .5 * 2) = 4
    torch.testing.assert_close(both, column(4.0, 2.0, 18.0))


def test_truncating_the_last_step_changes_nothing() -> None:
    last = torch.tensor([False, False, True]).view(1, 3, 1)
    cut = lambda_returns(REWARD, VALUE, 0.5, 0.5, truncated=last)
    torch.testing.assert_close(cut, lambda_returns(REWARD, VALUE, 0.5, 0.5))


def test_each_policy_has_its_own_discount() -> None:
    reward, value = REWARD.expand(2, 4, 3, 1), VALUE.expand(2, 4, 3, 1)
    result = lambda_returns(reward, value, torch.tensor([0.0, 0.5]), 0.5)
    torch.testing.assert_close(result[0, 3], column(1.0, 2.0, 3.0)[0])
    torch.testing.assert_close(result[1, 3], column(6.375, 11.5, 18.0)[0])
    total = discounted_return(reward, value[..., -1, :], torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(total[:, 3, 0], torch.tensor([1.0, 1 + 1 + 0.75 + 3.75]))


def test_discounted_return_by_hand() -> None:
    # 1 + .5 * 2 + .25 * 3 + .125 * 40: the value is discounted H times, not H + 1.
    result = discounted_return(REWARD, torch.tensor([[40.0]]), gamma=0.5)
    torch.testing.assert_close(result, torch.tensor([[7.75]]))


def test_discounted_return_stops_behind_a_terminated_step() -> None:
    result = discounted_return(REWARD, torch.tensor([[40.0]]), gamma=0.5, terminated=AT_1)
    torch.testing.assert_close(result, torch.tensor([[1 + 0.5 * 2.0]]))


RESTARTED = {
    "reward": column(1.0, 2.0, 3.0),
    "next_value": column(10.0, 20.0, 40.0),
    "gamma": 0.5,
    "terminated": torch.zeros(1, 3, 1, dtype=torch.bool),
}


def test_restarted_episodes_add_up_by_hand() -> None:
    # 1 + 2/2 + 20/4 of the first two steps, then 3 + 40/2.
    total = restarted_return(**RESTARTED, truncated=AT_1)
    torch.testing.assert_close(total, torch.tensor([[7.0 + 23.0]]))
    ended = {**RESTARTED, "terminated": AT_1}
    total = restarted_return(**ended, truncated=torch.zeros_like(AT_1))
    torch.testing.assert_close(total, torch.tensor([[2.0 + 23.0]]))
    none = torch.zeros_like(AT_1)
    plain = discounted_return(RESTARTED["reward"], torch.tensor([[40.0]]), 0.5)
    torch.testing.assert_close(restarted_return(**RESTARTED, truncated=none), plain)


def test_restarted_episodes_as_published_by_hand() -> None:
    # The last value gets one factor more: 3 + 40/4 in place of 3 + 40/2.
    total = restarted_return(**RESTARTED, truncated=AT_1, published=True)
    torch.testing.assert_close(total, torch.tensor([[7.0 + 13.0]]))
    # Ends at steps 1 and 2: the reward of step 2 is lost, its value counts 40/2.
    both = torch.tensor([False, True, True]).view(1, 3, 1)
    total = restarted_return(**RESTARTED, truncated=both, published=True)
    torch.testing.assert_close(total, torch.tensor([[7.0 + 20.0]]))
    total = restarted_return(**RESTARTED, truncated=both)
    torch.testing.assert_close(total, torch.tensor([[7.0 + 23.0]]))


def test_steps_are_alive_up_to_the_end_by_hand() -> None:
    ends = torch.tensor([[False, True, False], [True, False, True], [False, False, False]])
    alive = alive_steps(ends.unsqueeze(-1)).squeeze(-1)
    assert alive.tolist() == [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def test_gradients_agree_with_finite_differences() -> None:
    reward = torch.randn(2, 5, 1, dtype=torch.float64, requires_grad=True)
    value = torch.randn(2, 5, 1, dtype=torch.float64, requires_grad=True)
    ends, cuts = torch.rand(2, 5, 1) < 0.2, torch.rand(2, 5, 1) < 0.3
    assert ends.any()
    assert cuts.any()
    assert torch.autograd.gradcheck(
        lambda r, v: lambda_returns(r, v, 0.9, 0.8, ends, cuts), (reward, value)
    )
    assert torch.autograd.gradcheck(lambda r, v: lambda_returns(r, v, 0.9, 0.8), (reward, value))
    assert torch.autograd.gradcheck(
        lambda r, v: discounted_return(r, v[:, -1], 0.9, ends), (reward, value)
    )
    for published in (False, True):
        assert torch.autograd.gradcheck(
            lambda r, v, p=published: restarted_return(r, v, 0.9, ends, cuts, published=p),
            (reward, value),
        )


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"reward must have shape \[.., H, 1\]"):
        lambda_returns(torch.zeros(2, 3), torch.zeros(2, 3), 0.9, 0.9)
    with pytest.raises(ValueError, match=r"reward must have .* H >= 1"):
        lambda_returns(torch.zeros(2, 0, 1), torch.zeros(2, 0, 1), 0.9, 0.9)
    with pytest.raises(ValueError, match="next_value must have the shape of reward"):
        lambda_returns(REWARD, VALUE[:, :2], 0.9, 0.9)
    with pytest.raises(ValueError, match="truncated must have the shape of reward"):
        lambda_returns(REWARD, VALUE, 0.9, 0.9, truncated=AT_1[:, :2])
    with pytest.raises(ValueError, match=r"lam must lie in \[0, 1\], got 1.5"):
        lambda_returns(REWARD, VALUE, 0.9, 1.5)
    with pytest.raises(ValueError, match="gamma must be one number or one per policy"):
        lambda_returns(REWARD, VALUE, torch.ones(3), 0.9)
    with pytest.raises(ValueError, match="last_value must have shape"):
        discounted_return(REWARD, torch.zeros(1), 0.9)
