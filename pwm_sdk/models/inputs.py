"""Checks of what a world model is built from and given, and its observations standardised."""

from __future__ import annotations

import torch
from torch import Tensor

from pwm_sdk.checks import whole
from pwm_sdk.functional.precision import autocast_enabled


def check_sizes(
    observation_dim: int, action_dim: int, latent_dim: int, num_tasks: int, task_dim: int
) -> None:
    """Raise ValueError for sizes that no network can have."""
    whole(1, observation_dim=observation_dim, action_dim=action_dim, latent_dim=latent_dim)
    whole(0, num_tasks=num_tasks)
    whole(1 if num_tasks else 0, task_dim=task_dim)


def check_heads(latent_dim: int, simnorm_size: int, num_bins: int, spectral_norm: bool) -> None:
    """Raise ValueError for ends of the networks that do not fit together."""
    if spectral_norm and simnorm_size:
        raise ValueError(f"simnorm_size must be 0 with spectral_norm, got {simnorm_size}")
    if simnorm_size and latent_dim % simnorm_size:
        raise ValueError(
            f"latent_dim must be divisible by simnorm_size {simnorm_size}, got {latent_dim}"
        )
    if num_bins == 1 or num_bins < 0:
        raise ValueError(f"num_bins must be 0 (scalar reward) or at least 2, got {num_bins}")


def check_bins(logits: Tensor, num_bins: int) -> None:
    """Raise ValueError for outputs of another number of bins; 0 bins: a scalar."""
    if logits.shape[-1] != max(num_bins, 1):
        raise ValueError(f"logits must have size {max(num_bins, 1)}, got {list(logits.shape)}")


def check_observation(observation: Tensor, task: object, size: int) -> None:
    """Raise ValueError unless observations are `[.., O]`, with tasks that broadcast to them."""
    if observation.shape[-1] != size:
        raise ValueError(f"observation must have size {size}, got {list(observation.shape)}")
    if not isinstance(task, Tensor):
        return
    lead, given = list(observation.shape[:-1]), list(task.shape)
    ends = zip(reversed(given), reversed(lead), strict=False)
    if len(given) > len(lead) or any(own not in (1, other) for own, other in ends):
        raise ValueError(f"task must broadcast to the observation's {lead}, got {given}")


def standardized(observation: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return `(x - mean) / std` of observations `[.., O]`, clipped to [-10, 10].

    Rows whose statistics are still 0 and 1, those before any were set, are left as they are.
    """
    known = ((mean != 0.0) | (std != 1.0)).any(-1, keepdim=True)
    scaled = (observation - mean) / std
    return torch.where(known, scaled.clamp(-10.0, 10.0), scaled)


def check_type(inputs: Tensor, dtype: torch.dtype) -> None:
    """Raise ValueError for inputs of a network of another type, which its products would not take.

    Statistics and embeddings bring integers to their own type before that.
    """
    if inputs.dtype != dtype and not autocast_enabled(inputs.device.type):
        raise ValueError(f"observation must be {dtype}, got {inputs.dtype}")


def check_statistics(table: Tensor, mean: Tensor, std: Tensor, task: int | None) -> None:
    """Raise ValueError unless mean and std fit one task's row `[O]` of a table, or the table."""
    if task is not None and (table.dim() == 1 or not 0 <= task < len(table)):
        known = f"an id in 0..{len(table) - 1}" if table.dim() > 1 else "None without tasks"
        raise ValueError(f"task must be {known}, got {task}")
    for name, value in (("mean", mean), ("std", std)):
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, got {value}")
        if value.shape != table.shape[-1:] and (task is not None or value.shape != table.shape):
            raise ValueError(
                f"{name} must have shape {list(table.shape[-1:])}, got {list(value.shape)}"
            )
    if not std.is_meta and not bool((std > 0.0).all()):
        raise ValueError(f"std must be positive, got {float(std.min())}")
