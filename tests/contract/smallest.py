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
            going = i < len(self) and self._time[i] < 5
            if not going or np.shape(action) != (1,) or not np.isfinite(action).all():
                raise ValueError(f"actions must be of episodes that go on, got {action} of {i}")
            self._time[i] += 1
            seen, ends = np.full(2, np.clip(action[0], -1, 1), np.float32), self._time[i] == 5
            found.append(PoolStep(seen, 1.0, False, False, ends))
        return found

    def close(self) -> None:
        pass


class SmallLogger:
    def log(self, metrics: Any, step: int) -> None:
        pass

    def close(self) -> None:
        pass


class SmallBatches:
    def sample(self) -> dict[str, Tensor]:
        return {"observation": torch.ones(4, 2)}


class SmallActing:
    def act(self, observation: Any, task: Any = None) -> Any:
        return 0.0 * observation[..., :1]

    def reset(self, index: int | None = None) -> None:
        pass

    def behaviour(self, tasks: Any) -> SmallBehaviour:
        return SmallBehaviour()


class SmallTrainableAgent:
    def __init__(self) -> None:
        self.updates = 0

    def update(self, batch: Any) -> dict[str, Tensor]:
        self.updates += 1
        return {"loss": torch.ones(())}

    def set_learning_rates(self, factor: float) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]


class SmallAgent(SmallTrainableAgent):
    def policy(self) -> SmallActing:
        return SmallActing()

    def explorer(self) -> SmallActing:
        return SmallActing()


class SmallReport:
    train_seconds = collect_seconds = 0.0

    def row(self, names: Any) -> dict[str, float]:
        return {"loss": 1.0}


class SmallLoop:
    def __init__(self) -> None:
        self.round = self.updates = self.steps = 0
        self.names, self.tasks, self.test_pool, self.code = ["own"], [None], SmallPool(1), ""

    def begin(self) -> None:
        pass

    def run_round(self, progress: float) -> SmallReport:
        self.round += 1
        return SmallReport()

    def policy(self) -> SmallActing:
        return SmallActing()

    def state_dict(self) -> dict[str, Any]:
        return {"round": self.round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round = state["round"]

    def save_data(self, path: Any) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def load_data(self, path: Any) -> None:
        pass


class SmallRecurrent:
    def carry(self, observation: Tensor, memory: Any, first: Tensor, task: Any = None) -> Any:
        return observation[:, :1].tanh(), memory


SMALLEST: dict[str, Callable[[], Any]] = {
    "ActingPolicy": SmallActing, "ActionValue": SmallActionValue, "Agent": SmallAgent,
    "Batches": SmallBatches, "Behaviour": SmallBehaviour, "Encoder": SmallEncoder,
    "EnsembleValue": SmallEnsemble, "LatentModel": SmallModel, "LearnedPrior": SmallLearnedPrior,
    "LearnedQ": SmallLearnedQ, "Logger": SmallLogger, "Loop": SmallLoop, "MemoryModel": SmallMemory,
    "Planner": SmallPlanner, "Policy": SmallPolicy, "Pool": SmallPool, "Prior": SmallPrior,
    "QFunction": SmallQ, "RecurrentPolicy": SmallRecurrent, "SampledPolicy": SmallSampled,
    "SimulatorModel": SmallSimulator, "StochasticPolicy": SmallStochastic,
    "TaskActionValue": SmallTaskActionValue, "TaskPart": SmallTaskPart,
    "TrainableAgent": SmallTrainableAgent, "TrainableModel": SmallTrainable,
    "ValueFunction": SmallValue,
}  # fmt: skip
