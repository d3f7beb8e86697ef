"""What was looked up of tasks: a time axis, and policies that are given it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pwm_sdk.contract.policies import given
from pwm_sdk.functional.context import with_time


class Lookup(NamedTuple):
    embedding: Tensor | None
    mask: Tensor | None


def test_with_time_puts_an_axis_before_the_features() -> None:
    assert with_time(None) is None
    assert with_time(torch.zeros(3, 4)).shape == (3, 4, 1)
    wide = with_time(Lookup(torch.zeros(3, 5), None))
    assert wide.embedding.shape == (3, 1, 5)
    assert wide.mask is None
    assert with_time(Lookup(None, torch.zeros(5))).mask.shape == (5,)


def test_given_asks_only_what_depends_on_the_task() -> None:
    class Offset:
        def given(self, context: float):
            return lambda latent: latent + context

    assert given(Offset(), 2.0)(1.0) == 3.0
    plain = torch.tanh
    assert given(plain, 2.0) is plain
