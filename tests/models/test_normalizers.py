"""The running scale of returns, by hand."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk.models.normalizers import ReturnScale, RunningMeanStd


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


def test_running_moments_normalise_and_back_by_hand() -> None:
    statistics = RunningMeanStd((2,), limit=2.0, eps=0.0)
    statistics.count.zero_()
    statistics.update(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
    statistics.update(torch.tensor([[[4.0, 20.0]], [[-2.0, 20.0]]]))
    # 0, 2, 4, -2: mean 1, variance 5; 10, 30, 20, 20: mean 20, variance 50.
    torch.testing.assert_close(statistics.mean, torch.tensor([1.0, 20.0]))
    torch.testing.assert_close(statistics.var, torch.tensor([5.0, 50.0]))
    row = torch.tensor([[1.0 + 5**0.5, 20.0 - 9 * 50**0.5]])
    torch.testing.assert_close(statistics.normalize(row), torch.tensor([[1.0, -2.0]]))
    back = statistics.unnormalize(torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(back, torch.tensor([[1.0 + 5**0.5, 20.0 - 2 * 50**0.5]]))
    other = RunningMeanStd((2,), limit=2.0, eps=0.0)
    other.load_state_dict(statistics.state_dict())
    assert torch.equal(other.normalize(row), statistics.normalize(row))


def test_state_dict_round_trip() -> None:
    scale, other = ReturnScale(population=2), ReturnScale(population=2)
    scale.update(torch.randn(2, 50, 1))
    other.load_state_dict(scale.state_dict())
    returns = 7 * torch.randn(2, 50, 1)
    assert torch.equal(other.update(returns), scale.update(returns))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="low and high must satisfy 0 <= low < high <= 1, got"):
        ReturnScale(low=0.9, high=0.1)


def test_values_of_another_dtype_do_not_change_the_buffers() -> None:
    scale, moments = ReturnScale(), RunningMeanStd((2,))
    values = torch.rand(6, 2, dtype=torch.float64)
    assert scale.update(values[:, 0]).dtype == torch.float32
    with torch.inference_mode():
        moments.update(values)
    kinds = {name: value.dtype for name, value in moments.state_dict().items()}
    assert kinds == {"mean": torch.float32, "var": torch.float32, "count": torch.float64}
    torch.testing.assert_close(moments.mean, values.float().mean(0))
    moments.normalize(torch.rand(1, 2, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("double", [False, True])
def test_statistics_keep_their_type_whatever_they_take_in(dtype: torch.dtype, double: bool) -> None:
    values = torch.arange(8.0, dtype=dtype).view(-1, 1)
    for made in (ReturnScale(), RunningMeanStd()):
        kept = made.double() if double else made
        before = {name: buffer.dtype for name, buffer in kept.named_buffers()}
        for _ in range(2):
            kept.update(values)
        assert {name: buffer.dtype for name, buffer in kept.named_buffers()} == before
    scale = ReturnScale(low=0.0, high=1.0)
    assert float(scale.update(values)) == 7.0
