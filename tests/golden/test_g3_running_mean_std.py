"""Running statistics against the published ones."""

from __future__ import annotations

import pytest
from vectors import load

from pwm_sdk.algorithms.return_scales import ReturnDeviation
from pwm_sdk.models.normalizers import RunningMeanStd

KINDS = sorted({key.split("/")[1] for key in load("g3_running_mean_std.npz") if "/0/" in key})


@pytest.mark.parametrize("kind", KINDS)
def test_published_statistics(close, kind: str) -> None:
    data = load("g3_running_mean_std.npz")
    rows = sum(k.startswith(f"in/{kind}/") and k.count("/") == 2 for k in data)
    assert rows > 1
    statistics = RunningMeanStd(tuple(data[f"out/{kind}/0/mean"].shape))
    for i in range(rows):
        statistics.update(data[f"in/{kind}/{i}"])
        close(statistics.mean, data[f"out/{kind}/{i}/mean"])
        close(statistics.var, data[f"out/{kind}/{i}/var"])
        close(statistics.count, data[f"out/{kind}/{i}/count"])
        query = data[f"in/{kind}/{i}/query"]
        close(statistics.normalize(query), data[f"out/{kind}/{i}/normalized"])
        close(statistics.unnormalize(query), data[f"out/{kind}/{i}/unnormalized"])


def test_the_scale_of_returns_keeps_the_same_statistics(close) -> None:
    data = load("g3_running_mean_std.npz")
    scale, i = ReturnDeviation(), 0
    while f"in/scalar/{i}" in data:
        deviation = scale.update(data[f"in/scalar/{i}"])
        close(deviation.square() - scale.eps, data[f"out/scalar/{i}/var"])
        close(scale.mean, data[f"out/scalar/{i}/mean"])
        i += 1
    assert i > 1
