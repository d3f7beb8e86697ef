"""Stand-ins for environments, models and policies, whose every number is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from faulty import AT, UNIT
from gymnasium import spaces
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded
from torchrl.envs import EnvBase

from pwm_sdk.policies.policy import ObservationPolicy


def act(value: float, size: int = 1) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda seen: torch.full((len(seen), size), value)


ACTING = ObservationPolicy(act(0.5)).behaviour([None] * 8)  # more than any pool has


class Spy:
    """A model of many tasks that notes which ones it is asked for."""

    latent_dim, action_dim, num_tasks = 2, 1, 80

    def encode(self, observation: torch.Tensor, task: Any = None) -> torch.Tensor:
        self.task = task.tolist()
        return torch.zeros(len(observation), 2)

    def step(self, latent: torch.Tensor, action: torch.Tensor, task: Any = None) -> Any:
        return latent, torch.zeros(len(latent), 1)


class Still:
    """A policy that does nothing."""

    def __init__(self, action_dim: int = 1, population: int | None = None) -> None:
        self.action_dim, self.population = action_dim, population

    def __call__(self, latent: torch.Tensor, noise: Any = None) -> torch.Tensor:
        return torch.zeros(*latent.shape[:-1], self.action_dim)


class Buffer(gymnasium.Env):
    """Counts up in one array that it hands out again and again."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (1,)), UNIT

    def reset(self, *, seed=None, options=None):
        self.array = getattr(self, "array", np.zeros(1, np.float32))
        self.array[:] = 0.0
        return self.array, {}

    def step(self, action):
        self.array += 1.0
        return self.array, 0.0, False, bool(self.array[0] == 4.0), {}


class TensorBuffer(EnvBase):
    """The same in TorchRL, whose specs and entries can be replaced."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault, self.array = fault, torch.zeros(1)
        self.observation_spec = Composite(observation=Unbounded(1))
        self.action_spec = {
            "one-hot": OneHot(3),
            "unbounded": Unbounded(1),
            "matrix": Bounded(-1.0, 1.0, (2, 2)),
        }.get(fault, Bounded(-2.0, 2.0, (1,), dtype=torch.float64))
        self.reward_spec = Unbounded(1)
        self.given: list[torch.Tensor] = []

    def _set_seed(self, seed):
        pass

    def _reset(self, tensordict=None, **_):
        self.array.zero_()
        return TensorDict({"observation": self.array})

    def _step(self, tensordict):
        self.array += 1.0
        self.given.append(tensordict["action"])
        if self.fault == "raises" and self.array[0] == AT + 1:
            raise KeyError("lost")
        found = self.array * torch.nan if self.fault == "nan" else self.array
        reward = torch.full((1,), torch.inf) if self.fault == "inf reward" else torch.zeros(1)
        over = self.array == 4.0
        return TensorDict({"observation": found, "reward": reward, "done": over})
