"""Alarms: does imagination promise more than the environment pays?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.protocols import features
from pwm_sdk.rollout import LatentRollout
from pwm_sdk.training.collect import Episode


def sample_segments(
    episodes: Sequence[Sequence[Episode]], horizon: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw `count` segments of `horizon` steps from the episodes of each of P policies.

    Returns:
        Start observations `[P, count, O]`, rewards of the steps `[P, count, horizon]` and the
        observations where the segments end `[P, count, O]`.

    Raises:
        ValueError: if a policy has no episode of at least `horizon` steps.
    """
    starts, rewards, ends = [], [], []
    for i, mine in enumerate(episodes):
        long = [e for e in mine if len(e.reward) >= horizon]
        if not long:
            raise ValueError(
                f"episodes must hold one of at least {horizon} steps for policy {i}, got none"
            )
        picks = [long[rng.integers(len(long))] for _ in range(count)]
        times = [int(rng.integers(len(e.reward) - horizon + 1)) for e in picks]
        starts.append([e.observation[t] for e, t in zip(picks, times, strict=True)])
        rewards.append([e.reward[t : t + horizon] for e, t in zip(picks, times, strict=True)])
        ends.append([e.observation[t + horizon] for e, t in zip(picks, times, strict=True)])
    return np.asarray(starts), np.asarray(rewards), np.asarray(ends)


@torch.no_grad()
def exploitation_gap(
    model: Any,
    actor: Any,
    critic: Any,
    episodes: Sequence[Sequence[Episode]],
    tasks: Sequence[int],
    gamma: float | Tensor,
    *,
    reward_scale: Sequence[float],
    horizon: int = 16,
    count: int = 64,
    rng: np.random.Generator,
    deterministic: bool = True,
) -> dict[str, np.ndarray]:
    """Compare what model and critic predict with what episodes of the same policies brought.

    Args:
        model: the latent model.
        actor: a population of P policies that produced the episodes.
        critic: its critic.
        episodes: real episodes of each policy.
        tasks: task id of each policy.
        gamma: discount, one number or `[P]`.
        reward_scale: units of the real rewards per policy; the model predicts reward / scale.
        horizon: steps compared.
        count: segments per policy.
        rng: draws the segments.
        deterministic: imagine with the mean action; otherwise with the policy's noise.

    Returns:
        Per policy `[P]`: predicted (imagined sum of `horizon` rewards), real (of the environment),
        gap (their difference), value (V at the starts), value_real (real discounted rewards plus
        discounted V where they end). Large positive gaps mean that the policy exploits the model.
    """
    starts, rewards, ends = sample_segments(episodes, horizon, count, rng)
    rewards = rewards / np.asarray(reward_scale, np.float32).reshape(-1, 1, 1)
    device = next(actor.parameters()).device
    task = torch.as_tensor(list(tasks), device=device).unsqueeze(1).expand(-1, count)
    latent = model.encode(torch.as_tensor(starts, device=device), task)
    noise = None
    if deterministic:
        noise = torch.zeros(horizon, *latent.shape[:-1], actor.action_dim, device=device)
    trajectory = LatentRollout(model, actor, horizon)(latent, task, noise)
    imagined: Any = trajectory[keys.NEXT, keys.REWARD]
    predicted = imagined.sum(-2).mean((1, 2))
    end = model.encode(torch.as_tensor(ends, device=device), task)
    end_value = critic(features(model, end)).squeeze(-1)
    discount = torch.as_tensor(gamma, device=device).expand(len(tasks)).view(-1, 1)
    powers = discount.unsqueeze(-1) ** torch.arange(horizon, device=device)
    real = torch.as_tensor(rewards, device=device)
    backed = (real * powers).sum(-1) + discount**horizon * end_value
    table = {
        "predicted": predicted,
        "real": real.sum(-1).mean(1),
        "value": critic(latent).mean((1, 2)),
        "value_real": backed.mean(1),
    }
    table["gap"] = table["predicted"] - table["real"]
    return {name: column.double().cpu().numpy() for name, column in table.items()}
