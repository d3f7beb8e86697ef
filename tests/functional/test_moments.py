"""Running moments by hand, and that the order of batches does not matter."""

from __future__ import annotations

import torch

from pwm_sdk.functional.moments import merge_moments


def test_merging_by_hand() -> None:
    # 0, 2 (mean 1, variance 1) and 4, 6, 8: mean 4, variance (16 + 4 + 0 + 4 + 16) / 5.
    one, rows = torch.tensor([1.0]), torch.tensor([[4.0], [6.0], [8.0]])
    mean, var, count = merge_moments(one, one, torch.tensor(2.0), rows)
    torch.testing.assert_close(mean, torch.tensor([4.0]))
    torch.testing.assert_close(var, torch.tensor([8.0]))
    assert count == 5


def test_batches_add_up_to_the_whole() -> None:
    values = torch.randn(60, 3, dtype=torch.float64) * 5 + 2
    state = torch.zeros(3), torch.zeros(3), torch.tensor(0.0, dtype=torch.float64)
    state = tuple(x.double() for x in state)
    for batch in values.split([1, 9, 50]):
        state = merge_moments(*state, batch)
    torch.testing.assert_close(state[0], values.mean(0))
    torch.testing.assert_close(state[1], values.var(0, correction=0))
