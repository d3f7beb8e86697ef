"""Mish against torch's own, however it is called."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pwm_sdk.functional.activations import CHUNK, mish


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [7, CHUNK + 3])
def test_values_and_slopes_are_those_of_torch(size: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (5 * torch.randn(size, generator=generator, dtype=dtype)).requires_grad_()
    torch.testing.assert_close(mish(x.detach()), F.mish(x.detach()))
    mine, theirs = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (mish, F.mish))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_under_vmap_and_grad_of_torch_func() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.vmap(mish)(x), F.mish(x))
    slopes = torch.vmap(torch.func.grad(lambda row: mish(row).sum()))(x)
    expected = x.clone().requires_grad_()
    torch.testing.assert_close(slopes, torch.autograd.grad(F.mish(expected).sum(), expected)[0])
