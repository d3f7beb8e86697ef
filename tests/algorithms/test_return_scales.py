"""The running range and deviation of returns, by hand and per policy."""

from __future__ import annotations

import copy

import pytest
import torch

from pwm_sdk.algorithms.return_scales import ReturnDeviation, ReturnScale


def test_quantile_range_and_its_moving_average_by_hand() -> None:
    scale = ReturnScale(decay=0.9)
    # Of 0, 1, .., 100 the 5% and 95% quantiles are 5 and 95: the first update sets 90.
    returns = torch.arange(101.0).view(-1, 1)
    torch.testing.assert_close(scale.update(returns), torch.tensor([90.0]))
    # A range of 900 moves it a tenth of the way: .9 * 90 + .1 * 900 = 171.
    torch.testing.assert_close(scale.update(10 * returns), torch.tensor([171.0]))


def test_shifting_returns_does_not_matter() -> None:
    returns = torch.randn(50, 1)
    first, second = ReturnScale().update(returns), ReturnScale().update(returns + 1000.0)
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)


def test_equal_returns_give_the_floor() -> None:
    scale = ReturnScale(floor=0.25)
    torch.testing.assert_close(scale.update(torch.ones(10, 1)), torch.tensor([0.25]))


def test_each_policy_has_its_own_scale() -> None:
    returns = torch.arange(101.0).view(1, -1, 1) * torch.tensor([1.0, 2.0]).view(2, 1, 1)
    result = ReturnScale(population=2).update(returns)
    torch.testing.assert_close(result, torch.tensor([90.0, 180.0]))


def test_no_gradient_flows_into_the_scale() -> None:
    returns = torch.randn(10, 1, requires_grad=True)
    assert not ReturnScale().update(returns).requires_grad


def test_state_dict_round_trip_of_the_range() -> None:
    scale, other = ReturnScale(population=2), ReturnScale(population=2)
    scale.update(torch.randn(2, 50, 1))
    other.load_state_dict(scale.state_dict())
    returns = 7 * torch.randn(2, 50, 1)
    assert torch.equal(other.update(returns), scale.update(returns))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="low and high must satisfy 0 <= low < high <= 1, got"):
        ReturnScale(low=0.9, high=0.1)


def test_the_deviation_of_all_returns_so_far_by_hand() -> None:
    scale = ReturnDeviation()
    scale.count.zero_()  # so that the start does not count
    # Of -1, 3: mean 1, variance 4. Of -1, 3, 1, 5: mean 2, variance (9 + 1 + 1 + 9) / 4.
    first = scale.update(torch.tensor([[-1.0], [3.0]]))
    torch.testing.assert_close(first, torch.tensor([4.0 + 1e-5]).sqrt())
    second = scale.update(torch.tensor([[1.0], [5.0]]))
    torch.testing.assert_close(second, torch.tensor([5.0 + 1e-5]).sqrt())
    assert float(scale.mean) == pytest.approx(2.0)
    assert float(scale.count) == 4.0


def test_each_policy_has_its_own_deviation() -> None:
    returns = torch.stack((torch.randn(50, 1), 10 * torch.randn(50, 1)))
    together = ReturnDeviation(population=2).update(returns)
    alone = torch.cat([ReturnDeviation().update(r) for r in returns])
    torch.testing.assert_close(together, alone)


def test_state_dict_round_trip_of_the_deviation() -> None:
    scale, other = ReturnDeviation(), ReturnDeviation()
    scale.update(torch.randn(9, 1))
    other.load_state_dict(copy.deepcopy(scale.state_dict()))
    values = torch.randn(9, 1)
    assert torch.equal(scale.update(values), other.update(values))
