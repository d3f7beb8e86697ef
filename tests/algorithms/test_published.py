"""Where a view of the model is taken, and which scale returns get."""

from __future__ import annotations

from torch import Tensor

from pwm_sdk.algorithms.published import published_view
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.algorithms.return_scales import ReturnDeviation, ReturnScale
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel


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
    assert isinstance(PWM(*parts).return_scale, ReturnScale)
    assert PWM(*parts, PWMConfig.paper()).return_scale is None
