"""Keeping results in single precision where matrix products run in half."""

from __future__ import annotations

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """Return `x` in float32 if it is of half precision, otherwise as it is.

    Layers call it on what a matrix product returns, so that under `torch.autocast` LayerNorm,
    activations, softmax and returns stay in float32.
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
