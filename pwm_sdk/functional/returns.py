"""Discounted returns of imagined trajectories. Time is the last but one axis: `[.., H, 1]`."""

from __future__ import annotations

import torch
from torch import Tensor

from pwm_sdk.calls import anywhere, checked, shaped
from pwm_sdk.checks import in_unit


def _check(reward: Tensor, **others: Tensor | None) -> None:
    if reward.dim() < 2 or reward.shape[-1] != 1 or reward.shape[-2] == 0:
        raise ValueError(f"reward must have shape [.., H, 1] with H >= 1, got {list(reward.shape)}")
    for name, value in others.items():
        if value is not None and value.shape != reward.shape:
            raise ValueError(
                f"{name} must have the shape of reward {list(reward.shape)}, "
                f"got {list(value.shape)}"
            )


@checked(gamma=(in_unit, anywhere), lam=in_unit)
def lambda_returns(
    reward: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
    lam: float,
    terminated: Tensor | None = None,
    truncated: Tensor | None = None,
) -> Tensor:
    r"""TD(lambda) returns, of all steps at once: memory grows with the square of H.

    .. math:: G_t = r_t + \gamma (1 - d_t) [(1 - \lambda_t) V(z_{t+1}) + \lambda_t G_{t+1}]

    with `d_t` = terminated and `lambda_t = lam`, or 0 where the trajectory is cut (truncated, and
    always at the last step). `lam = 0` is the one-step target, `lam = 1` the H-step return.

    Args:
        reward: `[.., H, 1]`, environment units per step.
        next_value: `V(z_{t+1})`, `[.., H, 1]`.
        gamma: discount per step in [0, 1], one number or one per policy `[P]` for reward `[P, ..,
            H, 1]`.
        lam: lambda in [0, 1].
        terminated: `[.., H, 1]` bool; no value is bootstrapped after these steps.
        truncated: `[.., H, 1]` bool; the return is cut here and bootstrapped with the value.

    Returns:
        `[.., H, 1]`, differentiable in reward and next_value.

    Raises:
        ValueError: if shapes do not fit or lambda lies outside [0, 1].

    Source: Sutton and Barto, Reinforcement Learning, 2nd ed., eq. 12.18 and section 12.8; PWM eq.
    6.
    """
    _check(reward, next_value=next_value, terminated=terminated, truncated=truncated)
    if not 0.0 <= lam <= 1.0:
        raise ValueError(f"lam must lie in [0, 1], got {lam}")
    discount = gamma_like(gamma, reward)
    if terminated is not None:
        discount = discount * ~terminated
    mix = torch.full_like(reward[..., :1], lam)
    if truncated is not None:
        mix = mix * ~truncated
    mix[..., -1, :] = 0.0
    # G_t = x_t + c_t G_{t+1} is G = W x, with W_ts the product of c over the steps t .. s - 1.
    now = reward + discount * (1.0 - mix) * next_value
    return (_products(discount * mix) * now.mT).sum(-1, keepdim=True)


def _products(carry: Tensor) -> Tensor:
    """Products over the steps t .. s - 1 of `[.., H, 1]`, 0 for s < t: `[.., H, H]`."""
    horizon = carry.shape[-2]
    shifted = torch.cat((torch.ones_like(carry[..., :1, :]), carry[..., :-1, :]), -2)
    upper = torch.ones(horizon, horizon, dtype=torch.bool, device=carry.device).triu(1)
    return torch.where(upper, shifted.mT, 1.0).cumprod(-1).triu()


@checked(gamma=(in_unit, anywhere))
def gamma_like(gamma: float | Tensor, reward: Tensor) -> Tensor:
    """Shape a discount, or one per policy `[P]`, to broadcast against reward `[.., H, 1]`."""
    if not isinstance(gamma, Tensor):  # filled where it is used: a copy would wait for the device
        return torch.full((), gamma, dtype=reward.dtype, device=reward.device)
    gamma = gamma.to(dtype=reward.dtype, device=reward.device)
    if gamma.dim() > 1 or (gamma.dim() == 1 and len(gamma) not in (1, reward.shape[0])):
        raise ValueError(
            f"gamma must be one number or one per policy [{reward.shape[0]}], "
            f"got {list(gamma.shape)}"
        )
    return gamma.view(-1, *[1] * (reward.dim() - 1)) if gamma.dim() else gamma


