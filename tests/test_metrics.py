"""Nested metrics become numbers by joined names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pwm_sdk.metrics import flat_metrics


def test_mappings_are_joined_and_policies_averaged_but_for_those_that_stopped() -> None:
    nan = float("nan")
    metrics = {
        "model_loss": torch.tensor(0.5, requires_grad=True),
        "policies_0": {"return": torch.tensor([1.0, nan, 4.0]), "clipped": torch.tensor(3)},
        "seconds": 2,
        "task": {"deep": {"gap": np.array([1.0, 2.0])}},
    }
    assert flat_metrics(metrics) == {
        "model_loss": 0.5,
        "policies_0/return": 2.5,
        "policies_0/clipped": 3.0,
        "seconds": 2.0,
        "task/deep/gap": 1.5,
    }


def test_numbers_keep_all_their_digits() -> None:
    single, double = torch.tensor(0.1), torch.tensor(0.1, dtype=torch.float64)
    flat = flat_metrics({"single": single, "double": double, "python": 0.1})
    assert flat == {"single": float(single), "double": 0.1, "python": 0.1}


def test_only_what_is_asked_for_is_read() -> None:
    unreadable = torch.zeros((), device="meta")
    metrics = {"loss": unreadable, "task": {"return": torch.tensor(2.0)}, "return": 1.0}
    assert flat_metrics(metrics, only=("return",)) == {"task/return": 2.0, "return": 1.0}


def test_a_metric_of_stopped_policies_only_is_nan() -> None:
    assert math.isnan(flat_metrics({"x": torch.tensor([math.nan])})["x"])


@pytest.mark.parametrize("value", ["1.0x", None, object(), [1, "x"]])
def test_what_is_no_number_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"metrics must be numbers.*part/x="):
        flat_metrics({"part": {"x": value}})
