"""How the parts of algorithms are used: two updates with the smallest ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from smallest import SmallModel
from smallest_parts import (
    SmallJointModel,
    SmallJointPrior,
    SmallJointQ,
    SmallPolicies,
    SmallStarting,
    SmallTrained,
    SmallTrainedValue,
    SmallValues,
)
from tensordict import TensorDict
from torch import Tensor, nn

import pwm_sdk as sdk
from pwm_sdk.algorithms.published import PublishedModel

B, H = 4, 3


def windows() -> TensorDict:
    rows = {
        "observation": torch.rand(B, H + 1, 2),
        "action": torch.rand(B, H, 1),
        "reward": torch.rand(B, H, 1),
    }
    return TensorDict(rows, [B])


def learned(make: Any, parts: dict[str, Any], batch: Any, **more: Any) -> list[Tensor]:
    """Metrics of two updates."""
    agent = make(**parts, **more)
    return [value for _ in range(2) for value in agent.update(batch).values()]


def pwm(**parts: Any) -> list[Tensor]:
    whole = {"model": SmallModel(), "actor": SmallTrained(), "critic": SmallTrainedValue(), **parts}
    return learned(sdk.PWM, whole, windows(), config=sdk.PWMConfig(horizon=H))


def population(**parts: Any) -> list[Tensor]:
    whole = {"model": SmallModel(), "actor": SmallPolicies(), "critic": SmallValues(), **parts}
    batch = {"observation": torch.rand(2, B, 2)}
    return learned(sdk.Population, whole, batch, config=sdk.PWMConfig(horizon=H), seeds=[1, 2])


def shac(**parts: Any) -> list[Tensor]:
    kinds = {"model": SmallStarting, "actor": SmallTrained, "critic": SmallTrainedValue}
    whole = {name: kind() for name, kind in kinds.items()} | parts
    few = {"environments": 2, "horizon": 5, "critic_epochs": 1, "critic_splits": 1}
    return learned(sdk.SHAC, whole, None, config=sdk.SHACConfig(**few))


def tdmpc2(**parts: Any) -> list[Tensor]:
    whole = {"model": SmallJointModel(), "q": SmallJointQ(), "prior": SmallJointPrior(), **parts}
    return learned(sdk.TDMPC2, whole, windows())


def steps() -> TensorDict:
    """Transitions `[2, 4]` of two environments."""
    flag = torch.zeros(2, 4, 1, dtype=torch.bool)
    after = {"observation": torch.rand(2, 4, 2), "reward": torch.rand(2, 4, 1),
             "terminated": flag, "done": flag}  # fmt: skip
    here = {"observation": torch.rand(2, 4, 2), "action": torch.rand(2, 4, 1)}
    return TensorDict({**here, "next": TensorDict(after, [2, 4])}, [2, 4])


def replayed(replay: Any) -> list[Tensor]:
    sac = sdk.SAC(2, 1, sdk.SACConfig(random_steps=1, hidden=(4,)))
    return [batch["action"] for batch in sac.replayed([steps()], replay)]


USES_OF_AGENTS: dict[str, Callable[[Any], Any]] = {
    "BehaviourCloning.model": lambda x: learned(
        sdk.BehaviourCloning, {"actor": nn.Linear(2, 1), "model": x}, windows()
    ),
    "PPO.observations": lambda x: learned(
        sdk.PPO, {"observations": x}, steps(), observation_dim=2, action_dim=1
    ),
    "PPO.returns": lambda x: learned(
        sdk.PPO, {"returns": x}, steps(), observation_dim=2, action_dim=1
    ),
    "PWM.actor": lambda x: pwm(actor=x),
    "PWM.critic": lambda x: pwm(critic=x),
    "PWM.model": lambda x: pwm(model=x),
    "PWM.return_scale": lambda x: pwm(return_scale=x),
    "Population.actor": lambda x: population(actor=x),
    "Population.critic": lambda x: population(critic=x),
    "Population.model": lambda x: population(model=x),
    "Population.return_scale": lambda x: population(return_scale=x),
    "PublishedModel.model": lambda x: list(
        PublishedModel(x).step(torch.rand(B, 2), torch.rand(B, 1))
    ),
    "SAC.replayed.replay": replayed,
    "SHAC.actor": lambda x: shac(actor=x),
    "SHAC.critic": lambda x: shac(critic=x),
    "SHAC.model": lambda x: shac(model=x)[:2],
    "SHAC.normalizer": lambda x: shac(normalizer=x)[:2],
    "TDMPC2.model": lambda x: tdmpc2(model=x),
    "TDMPC2.prior": lambda x: tdmpc2(prior=x),
    "TDMPC2.q": lambda x: tdmpc2(q=x),
}
