"""The running deviation of returns, by hand and per policy, and where a view is taken."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from pwm_sdk.algorithms.published import ReturnDeviation, published_view
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel


def test_the_deviation_of_all_returns_so_far_by_hand() -> None:
    scale = ReturnDeviation()
    scale.count.zero_()  # so that the start does not count
    # Of -1, 3: mean 1, variance 4. Of -1, 3, 1, 5: mean 2, variance (9 + 1 + 1 + 9) / 4.
    first = scale.update(torch.tensor([[-1.0], [3.0]]))
    torch.testing.assert_close(first, torch.tensor([4.0 + 1e-5]).sqrt())
    second = scale.update(torch.tensor([[1.0], [5.0]]))
    torch.testing.assert_close(second, torch.tensor([5.0 + 1e-5]).sqrt())
    assert float(scale.mean) == pytest.approx(2.0)
    assert float(scale.count) == 4.0


def test_each_policy_has_its_own_deviation() -> None:
    returns = torch.stack((torch.randn(50, 1), 10 * torch.randn(50, 1)))
    together = ReturnDeviation(population=2).update(returns)
    alone = torch.cat([ReturnDeviation().update(r) for r in returns])
    torch.testing.assert_close(together, alone)


def test_state_dict_round_trip() -> None:
    scale, other = ReturnDeviation(), ReturnDeviation()
    scale.update(torch.randn(9, 1))
    other.load_state_dict(copy.deepcopy(scale.state_dict()))
    values = torch.randn(9, 1)
    assert torch.equal(scale.update(values), other.update(values))


class Plain:
    """A latent model with neither bins nor masks."""

    latent_dim, action_dim = 3, 2

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        return latent, action.sum(-1, keepdim=True)


def test_a_view_is_taken_only_where_it_matters() -> None:
    plain, model = Plain(), WorldModel(3, 2, latent_dim=8, hidden=(8,), encoder_hidden=(8,))
    assert published_view(plain, PWMConfig.published()) is plain
    assert published_view(model, PWMConfig()) is model
    assert published_view(model, PWMConfig(symlog_reward=True)).mask_actions
    assert not published_view(model, PWMConfig(mask_actions=False)).symlog_reward


def test_published_settings_and_a_scale_of_ones_own() -> None:
    config = PWMConfig.published(horizon=3, detach=False)
    assert (config.horizon, config.detach, config.lam, config.shuffle) == (3, False, 0.0, False)
    parts = Plain(), FirstOrderActor(3, 2, (8,)), Critic(3, (8,))
    assert isinstance(PWM(*parts, config).return_scale, ReturnDeviation)
    own = ReturnDeviation()
    assert PWM(*parts, config, return_scale=own).return_scale is own
    assert PWM(*parts).return_scale is None
