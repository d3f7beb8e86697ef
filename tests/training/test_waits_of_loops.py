"""Loops over a device wait for it where they say so, and nowhere else; counted without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from agents import make, replay
from anywhere import Windows, make_loop, starts, windows
from waits import NoCopying, NoReading

from pwm_sdk import MPPI, fit
from pwm_sdk.functional.scale import running_scale


@contextmanager
def no_waits() -> Iterator[None]:
    with NoCopying(), NoReading():
        yield


def as_on_a_gpu(watch: Any) -> Any:
    """Let a watch leave its readings to `check_finite`, as it does where they cost something."""
    watch._at_once, watch.every = False, 1000
    return watch


@pytest.fixture
def loop(monkeypatch) -> Any:
    made = make_loop("cpu", "cpu")
    made.collect_seed([2])
    monkeypatch.setattr(made, "_watch", lambda: as_on_a_gpu(made.finite))
    as_on_a_gpu(made.learners[0].pwm.finite)
    # The replay's own draws are the CPU's business; what it hands out is on the device.
    batch = Windows(made.replay.sample())
    first = made.replay.sample_starts([0], 8)
    monkeypatch.setattr(made.replay, "sample", batch.sample)
    monkeypatch.setattr(made.replay, "sample_starts", lambda tasks, count, **history: first)
    monkeypatch.setattr(type(first), "to", lambda self, *_: self)  # it is there already
    return made


def test_an_improvement_waits_once_at_its_end(loop, monkeypatch) -> None:
    reads, check = [], loop.check_finite
    monkeypatch.setattr(loop, "check_finite", lambda: reads.append(loop.updates))
    with no_waits():
        metrics = loop.improve(3)
        assert reads == [3]
        with pytest.raises(RuntimeError, match="waits for the device"):
            check()
    assert metrics["model_loss"].isfinite()


def test_what_is_not_finite_is_told_by_the_improvement_itself(loop) -> None:
    loop.replay.sample()["reward"][:] = torch.nan
    before = [p.detach().clone() for p in loop.model.dynamics.parameters()]
    with pytest.raises(ValueError, match="the world model's loss and gradient must be finite"):
        loop.improve(2)
    for parameter, old in zip(loop.model.dynamics.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    loop.finite.note("the world model's loss and gradient", torch.tensor(torch.inf))
    with pytest.raises(ValueError, match="must be finite"):
        loop.state_dict()  # a state is never saved unread


@pytest.mark.parametrize("name", ["PWM", "Population", "TDMPC2", "BehaviourCloning"])
def test_updates_do_not_wait(name: str) -> None:
    agent = make(name)
    as_on_a_gpu(agent.finite)
    batch = starts("cpu", getattr(agent, "population", None))
    agent.update(batch)
    with no_waits():
        agent.update(batch)
        with pytest.raises(RuntimeError, match="waits for the device"):
            agent.check_finite()


@pytest.mark.parametrize("name", ["PWM", "TDMPC2", "BehaviourCloning"])
def test_an_offline_loop_waits_at_its_end_alone(name: str, monkeypatch) -> None:
    agent, reads = make(name), []
    as_on_a_gpu(agent.finite)
    fit(agent, replay(), 1)
    monkeypatch.setattr(agent, "check_finite", lambda: reads.append(agent.updates))
    update = agent.update

    def without_waits(batch: Any) -> Any:
        with no_waits():
            return update(batch)

    monkeypatch.setattr(agent, "update", without_waits)
    fit(agent, Windows(windows("cpu")), 4)
    assert reads == [5]


def test_losses_and_scales_make_no_tensor_of_the_host() -> None:
    with no_waits():
        scale = running_scale(torch.ones(()), torch.arange(101.0), tau=1.0, floor=1.0)
    assert float(scale) == pytest.approx(90.0)  # from the 5th to the 95th


def test_a_plan_waits_once(monkeypatch) -> None:
    agent = make("PWM")
    plan = MPPI(agent.model, agent.actor, agent.critic, samples=8, elites=4, policy_samples=2)
    context = agent.model.context(torch.zeros(1, dtype=torch.int64))
    latent = agent.model.encode(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))
    monkeypatch.setattr(torch, "isfinite", lambda x: torch.ones_like(x, dtype=torch.bool))
    with NoReading(), pytest.raises(RuntimeError, match="_local_scalar_dense"):
        plan.given(context)(latent)  # whether a plan is finite
