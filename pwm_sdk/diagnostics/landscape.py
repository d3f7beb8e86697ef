"""The return along a line through a policy's parameters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked, least, shaped
from pwm_sdk.checks import in_unit
from pwm_sdk.contract.models import LatentModel, features
from pwm_sdk.contract.policies import is_stochastic
from pwm_sdk.diagnostics.sums import check_horizons, partial_sums
from pwm_sdk.rollout import LatentRollout


@checked(
    gamma=in_unit,
    horizons=least(1),
    offsets=shaped(None),
    direction=shaped(None),
    latent=shaped(None, None),
    noise=shaped(None, None, None),
)
@torch.no_grad()
def return_landscape(
    model: LatentModel,
    policy: nn.Module,
    latent: Tensor,
    direction: Tensor,
    offsets: Tensor,
    horizons: Sequence[int],
    *,
    gamma: float = 1.0,
    noise: Tensor | None = None,
    task: Tensor | None = None,
) -> Tensor:
    """Return the H-step returns along a line through a policy's parameters.

    Args:
        model: where to act.
        policy: the policy at offset 0; it is left as it is.
        latent: starts `[B, D]`.
        direction: `[N]`, in the order of `policy.parameters()`.
        offsets: `[K]`, multiples of the direction.
        horizons: every H wanted, at least 1.
        gamma: discount per step.
        noise: standard normal `[max H, B, A]`, the same at every offset; None: mean actions.
        task: ids `[B]`, for a model of several tasks.

    Returns:
        `[len(horizons), K, B]`, discounted sums of rewards.

    Raises:
        ValueError: if horizons are none or senseless, or a direction does not fit.
    """
    check_horizons(horizons)
    origin = nn.utils.parameters_to_vector(policy.parameters())
    if direction.shape != origin.shape:
        raise ValueError(
            f"direction must have shape {list(origin.shape)}, got {list(direction.shape)}"
        )
    moved = copy.deepcopy(policy)
    parameters = list(moved.parameters())
    if is_stochastic(moved) and noise is None:
        own: Any = moved
        shape = (max(horizons), len(latent), own.action_dim)
        noise = features(model, latent).new_zeros(shape)
    rollout, returns = LatentRollout(model, moved, max(horizons)), []
    for offset in offsets.tolist():
        nn.utils.vector_to_parameters(origin + offset * direction, parameters)
        returns.append(partial_sums(rollout(latent, task, noise), gamma))
    return torch.stack([torch.stack([total[:, h - 1] for total in returns]) for h in horizons])
