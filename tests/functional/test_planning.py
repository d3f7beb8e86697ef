"""Elites, their weights and moments, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pwm_sdk.functional.planning import draw_by_weight, elite_weights, weighted_moments


def test_elites_are_weighted_by_hand() -> None:
    # Values 1, 3 and 1 + 2 ln 3 at temperature 1/2: the best is 2, then 1; e^(-.5 (2 ln 3 - 2)).
    value = torch.tensor([[1.0, 3.0, 1.0 + 2 * math.log(3)]])
    index, weight = elite_weights(value, 2, 0.5)
    assert index.tolist() == [[2, 1]]
    second = math.e / 3
    expected = torch.tensor([[1 / (1 + second), second / (1 + second)]])
    torch.testing.assert_close(weight, expected)


def test_values_of_any_size_are_safe() -> None:
    large = torch.tensor([[1e30, 1e30, -1e30], [1e4, 1e4 - 2 * math.log(3), 0.0]])
    _, weight = elite_weights(large, 3, 0.5)
    torch.testing.assert_close(weight[0], torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(weight[1], torch.tensor([0.75, 0.25, 0.0]), atol=1e-3, rtol=0)


def test_candidates_without_a_finite_value_weigh_nothing() -> None:
    value = torch.tensor([[torch.nan, 2.0, torch.inf, -torch.inf], [torch.nan] * 4])
    index, weight = elite_weights(value, 2, 0.5)
    assert index[0, 0] == 1
    assert weight[0].tolist() == [1.0, 0.0]
    assert weight[1].isnan().all()


def test_weighted_moments_by_hand() -> None:
    actions = torch.tensor([[[1.0]], [[-1.0]]]).unsqueeze(0)  # two candidates, H = A = 1
    mean, std = weighted_moments(actions, torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(mean, torch.tensor([[[0.5]]]))
    torch.testing.assert_close(std, torch.tensor([[[math.sqrt(0.75 * 0.25 + 0.25 * 2.25)]]]))


def test_draws_follow_the_weights() -> None:
    # ln .75 - ln 3 < ln .25 - ln .5: the second.
    index = draw_by_weight(torch.tensor([[0.75, 0.25]]), torch.tensor([[3.0, 0.5]]))
    assert index.tolist() == [1]
    weight = torch.tensor([0.2, 0.8, 0.0]).expand(20_000, 3)
    counts = draw_by_weight(weight, torch.empty_like(weight).exponential_()).bincount(minlength=3)
    assert counts[2] == 0
    assert float(counts[0]) / 20_000 == pytest.approx(0.2, abs=0.01)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"elites must lie in 1..3, got 4"):
        elite_weights(torch.zeros(2, 3), 4, 0.5)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        elite_weights(torch.zeros(2, 3), 2, 0.0)
