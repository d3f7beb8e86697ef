"""One thread and fixed seeds, so that every test gives the same numbers alone and in the suite."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

torch.set_num_threads(1)
torch.set_warn_always(
    True
)  # some warnings come once a process, and would hit whichever test is first


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seed the global generators before each test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def close() -> Callable[[Tensor, Tensor], None]:
    """Compare with a published result: within 2e-5 of (1 + the largest absolute value)."""

    def check(actual: Tensor, expected: Tensor) -> None:
        assert actual.shape == expected.shape
        bound = 2e-5 * (1.0 + float(expected.abs().max()))
        assert float((actual - expected).detach().abs().max()) <= bound

    return check
