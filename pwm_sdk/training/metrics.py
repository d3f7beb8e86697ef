"""Alarms: does imagination promise more than the environment pays?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.calls import anywhere, checked, least, some
from pwm_sdk.checks import in_unit, positive
from pwm_sdk.contract.memory import has_memory, observed_latents
from pwm_sdk.contract.models import LatentModel, features
from pwm_sdk.contract.places import device_of
from pwm_sdk.contract.policies import StochasticPolicy, ValueFunction
from pwm_sdk.rollout import LatentRollout
from pwm_sdk.training.collect import Episode


class Segments(NamedTuple):
    """Stretches of real episodes of P policies.

    Attributes:
        start: first observations, `[P, count, O]`.
        reward: of the steps, `[P, count, horizon]`; 0 after the end of an episode.
        end: last observations, `[P, count, O]`.
        ended: whether the episode ended in the segment, `[P, count]` bool.
        places: of each, its episode and the step at which it starts, `count` for each of P.
    """

    start: np.ndarray
    reward: np.ndarray
    end: np.ndarray
    ended: np.ndarray
    places: list[list[tuple[Episode, int]]]


def sample_segments(
    episodes: Sequence[Sequence[Episode]], horizon: int, count: int, rng: np.random.Generator
) -> Segments:
    """Draw `count` segments of `horizon` steps from the episodes of each of P policies.

    A segment may reach beyond the end of an episode that terminated, but not of one that was cut.

    Raises:
        ValueError: if a policy has no episode of at least `horizon` steps, or that terminated.
    """
    found, places = [], []
    for i, mine in enumerate(episodes):
        usable = [(e, n) for e in mine if (n := _starts(e, horizon)) > 0]
        if not usable:
            raise ValueError(
                f"episodes must hold one of at least {horizon} steps for policy {i}, got none"
            )
        picks = [usable[rng.integers(len(usable))] for _ in range(count)]
        places.append([(e, int(rng.integers(n))) for e, n in picks])
        parts = [_cut(e, time, horizon) for e, time in places[-1]]
        found.append([np.asarray(column) for column in zip(*parts, strict=True)])
    start, reward, end, ended = (np.asarray(column) for column in zip(*found, strict=True))
    return Segments(start, reward, end, ended, places)


def _starts(episode: Episode, horizon: int) -> int:
    """Number of steps at which a segment can start."""
    steps = len(episode.reward)
    return steps if episode.terminated[-1] else steps - horizon + 1


def _cut(episode: Episode, time: int, horizon: int) -> tuple[np.ndarray, np.ndarray, Any, bool]:
    reward = episode.reward[time : time + horizon]
    stop = time + len(reward)
    ended = bool(episode.terminated[stop - 1])
    padded = np.pad(reward, (0, horizon - len(reward)))
    return episode.observation[time], padded, episode.observation[stop], ended


@checked(
    gamma=(in_unit, anywhere),
    reward_scale=positive,
    horizon=least(1),
    count=least(1),
    episodes=some,
)
@torch.no_grad()
def exploitation_gap(
    model: LatentModel,
    actor: StochasticPolicy,
    critic: ValueFunction,
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
        model: the latent model; one with memory sees up to `horizon` rows before each segment.
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
        gap (their difference; large and positive where the policy exploits the model), value (V at
        the starts), value_real (real discounted rewards plus discounted V where they end). Nothing
        counts after a termination.
    """
    _check_numbers(len(episodes), tasks=tasks, reward_scale=reward_scale)
    segments = sample_segments(episodes, horizon, count, rng)
    rewards = segments.reward / np.asarray(reward_scale, np.float32).reshape(-1, 1, 1)
    device = device_of(actor)
    task = torch.as_tensor(list(tasks), device=device).unsqueeze(1).expand(-1, count)
    latent, end = _start_and_end(model, segments, task)
    shape = (horizon, *latent.shape[:-1], actor.action_dim)
    noise = torch.zeros(shape, device=device) if deterministic else None
    trajectory = LatentRollout(model, actor, horizon)(latent, task, noise)
    predicted = _alive_rewards(trajectory).sum(-2).mean((1, 2))
    alive = torch.as_tensor(~segments.ended, device=device)
    end_value = critic(features(model, end)).squeeze(-1) * alive
    discount = torch.as_tensor(gamma, device=device).expand(len(tasks)).view(-1, 1)
    powers = discount.unsqueeze(-1) ** torch.arange(horizon, device=device)
    real = torch.as_tensor(rewards, device=device)
    backed = (real * powers).sum(-1) + discount**horizon * end_value
    table = {
        "predicted": predicted,
        "real": real.sum(-1).mean(1),
        "value": critic(features(model, latent)).mean((1, 2)),
        "value_real": backed.mean(1),
    }
    table["gap"] = predicted - real.sum(-1).mean(1)
    return {name: column.double().cpu().numpy() for name, column in table.items()}


def _start_and_end(model: LatentModel, segments: Segments, task: Tensor) -> tuple[Tensor, Tensor]:
    """Latents `[P, count, D]` where segments start and where they end."""

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values), device=task.device)

    if not has_memory(model):
        first, last = (tensor(seen) for seen in (segments.start, segments.end))
        return model.encode(first, task), model.encode(last, task)
    horizon = segments.reward.shape[-1]
    rows = [[_around(e, time, horizon) for e, time in mine] for mine in segments.places]
    seen, action, first, last = (
        tensor([[row[part] for row in mine] for mine in rows]) for part in range(4)
    )
    latents = observed_latents(model, seen, action, task, first)
    place = last[..., None, None].expand(*last.shape, 1, latents.shape[-1])
    return latents[..., horizon, :], latents.gather(-2, place).squeeze(-2)


def _around(episode: Episode, time: int, horizon: int) -> tuple[Any, Any, Any, int]:
    """What comes before and in a segment: 2 horizon + 1 rows, of which one at the edge repeats."""
    steps = len(episode.reward)
    number = np.arange(time - horizon, time + horizon + 1)
    row = number.clip(0, steps)
    action = episode.action[row[:-1].clip(max=steps - 1)]
    last = horizon + min(horizon, steps - time)
    return episode.observation[row], action, (number <= 0)[:, None], last


def _check_numbers(policies: int, **given: Sequence[Any]) -> None:
    """Raise ValueError for lists without one entry per policy."""
    for name, values in given.items():
        if len(values) != policies:
            raise ValueError(
                f"{name} must have one entry per policy of episodes ({policies}), got {len(values)}"
            )


def _alive_rewards(trajectory: TensorDictBase) -> Tensor:
    """Imagined rewards `[.., H, 1]` up to the first end, 0 after it."""
    after: Any = trajectory[keys.NEXT]
    over = after[keys.TERMINATED].long()
    return after[keys.REWARD].masked_fill(over.cumsum(-2) > over, 0.0)
