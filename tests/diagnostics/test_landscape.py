"""Landscapes that are known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.diagnostics.gradients import policy_gradients
from pwm_sdk.diagnostics.landscape import return_landscape


class Constant(nn.Module):
    """The same two actions everywhere, a deterministic policy."""

    def __init__(self, *actions: float) -> None:
        super().__init__()
        self.action = nn.Parameter(torch.tensor(actions))

    def forward(self, latent: Tensor) -> Tensor:
        return self.action.expand(*latent.shape[:-1], -1)


class Bowl:
    """Reward -(u0^2 + 2 u1^2), whatever the latent."""

    latent_dim, action_dim = 1, 2

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        return latent, -(action.square() * torch.tensor([1.0, 2.0])).sum(-1, keepdim=True)


def test_the_landscape_of_a_quadratic_is_the_quadratic() -> None:
    policy, offsets = Constant(1.0, -0.5), torch.linspace(-2, 2, 9)
    direction = torch.tensor([0.5, 1.0])
    settings = {"direction": direction, "offsets": offsets, "horizons": [1, 2], "gamma": 0.5}
    single, found = return_landscape(Bowl(), policy, torch.zeros(3, 1), **settings)
    parabola = -1.5 * ((1 + 0.5 * offsets).square() + 2 * (offsets - 0.5).square())
    torch.testing.assert_close(found, parabola.unsqueeze(-1).expand(9, 3))
    torch.testing.assert_close(single, found / 1.5)
    assert policy.action.tolist() == [1.0, -0.5]
    slope = policy_gradients(Bowl(), policy, torch.zeros(2, 1), [2], gamma=0.5)[0, 0] @ direction
    assert float(slope) == pytest.approx(float((found[5] - found[3])[0]), rel=1e-4)


def test_bad_input_is_named() -> None:
    policy, starts = Constant(0.1, 0.2), torch.zeros(2, 1)
    for horizons in ([], [0]):
        with pytest.raises(ValueError, match="horizons must be at least 1"):
            return_landscape(Bowl(), policy, starts, torch.zeros(2), torch.zeros(1), horizons)
    with pytest.raises(ValueError, match="direction must have shape"):
        return_landscape(Bowl(), policy, starts, torch.zeros(3), torch.zeros(1), [1])
