"""The smallest legal object of each protocol: what it names, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.contract.pools import PoolStep


class SmallEncoder:
    def encode(self, observation: Tensor, task: Any = None) -> Tensor:
        return 2.0 * observation


class SmallModel(SmallEncoder):
    latent_dim, action_dim = 2, 1

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, Tensor]:
        following = 0.9 * latent + action
        return following, -following.square().sum(-1, keepdim=True)


class SmallMemory(SmallModel):
    def observe(
        self, latent: Tensor, action: Tensor, observation: Tensor, first: Tensor, task: Any = None
    ) -> Tensor:
        return self.encode(observation) + (latent + action).masked_fill(first, 0.0)


class SmallSimulator(SmallModel):
    observation_dim, episode_length = 3, 5

    def features(self, latent: Tensor) -> Tensor:
        return torch.cat([latent, latent[..., :1]], -1)

    def reset(self, count: int, generator: Any = None) -> Tensor:
        return torch.ones(count, 2)


class SmallTrainable(SmallEncoder):
    def next(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return latent + action

    def reward_logits(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return action

    def reward_error(self, logits: Tensor, reward: Tensor) -> Tensor:
        return (logits - reward).square()


class SmallPolicy:
    def __call__(self, latent: Tensor) -> Tensor:
        return latent[..., :1].tanh()


class SmallStochastic(SmallPolicy):
    action_dim = 1

    def loc(self, latent: Tensor) -> Tensor:
        return latent[..., :1]

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        return (loc if noise is None else loc + noise).tanh()


class SmallSampled:
    action_dim = 1

    def sample(self, latent: Tensor, noise: Tensor) -> Tensor:
        return (latent[..., :1] + noise).tanh()


class SmallTaskPart:
    def given(self, context: Any) -> Any:
        return lambda latent: latent[..., :1].tanh()


class SmallValue:
    def __call__(self, latent: Tensor) -> Tensor:
        return latent.sum(-1, keepdim=True)


class SmallEnsemble:
    def values(self, latent: Tensor) -> Tensor:
        return latent[..., :1].expand(2, *latent.shape[:-1], 1)


class SmallActionValue:
    def __call__(self, latent: Tensor, action: Tensor) -> Tensor:
        return latent[..., :1] + action


class SmallTaskActionValue:
    def given(self, context: Any, generator: Any = None) -> Any:
        return SmallActionValue()


class SmallQ:
    def value(
        self, latent: Tensor, action: Tensor, context: Any, *, heads: Any, reduce: str
    ) -> Any:
        return latent[..., :1] + action


class SmallLearnedQ:
    def logits(self, latent: Tensor, action: Tensor, context: Any) -> Tensor:
        return torch.stack([latent[..., :1] + action] * 2)

    def error(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits - target).square()


class SmallPrior:
    def __call__(self, latent: Tensor, context: Any, noise: Tensor) -> Tensor:
        return (latent[..., :1] + noise).tanh()


class SmallLearnedPrior:
    def distribution(self, latent: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        return latent[..., :1], -latent[..., :1].square()


class SmallPlanner:
    model = SmallModel()

    def plan(self, observation: Tensor, task: Any = None, *, choice: str = "mean") -> Tensor:
        return observation[:, :1].tanh()

    def reset(self, index: int | None = None) -> None:
        pass


class SmallBehaviour:
    def start(self, index: int) -> None:
        pass

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return np.zeros((len(observation), 1), np.float32)


class SmallPool:
    """Environments that end after five steps."""

    def __init__(self, count: int = 2) -> None:
        self.max_steps, self.tasks, self._time = None, [0] * count, [0] * count
        self.action_dims, self.names = [1] * count, ["own"] * count

    def __len__(self) -> int:
        return len(self._time)

    def reset_many(self, indices: Any, seeds: Any = None) -> list[np.ndarray]:
        for i in indices:
            self._time[i] = 0
        return [np.ones(2, np.float32) for _ in indices]

    def step_many(self, indices: Any, actions: Any) -> list[Any]:
        found = []
        for i, action in zip(indices, actions, strict=True):
            self._time[i] += 1
            seen, ends = np.full(2, float(action[0]), np.float32), self._time[i] == 5
            found.append(PoolStep(seen, 1.0, False, False, ends))
        return found

    def close(self) -> None:
        pass


SMALLEST: dict[str, Callable[[], Any]] = {
    "ActionValue": SmallActionValue, "Behaviour": SmallBehaviour, "Encoder": SmallEncoder,
    "EnsembleValue": SmallEnsemble, "LatentModel": SmallModel, "LearnedPrior": SmallLearnedPrior,
    "LearnedQ": SmallLearnedQ, "MemoryModel": SmallMemory, "Planner": SmallPlanner,
    "Policy": SmallPolicy, "Pool": SmallPool, "Prior": SmallPrior, "QFunction": SmallQ,
    "SampledPolicy": SmallSampled, "SimulatorModel": SmallSimulator,
    "StochasticPolicy": SmallStochastic, "TaskActionValue": SmallTaskActionValue,
    "TaskPart": SmallTaskPart, "TrainableModel": SmallTrainable, "ValueFunction": SmallValue,
}  # fmt: skip
