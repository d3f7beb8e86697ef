"""Running moments, by hand."""

from __future__ import annotations

import pytest
import torch
from vectors import path as golden

from pwm_sdk.algorithms.return_scales import ReturnDeviation, ReturnScale
from pwm_sdk.checkpoints.foreign import open_foreign
from pwm_sdk.checkpoints.pwm import pwm_statistics
from pwm_sdk.models.normalizers import RunningMeanStd


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


@pytest.mark.parametrize("kind", ["pickled", "plain"])
def test_statistics_of_a_file_of_pwm(kind: str) -> None:
    file = golden(f"g7_pwm_ckpt_{kind}.pt")
    found = pwm_statistics(open_foreign(file))["rew_rms"]
    rewards = RunningMeanStd.from_checkpoint(file, limit=3.0, eps=0.0)
    assert torch.equal(rewards.mean, found["mean"]) and torch.equal(rewards.var, found["var"])
    assert float(rewards.count) == pytest.approx(float(found["count"]))
    torch.testing.assert_close(rewards.scale, found["var"].sqrt())
    assert rewards.limit == 3.0
    returns = RunningMeanStd.from_checkpoint(file, "ret_rms")
    assert not torch.equal(returns.mean, rewards.mean)
    with pytest.raises(ValueError, match=r"name must be one of \['ret_rms', 'rew_rms'\], got 'obs"):
        RunningMeanStd.from_checkpoint(file, "obs_rms")


def test_every_running_scale_returns_what_values_are_divided_by() -> None:
    values = torch.rand(9, 1)
    for made in (ReturnScale(), ReturnDeviation(), RunningMeanStd()):
        found = made.update(values)
        assert torch.equal(found, made.scale) and found.shape == (1,)
    moments = RunningMeanStd((2,))
    assert torch.equal(moments.update(torch.rand(9, 2)), moments.scale)
