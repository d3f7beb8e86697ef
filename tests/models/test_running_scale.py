"""The running scale of values, by hand."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk.models.running_scale import RunningScale


def test_update_by_hand() -> None:
    # 0..100: quantiles 5 and 95, so 1 + 0.1 (90 - 1); then a range of 0 counts as the floor 1.
    scale = RunningScale(tau=0.1)
    torch.testing.assert_close(scale.update(torch.arange(101.0)), torch.tensor(9.9))
    torch.testing.assert_close(scale.update(torch.zeros(7, 1)), torch.tensor(9.9 - 0.89))
    again = RunningScale()
    again.load_state_dict(scale.state_dict())
    assert torch.equal(again.value, scale.value)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="low and high must satisfy"):
        RunningScale(low=0.9, high=0.1)
    with pytest.raises(ValueError, match=r"tau must lie in \[0, 1\], got 2"):
        RunningScale(tau=2.0)
