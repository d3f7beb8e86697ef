"""One thread and fixed seeds, so that every test gives the same numbers alone and in the suite."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seed the global generators before each test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
