"""Small functions and layers against tables of the published ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from vectors import load

from pwm_sdk.functional.gaussian import bounded_log_std, gaussian_log_prob, tanh_log_slope
from pwm_sdk.functional.losses import two_hot_loss
from pwm_sdk.functional.scale import quantile_range, running_scale
from pwm_sdk.functional.twohot import symexp, symlog, two_hot, two_hot_decode, two_hot_mean
from pwm_sdk.models.layers import NormedLinear, SimNorm
from pwm_sdk.tasks import Task


def test_two_hot_codes(close) -> None:
    data = load("g4_tables.npz")
    x = data["in/x"]
    close(symlog(x), data["out/symlog"])
    close(symexp(x.clamp(-15.0, 15.0)), data["out/symexp_of_clamped"])
    code = two_hot(x, data["out/two_hot"].shape[1])
    close(code, data["out/two_hot"])
    close(two_hot_decode(code.log()), data["out/two_hot_inv_of_log_two_hot"])
    close(two_hot_decode(data["in/logits"]), data["out/two_hot_inv"])
    close(two_hot_mean(data["in/logits"]), data["out/almost_two_hot_inv"])
    close(two_hot_loss(data["in/logits"], data["in/ce_target"]), data["out/soft_ce"])


def test_simnorm(close) -> None:
    data = load("g4_tables.npz")
    close(SimNorm(8)(data["in/simnorm_x"]), data["out/simnorm"])
    close(SimNorm(8)(data["in/simnorm_x3"]), data["out/simnorm3"])


def test_normed_linear(close) -> None:
    data = load("g4_tables.npz")
    layer = NormedLinear(data["in/nl_x"].shape[1], data["out/nl"].shape[1], nn.Mish())
    names = ("weight", "bias", "ln.weight", "ln.bias")
    layer.load_state_dict({name: data[f"w/nl.{name}"] for name in names})
    close(layer(data["in/nl_x"]), data["out/nl"])


def test_squashed_gaussian(close) -> None:
    data = load("g4_tables.npz")
    log_std = bounded_log_std(data["in/ls_raw"], -10.0, 2.0)
    close(log_std, data["out/log_std"])
    gaussian = gaussian_log_prob(data["in/eps"], log_std)
    close(gaussian, data["out/gauss_logprob"])
    action = torch.tanh(data["in/mu"] + data["in/eps"] * log_std.exp())
    close(torch.tanh(data["in/mu"]), data["out/squash_mean"])
    close(action, data["out/squash_action"])
    close(gaussian - tanh_log_slope(action), data["out/squash_logprob"])


def test_running_scale(close) -> None:
    data = load("g4_tables.npz")
    scale, updates = torch.ones(()), 0
    while f"in/rscale_{updates}" in data:
        values = data[f"in/rscale_{updates}"]
        percentiles = torch.stack(quantile_range(values)).unsqueeze(-1)
        close(percentiles, data[f"out/rscale_pct_{updates}"])
        scale = running_scale(scale, values)
        close(scale.view(1), data[f"out/rscale_value_{updates}"])
        updates += 1
    assert updates


def test_discount_of_an_episode_length() -> None:
    data = load("g4_tables.npz")
    for length, discount in zip(data["in/episode_length"], data["out/discount"], strict=True):
        task = Task("own", 0, "own", 1, 1, int(length))
        assert task.discount == pytest.approx(float(discount), rel=1e-6)
