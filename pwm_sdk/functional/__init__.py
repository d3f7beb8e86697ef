"""Equations as pure functions of tensors: returns, two-hot codes, losses, Gaussians, penalties.

Public as they stand here: `from pwm_sdk.functional import lambda_returns`.
"""

from pwm_sdk.functional.activations import mish
from pwm_sdk.functional.gaussian import bounded_log_std, gaussian_log_prob, tanh_log_slope
from pwm_sdk.functional.gradients import clip_cotangent
from pwm_sdk.functional.losses import (
    saturated_share,
    saturation_penalty,
    step_powers,
    step_weights,
    two_hot_loss,
)
from pwm_sdk.functional.moments import merge_moments
from pwm_sdk.functional.planning import draw_by_weight, elite_weights, weighted_moments
from pwm_sdk.functional.returns import (
    alive_steps,
    discounted_return,
    lambda_returns,
    restarted_return,
)
from pwm_sdk.functional.rewards import tolerance
from pwm_sdk.functional.scale import quantile_range, running_scale
from pwm_sdk.functional.twohot import (
    bin_centers,
    symexp,
    symlog,
    two_hot,
    two_hot_decode,
    two_hot_mean,
)

__all__ = [
    "alive_steps",
    "bin_centers",
    "bounded_log_std",
    "clip_cotangent",
    "discounted_return",
    "draw_by_weight",
    "elite_weights",
    "gaussian_log_prob",
    "lambda_returns",
    "merge_moments",
    "mish",
    "quantile_range",
    "restarted_return",
    "running_scale",
    "saturated_share",
    "saturation_penalty",
    "step_powers",
    "step_weights",
    "symexp",
    "symlog",
    "tanh_log_slope",
    "tolerance",
    "two_hot",
    "two_hot_decode",
    "two_hot_loss",
    "two_hot_mean",
    "weighted_moments",
]
