"""A rate that waits at 0 can come back: every learner remembers what it was made with."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from spoiled import MEMBERS, MODEL, batch

import pwm_sdk
from pwm_sdk.algorithms.behaviour_cloning import BehaviourCloning
from pwm_sdk.algorithms.population import Population
from pwm_sdk.algorithms.ppo import PPO, PPOConfig
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic

SOURCES = sorted(Path(pwm_sdk.__file__).parent.rglob("*.py"))
REMEMBER = "remember_learning_rates"


def makers(tree: ast.AST) -> list[tuple[str, bool]]:
    """Functions that make or are given an optimizer to schedule, and whether they remember."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        calls = {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
        takes = node.name == "__init__" and any(
            argument.annotation is not None
            and ast.unparse(argument.annotation) == "torch.optim.Optimizer"
            and argument.arg == "model_optimizer"
            for argument in node.args.args
        )
        if takes or any(name.startswith("torch.optim.") for name in calls):
            found.append((node.name, REMEMBER in calls))
    return found


def test_whoever_makes_an_optimizer_remembers_its_rates() -> None:
    every = {
        f"{path.stem}.{name}": remembers
        for path in SOURCES
        for name, remembers in makers(ast.parse(path.read_text()))
    }
    assert "online.__init__" in every
    assert [name for name, remembers in every.items() if not remembers] == []


def learner(kind: str) -> PWM | BehaviourCloning | PPO:
    torch.manual_seed(0)
    actor = FirstOrderActor.published(8, 2, (8,), population=MEMBERS)
    critic, config = Critic.published(8, (8,), 2, population=MEMBERS), PWMConfig.paper(horizon=2)
    if kind == "PPO":
        return PPO(3, 2, PPOConfig(hidden=(8,)))
    if kind == "BehaviourCloning":
        return BehaviourCloning(actor, model=MODEL)
    if kind == "Population":
        return Population(MODEL, actor, critic, config, seeds=range(MEMBERS))
    return PWM(MODEL, actor, critic, config)


@pytest.mark.parametrize("kind", ["PWM", "Population", "BehaviourCloning", "PPO"])
def test_a_rate_that_is_set_to_zero_comes_back(kind: str) -> None:
    made = learner(kind)
    optimizers = [v for name, v in vars(made).items() if name.endswith("optimizer")]
    assert optimizers
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    first = [group["lr"] for group in groups]
    assert all(rate > 0.0 for rate in first)
    for group in groups:
        group["lr"] = 0.0
    made.set_learning_rates(0.5)
    assert [group["lr"] for group in groups] == [0.5 * rate for rate in first]
    made.set_learning_rates(0.0)
    made.load_state_dict(made.state_dict())
    made.set_learning_rates(1.0)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert [group["lr"] for group in groups] == first


def test_an_actor_waits_for_its_critic() -> None:
    pwm = learner("PWM")
    before = [p.detach().clone() for p in (*pwm.actor.parameters(), *pwm.critic.parameters())]
    pwm.set_learning_rates(0.0, critic=1.0)
    pwm.update(batch(0))
    after = [*pwm.actor.parameters(), *pwm.critic.parameters()]
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    actor = len(list(pwm.actor.parameters()))
    assert not any(moved[:actor])
    assert any(moved[actor:])
    pwm.set_learning_rates(1.0)
    pwm.update(batch(1))
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True) if a.dim() > 2)
