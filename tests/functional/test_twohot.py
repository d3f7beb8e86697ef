"""Symlog and two-hot codes: numbers worked out by hand and properties."""

from __future__ import annotations

import math

import pytest
import torch

from pwm_sdk.functional.losses import two_hot_loss
from pwm_sdk.functional.twohot import (
    bin_centers,
    symexp,
    symlog,
    two_hot,
    two_hot_decode,
    two_hot_mean,
)


def test_symlog_and_symexp_by_hand() -> None:
    raw = torch.tensor([0.0, math.e - 1, 1 - math.e, 99.0])
    logs = torch.tensor([0.0, 1.0, -1.0, math.log(100.0)])
    torch.testing.assert_close(symlog(raw), logs)
    torch.testing.assert_close(symexp(logs), raw)


def test_bin_centers() -> None:
    torch.testing.assert_close(bin_centers(5, -2, 2), torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]))
    like = torch.zeros(1, dtype=torch.float64)
    assert bin_centers(5, like=like).dtype == torch.float64


def test_two_hot_by_hand() -> None:
    # Centers -2, -1, 0, 1, 2. A symlog of 0.25 lies a quarter of the way from bin 2 to bin 3.
    x = symexp(torch.tensor([[0.25], [1.0], [-1.5]]))
    expected = [[0, 0, 0.75, 0.25, 0], [0, 0, 0, 1, 0], [0.5, 0.5, 0, 0, 0]]
    torch.testing.assert_close(two_hot(x, 5, -2, 2), torch.tensor(expected))


def test_values_beyond_the_bins_go_to_the_last_one() -> None:
    code = two_hot(torch.tensor([[1e9], [-1e9]]), 5, -2, 2)
    torch.testing.assert_close(code, torch.tensor([[0, 0, 0, 0, 1.0], [1.0, 0, 0, 0, 0]]))


def test_codes_are_distributions_with_mean_symlog() -> None:
    x = torch.randn(50, 1) * 100
    code = two_hot(x, 101)
    assert (code >= 0).all()
    assert ((code > 0).sum(-1) <= 2).all()
    torch.testing.assert_close(code.sum(-1), torch.ones(50))
    mean = (code * bin_centers(101)).sum(-1, keepdim=True)
    torch.testing.assert_close(mean, symlog(x), atol=1e-5, rtol=1e-5)


def test_decoding_by_hand() -> None:
    # Probabilities (1/4, 3/4) on centers -1 and 1 have mean 1/2; in raw units e^(1/2) - 1.
    logits = torch.log(torch.tensor([[1.0, 3.0]]))
    torch.testing.assert_close(two_hot_mean(logits, -1, 1), torch.tensor([[0.5]]))
    torch.testing.assert_close(two_hot_decode(logits, -1, 1), torch.tensor([[math.exp(0.5) - 1]]))


def test_decoding_undoes_encoding() -> None:
    x = torch.randn(50, 1) * 100
    torch.testing.assert_close(two_hot_decode(two_hot(x, 101).log()), x, atol=1e-3, rtol=1e-4)


def test_gradient_of_the_decoded_value() -> None:
    logits = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: two_hot_decode(z, -2, 2), logits)


def test_nan_stays_nan() -> None:
    x = torch.tensor([[1.0], [math.nan]])
    code = two_hot(x, 5, -2, 2)
    assert code[0].isfinite().all()
    assert code[1].isnan().any()
    loss = two_hot_loss(torch.zeros(2, 5), x, -2, 2)
    assert loss[0].isfinite()
    assert loss[1].isnan()


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="num_bins must be at least 2, got 1"):
        two_hot(torch.zeros(3, 1), 1)
    with pytest.raises(ValueError, match=r"x must have shape \[.., 1\], got \[3\]"):
        two_hot(torch.zeros(3), 5)


def test_nan_stays_nan_and_out_of_addresses() -> None:
    code = two_hot(torch.tensor([[1.0], [float("nan")], [float("inf")]]), 5)
    assert code[1].isnan().any()
    torch.testing.assert_close(code[[0, 2]], two_hot(torch.tensor([[1.0], [1e9]]), 5))
