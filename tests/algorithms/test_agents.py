"""What every agent has, with one meaning."""

from __future__ import annotations

import pytest
import torch
from agents import EVERY, batches_of, make

from pwm_sdk.contract.agents import DecayingAgent, PlacedAgent, WatchedAgent

FLOORS = {"TDMPC2": 1.0, "DreamerV3": 1.0, "SAC": 1.0, "PPO": 0.0}  # others 0.02


@pytest.mark.parametrize("name", EVERY)
def test_any_loop_can_train_it(name: str) -> None:
    agent, batches = make(name), batches_of(name)
    for protocol in (DecayingAgent, PlacedAgent, WatchedAgent):
        assert isinstance(agent, protocol), protocol
    assert agent.decay_floor == FLOORS.get(name, 0.02)
    assert agent.device == torch.device("cpu")
    for done in (1, 2):
        metrics = agent.update(None if batches is None else batches.sample())
        assert agent.updates == done
        assert not any(value.requires_grad for value in metrics.values())
    agent.check_finite()
    other = make(name)
    other.load_state_dict(agent.state_dict())
    assert other.updates == 2


@pytest.mark.parametrize("name", EVERY)
def test_rates_are_shares_of_the_first_ones(name: str) -> None:
    agent = make(name)
    optimizers = [part for part in vars(agent).values() if hasattr(part, "param_groups")]
    first = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    for factor in (0.5, 0.25, 1.0):  # not of the last ones
        agent.set_learning_rates(factor)
        found = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        assert found == pytest.approx([factor * lr for lr in first])
    with pytest.raises(ValueError, match=r"factor must be at least 0.0, got -1"):
        agent.set_learning_rates(-1)
