"""All agents keep the contract; what breaks it is named by its first broken point."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agents import batches_of, make
from torch import nn

from pwm_sdk import ObservationPolicy, check_agent

NAMES = ("PWM", "Population", "SHAC", "TDMPC2", "SAC", "PPO", "DreamerV3", "BehaviourCloning")


@pytest.mark.parametrize("name", NAMES)
def test_all_agents_keep_it_and_are_left_as_they_were(name: str) -> None:
    agent, batches = make(name), batches_of(name)
    seen = torch.randn(2, agent.observation_dim) if batches is None else None
    before = agent.updates
    check_agent(agent, None if batches is None else batches.sample(), observation=seen)
    assert agent.updates == before == 0


class Good:
    """Learns to do nothing."""

    def __init__(self) -> None:
        self.net, self.updates = nn.Linear(3, 2), 0
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.1)

    def update(self, batch: Any) -> dict[str, torch.Tensor]:
        loss = self.net(batch["observation"]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        return {"loss": loss.detach()}

    def policy(self) -> Any:
        return ObservationPolicy(lambda seen: self.net(seen).tanh())

    def explorer(self) -> Any:
        return self.policy()

    def set_learning_rates(self, factor: float) -> None:
        self.optimizer.param_groups[0]["lr"] = 0.1 * factor

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.updates = state["updates"]


class Stuck(Good):
    def update(self, batch: Any) -> dict[str, torch.Tensor]:
        metrics = super().update(batch)
        self.updates = 0
        return metrics


class Attached(Good):
    def update(self, batch: Any) -> dict[str, torch.Tensor]:
        return {**super().update(batch), "kept": self.net.weight.sum()}


class Plain(Good):
    def update(self, batch: Any) -> dict[str, Any]:
        return {"loss": float(super().update(batch)["loss"])}


class Forgetful(Good):
    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]


class Wide(Good):
    def policy(self) -> Any:
        return ObservationPolicy(lambda seen: 0.0 * self.net(seen)[:1])


class Loud(Good):
    def explorer(self) -> Any:
        return ObservationPolicy(lambda seen: seen, low=-5.0, high=5.0)


class Restless(Good):
    def set_learning_rates(self, factor: float) -> None:
        pass


BROKEN = [
    (Stuck, r"agent\.updates must go up by one in each update, from 0, got 0"),
    (Attached, "metrics must be detached tensors, got one with a graph in 'kept'"),
    (Plain, "metrics must be detached tensors, got float in 'loss'"),
    (Forgetful, "state_dict must hold everything that update changes"),
    (Wide, r"policy\(\) must return actions \[2, A\] for observations \[2, 3\], got \[1, 2\]"),
    (Loud, r"explorer\(\) must return actions in \[-1, 1\]"),
    (Restless, r"set_learning_rates\(0\) must leave all weights as they are"),
]


def batch() -> Any:
    return batches_of("BehaviourCloning").sample()


def test_a_right_one_passes() -> None:
    agent = Good()
    weight = agent.net.weight.clone()
    check_agent(agent, batch())
    assert torch.equal(agent.net.weight, weight)


@pytest.mark.parametrize(("kind", "message"), BROKEN, ids=lambda x: getattr(x, "__name__", None))
def test_a_wrong_one_is_named(kind: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_agent(kind(), batch())


def test_missing_members_are_named() -> None:
    with pytest.raises(ValueError, match="agent must have explorer, policy, got Linear"):
        check_agent(_with_all_but_policies(), batch())
    with pytest.raises(ValueError, match="observation must be given where there is no batch"):
        check_agent(make("SHAC"), None)


def _with_all_but_policies() -> Any:
    net: Any = nn.Linear(3, 2)
    net.updates, net.update, net.set_learning_rates = 0, print, print
    return net
