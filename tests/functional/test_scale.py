"""The running scale of values, by hand."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk.functional.scale import quantile_range, running_scale


def test_quantile_range_by_hand() -> None:
    below, above = quantile_range(torch.arange(101.0).view(101, 1).requires_grad_())
    torch.testing.assert_close((below, above), (torch.tensor(5.0), torch.tensor(95.0)))
    low, high = quantile_range(torch.tensor([0.0, 1.0]), 0.25, 1.0)
    torch.testing.assert_close((low, high), (torch.tensor(0.25), torch.tensor(1.0)))


def test_running_scale_by_hand() -> None:
    # Quantiles 5 and 95: 1 + 0.1 (90 - 1). Then a range of 0 counts as the floor 1.
    scale = running_scale(torch.ones(()), torch.arange(101.0), tau=0.1)
    torch.testing.assert_close(scale, torch.tensor(9.9))
    after = running_scale(scale, torch.zeros(7, 1), tau=0.1)
    torch.testing.assert_close(after, torch.tensor(9.9 - 0.89))
    assert torch.equal(running_scale(scale, torch.zeros(7), tau=0.0), scale)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="low and high must satisfy"):
        running_scale(torch.ones(()), torch.zeros(3), low=0.9, high=0.1)
    with pytest.raises(ValueError, match=r"tau must lie in \[0, 1\], got 2"):
        running_scale(torch.ones(()), torch.zeros(3), tau=2.0)
