"""Small policies of every kind that is its networks alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pwm_sdk import (
    PPO,
    SAC,
    FirstOrderActor,
    ObservationPolicy,
    PolicyPrior,
    PPOConfig,
    RunningMeanStd,
    SACConfig,
    WorldModel,
)
from pwm_sdk.policies.networks import Normalized

O, A, D = 3, 2, 8  # noqa: E741 - the legend of shapes


class Own(nn.Module):
    """An actor that no file describes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(O, A)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return self.layer(seen).tanh()


def model(**settings: Any) -> WorldModel:
    small = {"latent_dim": D, "hidden": (16,), "encoder_hidden": (16,), "simnorm_size": 4}
    return WorldModel(O, A, **{**small, **settings})


def moments() -> RunningMeanStd:
    seen = RunningMeanStd((O,))
    seen.update(torch.randn(20, O) * 3.0 + 1.0)
    return seen


def policy(name: str) -> ObservationPolicy:
    """A new one, with first weights."""
    torch.manual_seed(0)
    tasked = model(num_tasks=2, task_dim=4, action_dims=[1, 2])
    with torch.no_grad():
        tasked.task_embedding.mul_(100.0)  # beyond the unit ball, into which a look-up brings them
    makers: dict[str, Any] = {
        "latents": lambda: ObservationPolicy(FirstOrderActor(D, A, (16, 16)), model=model()),
        "double": lambda: ObservationPolicy(
            FirstOrderActor(D, A, (16,)).double(), model=model().double()
        ),
        "statistics": lambda: ObservationPolicy(
            FirstOrderActor(D, A, (16,), norm="pre_activation"), model=model(standardize=True)
        ),
        "tasks": lambda: ObservationPolicy(FirstOrderActor(D, A, (16,)), model=tasked),
        "prior": lambda: ObservationPolicy(PolicyPrior.for_model(tasked), model=tasked),
        "one task": lambda: ObservationPolicy(
            PolicyPrior.for_model(tasked), model=tasked, tasks=1, low=[-2.0, 0.0], high=[2.0, 5.0]
        ),
        "normalized": lambda: ObservationPolicy(
            FirstOrderActor(O, A, (16,)), model=Normalized(moments())
        ),
        "sac": lambda: SAC(O, A, SACConfig(hidden=(16,))).policy(),
        "ppo": lambda: PPO(O, A, PPOConfig(hidden=(16,)), observations=moments()).policy(),
        "layers": lambda: ObservationPolicy(nn.Sequential(nn.Linear(O, A), nn.Tanh()), low=-3.0),
        "own": lambda: ObservationPolicy(Own()),
    }
    return makers[name]()


NAMES = ("latents", "double", "statistics", "tasks", "prior", "one task", "normalized", "sac",
         "ppo", "layers", "own")  # fmt: skip
ASKING = ("tasks", "prior")  # for a task id


def tasks_of(name: str, count: int) -> torch.Tensor | None:
    """Task ids `[N]` where the policy needs them."""
    return torch.arange(count) % 2 if name in ASKING else None
