"""The smallest legal object of each protocol of `contract/parts.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from smallest import SmallBatches, SmallModel, SmallStochastic, SmallTrainable
from torch import Tensor, nn


class Context(NamedTuple):
    """What a model looked up of tasks."""

    task: Any
    action_mask: Any = None


class SmallStarting:
    latent_dim, action_dim, episode_length = 2, 1, 5

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, Tensor]:
        return 0.9 * latent + action, (action - latent).square().sum(-1, keepdim=True)

    def reset(self, count: int, generator: Any = None) -> Tensor:
        return torch.ones(count, 2)


class SmallNetwork(SmallModel):
    def context(self, task: Any) -> Context:
        return Context(task)

    def next(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return 0.9 * latent + action

    def reward_logits(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return action

    def decode_reward(self, logits: Tensor) -> Tensor:
        return logits

    def reward(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return self.decode_reward(self.reward_logits(latent, action, task))

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, Tensor]:
        return self.next(latent, action, task), self.reward(latent, action, task)


class SmallWeights:
    """The weights of a part: one number."""

    def __init__(self) -> None:
        self._weight = nn.Parameter(torch.ones(1))

    def parameters(self) -> Any:
        return iter([self._weight])


class SmallTrained(SmallWeights, SmallStochastic):
    def loc(self, latent: Tensor) -> Tensor:
        return latent[..., :1] * self._weight


class SmallTrainedValue(SmallWeights):
    def values(self, latent: Tensor) -> Tensor:
        return (latent.sum(-1, keepdim=True) * self._weight).unsqueeze(0)

    def __call__(self, latent: Tensor) -> Tensor:
        return self.values(latent).mean(0)


class SmallPolicies(SmallTrained):
    population = 2

    def __init__(self) -> None:
        self._weight = nn.Parameter(torch.ones(2, 1, 1))

    def loc(self, latent: Tensor) -> Tensor:
        return latent[..., :1] * _spread(self._weight, latent)


class SmallValues(SmallTrainedValue):
    population = 2

    def __init__(self) -> None:
        self._weight = nn.Parameter(torch.ones(2, 1, 1))

    def values(self, latent: Tensor) -> Tensor:
        return (latent.sum(-1, keepdim=True) * _spread(self._weight, latent)).unsqueeze(0)


def _spread(weight: Tensor, like: Tensor) -> Tensor:
    return weight.view(2, *[1] * (like.dim() - 1))


class SmallJointModel(SmallWeights, SmallTrainable):
    latent_dim, action_dim, num_tasks = 2, 1, 0

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 2)

    def encode(self, observation: Tensor, task: Any = None) -> Tensor:
        return self.encoder(observation)

    def context(self, task: Any) -> Any:
        return None

    def reward_logits(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return action * self._weight


class SmallJointQ(SmallWeights):
    latent_dim, action_dim = 2, 1

    def draw_heads(self) -> Tensor:
        return torch.tensor([0])

    def train(self, mode: bool = True) -> Any:
        return self

    def logits(self, latent: Tensor, action: Tensor, context: Any) -> Tensor:
        return torch.stack([latent[..., :1] + action * self._weight] * 2)

    def error(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits - target).square()

    def value(
        self, latent: Tensor, action: Tensor, context: Any, *, heads: Any, reduce: str
    ) -> Any:
        return latent[..., :1] + action * self._weight


class SmallJointPrior(SmallWeights):
    latent_dim, action_dim = 2, 1

    def distribution(self, latent: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        return latent[..., :1] * self._weight, -latent[..., :1].square()

    def __call__(self, latent: Tensor, context: Any, noise: Tensor) -> Tensor:
        return (latent[..., :1] * self._weight + noise).tanh()


class SmallMoments:
    def update(self, values: Tensor) -> None:
        pass

    def normalize(self, values: Tensor) -> Tensor:
        return 0.5 * values


class SmallSpread:
    scale = torch.ones(1)

    def update(self, values: Tensor) -> Tensor:
        return self.scale


class SmallScale:
    def update(self, returns: Tensor) -> Tensor:
        return torch.full((2 if returns.dim() > 2 else 1,), 2.0)


class SmallNumbered:
    index = 3


class SmallReplay(SmallBatches):
    def __init__(self) -> None:
        self._rows: Any = None

    def sample(self) -> Any:
        return self._rows

    def extend(self, rows: Any) -> None:
        self._rows = rows


SMALLEST_PARTS: dict[str, Callable[[], Any]] = {
    "JointModel": SmallJointModel, "JointPrior": SmallJointPrior, "JointQ": SmallJointQ,
    "Moments": SmallMoments, "NetworkModel": SmallNetwork, "Numbered": SmallNumbered,
    "PolicyPopulation": SmallPolicies, "Replay": SmallReplay, "Scale": SmallScale,
    "Spread": SmallSpread, "StartingModel": SmallStarting, "TrainedPolicy": SmallTrained,
    "TrainedValue": SmallTrainedValue, "ValuePopulation": SmallValues,
}  # fmt: skip
