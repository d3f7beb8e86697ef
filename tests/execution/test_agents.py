"""Every agent, planner and world model runs in the precision that is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agents import EVERY, batches_of, make
from anywhere import make_loop, model, networks
from torch import Tensor

from pwm_sdk import MPPI, Execution

BF16 = Execution(precision="bf16")


def stepped(name: str, execution: Execution | None) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Metrics of one update, and the gradients that it left."""
    torch.manual_seed(0)
    agent, batches = make(name, execution=execution), batches_of(name)
    metrics = agent.update(*(() if batches is None else (batches.sample(),)))
    optimizers = [part for part in vars(agent).values() if hasattr(part, "param_groups")]
    parameters = [p for o in optimizers for g in o.param_groups for p in g["params"]]
    return metrics, [p.grad.flatten() for p in parameters if p.grad is not None]


@pytest.mark.parametrize("name", EVERY)
def test_an_update_in_bf16_is_the_update_up_to_rounding(name: str) -> None:
    exact, expected = stepped(name, None)
    half, found = stepped(name, BF16)
    assert any(not torch.equal(exact[key], half[key]) for key in exact)
    for gradient, other in zip(found, expected, strict=True):
        assert gradient.dtype == other.dtype
    along = torch.cosine_similarity(torch.cat(found), torch.cat(expected), dim=0)
    assert float(along) > 0.99
    for key, value in exact.items():
        if not key.endswith("norm") and value.isfinite().all():
            torch.testing.assert_close(half[key], value, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_possible_is_left_out_with_a_warning(name: str) -> None:
    with pytest.warns(UserWarning, match="cuda_graphs=True .*: running without"):
        agent = make(name, execution=Execution(cuda_graphs=True, precision="tf32"))
    assert (agent.execution.cuda_graphs, agent.execution.precision) == (False, "tf32")
    if name not in ("PWM", "Population", "SHAC"):
        with pytest.warns(UserWarning, match="compile=True is not possible here"):
            agent = make(name, execution=Execution(compile=True))
        assert not agent.execution.compile


@pytest.mark.parametrize("name", EVERY)
def test_readings_come_as_often_as_asked(name: str) -> None:
    agent = make(name, execution=Execution(check_every=7))
    assert agent.finite.every == 7


def test_plans_in_bf16_are_near_the_others() -> None:
    torch.manual_seed(0)
    made, (actor, critic) = model("cpu"), networks("cpu", None)
    seen, task, plans = torch.randn(6, 3), torch.arange(6) % 2, []
    for execution in (None, BF16):
        plan = MPPI(
            made,
            actor,
            critic,
            samples=64,
            elites=16,
            generator=torch.Generator().manual_seed(0),
            execution=execution,
        )
        plans.append(plan.plan(seen, task))
        assert plans[-1].dtype == torch.float32
    weights: Any = list(made.parameters())
    assert all(p.dtype == torch.float32 for p in weights)
    assert not torch.equal(*plans)
    assert float((plans[0] - plans[1]).abs().mean()) < 0.1


def test_a_world_model_is_trained_in_bf16() -> None:
    def losses(execution: Execution | None) -> list[float]:
        torch.manual_seed(0)
        loop = make_loop("cpu", "cpu", execution=execution)
        loop.collect_seed([2])
        return [float(loop.improve(1)["model_loss"]) for _ in range(3)]

    exact, half = losses(None), losses(BF16)
    assert half == pytest.approx(exact, rel=0.02)
    assert half != exact