@checked(gamma=(in_unit, anywhere))
def discounted_return(
    reward: Tensor,
    last_value: Tensor,
    gamma: float | Tensor,
    terminated: Tensor | None = None,
) -> Tensor:
    r"""H-step return with a bootstrapped end.

    .. math:: J = \sum_{t<H} \gamma^t c_t r_t + \gamma^H c_H V(z_H), \quad c_t = \prod_{s<t} (1 -
    d_s)

    Args:
        reward: `[.., H, 1]`, environment units per step.
        last_value: `V(z_H)`, `[.., 1]`.
        gamma: discount per step in [0, 1], one number or one per policy `[P]`.
        terminated: `[.., H, 1]` bool, `d_t`.

    Returns:
        `[.., 1]`.

    Source: PWM eq. 5. Differs: the published program gives the value `gamma^(H+1)`.
    """
    _check(reward, terminated=terminated)
    if last_value.shape != (*reward.shape[:-2], 1):
        raise ValueError(
            f"last_value must have shape {list(reward.shape[:-2])} + [1], "
            f"got {list(last_value.shape)}"
        )
    discount = gamma_like(gamma, reward).expand_as(reward)
    if terminated is not None:
        discount = discount * ~terminated
    weight = discount.cumprod(-2)  # of what follows each step
    first = reward[..., 0, :] + weight[..., -1, :] * last_value
    return first + (weight[..., :-1, :] * reward[..., 1:, :]).sum(-2)


@checked(terminated=shaped(..., None, 1))
def alive_steps(terminated: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Mark the steps up to and including the first terminated one.

    Args:
        terminated: `[.., H, 1]` bool.
        dtype: of the result.

    Returns:
        1 where the step happened and 0 after an end, `[.., H, 1]`.
    """
    alive = torch.ones_like(terminated, dtype=dtype)
    alive[..., 1:, :] = (~terminated[..., :-1, :]).cumprod(-2).to(dtype)
    return alive


@checked(gamma=(in_unit, anywhere))
def restarted_return(
    reward: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    published: bool = False,
) -> Tensor:
    r"""Sum of the returns of all episodes within a trajectory that restarts after each end.

    .. math:: J = \sum_{episodes} \left(\sum_{k<n} \gamma^k r_k + \gamma^n V(z_n)\right)

    with n the episode's steps within the trajectory and no value after a terminated step.

    Args:
        reward: `[.., H, 1]`.
        next_value: `V(z_{t+1})` of the latents before a restart, `[.., H, 1]`.
        gamma: discount per step in [0, 1], one number or one per policy `[P]`.
        terminated: `[.., H, 1]` bool.
        truncated: `[.., H, 1]` bool; the last step needs no mark.
        published: as the published program: gamma^(n+1) for the last value, and where an episode
            ends exactly at the last step its rewards are lost and the value counts gamma.

    Returns:
        `[.., 1]`.

    Source: PWM's program for single tasks; SHAC (arXiv 2204.07137), eq. 5.
    """
    _check(reward, next_value=next_value, terminated=terminated, truncated=truncated)
    value = next_value * ~terminated
    factor = gamma_like(gamma, reward).expand_as(reward)
    done = terminated | truncated
    total = gathered = torch.zeros_like(reward[..., 0, :])
    discount = torch.ones_like(gathered)
    horizon = reward.shape[-2]
    for t in range(horizon):
        last = t == horizon - 1
        gathered = gathered + discount * reward[..., t, :]
        discount = discount * factor[..., t, :]
        end = done[..., t, :] | (last and not published)
        if not (last and published):
            total = total + (gathered + discount * value[..., t, :]) * end
        gathered, discount = gathered * ~end, torch.where(end, 1.0, discount)
    if published:
        total = total + gathered + factor[..., -1, :] * discount * value[..., -1, :]
    return total
