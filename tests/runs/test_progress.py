"""The progress bar shows return, rate and remaining time, where someone looks."""

from __future__ import annotations

import pytest
import torch

import pwm_sdk


def last(told: str) -> str:
    """The bar as it stands at the end."""
    return told.replace("\n", "\r").strip("\r").split("\r")[-1].strip()


def test_a_bar_shows_return_rate_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    bar = pwm_sdk.ProgressBar(10, name="walk ", unit="step", shown=True)
    bar.log({"loss": 1.0}, 2)
    bar.log({"return": 7.0, "policies_0": {"return": torch.tensor([8.0, 10.0])}}, 4)
    bar.log({"loss": 1.0}, 5)
    bar.close()
    told = last(capsys.readouterr().err)
    assert told.startswith("walk  50%|")
    assert "5/10" in told and "steps/s" in told and "<00:0" in told
    assert told.endswith("return 8]")  # the mean of two that are called so


def test_a_bar_is_a_hook(capsys: pytest.CaptureFixture[str]) -> None:
    bar = pwm_sdk.ProgressBar(4, show=("loss",), shown=True)
    bar(3, {"loss": torch.tensor(0.5)})
    bar.close()
    told = last(capsys.readouterr().err)
    assert told.startswith("75%|") and told.endswith("loss 0.5]")


def test_nothing_is_drawn_or_read_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    bar = pwm_sdk.ProgressBar(10)
    bar.log({"return": torch.zeros((), device="meta")}, 1)
    bar.close()
    assert capsys.readouterr().err == ""


def test_a_bar_does_not_pass_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    bar = pwm_sdk.ProgressBar(10, shown=True)
    bar.log({}, 1)
    bar.log({}, 25)
    bar.close()
    assert last(capsys.readouterr().err).startswith("100%|")
