"""A small one of each algorithm, and one update of it with all that it draws."""

from __future__ import annotations

from typing import Any

from anywhere import DREAM, Windows, model, networks, starts, transitions, windows
from torch import Tensor

from pwm_sdk import (
    PPO,
    PWM,
    SAC,
    SHAC,
    TDMPC2,
    BehaviourCloning,
    Critic,
    DreamerV3,
    FirstOrderActor,
    PolicyPrior,
    Population,
    PPOConfig,
    PWMConfig,
    QEnsemble,
    SACConfig,
    SHACConfig,
    TDMPC2Config,
)
from pwm_sdk.simulators.mass_spring import MassSpring

DRAWING = ("PWM", "Population", "SHAC", "TDMPC2", "SAC", "PPO", "DreamerV3")
EVERY = (*DRAWING, "BehaviourCloning")
SMALL = {"horizon": 3, "critic_epochs": 1, "critic_splits": 2}


def make(name: str, **options: Any) -> Any:
    """A new one, on the CPU."""
    if name in ("PWM", "Population"):
        several = name == "Population"
        parts = model("cpu"), *networks("cpu", 2 if several else None), PWMConfig.paper(**SMALL)
        return Population(*parts, seeds=[3, 4], **options) if several else PWM(*parts, **options)
    if name == "SHAC":
        world = MassSpring(2, 2, substeps=2, episode_length=5)
        actor = FirstOrderActor.published(world.observation_dim, world.action_dim, (8,))
        config = SHACConfig(environments=4, horizon=3, critic_epochs=1)
        return SHAC(
            world, actor, Critic.published(world.observation_dim, (8,), 1), config, **options
        )
    if name == "TDMPC2":
        made = model("cpu")
        q = QEnsemble.for_model(made, ensemble=3, dropout=0.2)
        return TDMPC2(made, q, PolicyPrior.for_model(made), TDMPC2Config(), **options)
    if name == "BehaviourCloning":
        return BehaviourCloning(FirstOrderActor.published(3, 2, (8,)), **options)
    if name == "DreamerV3":
        return DreamerV3(3, 2, DREAM, **options)
    if name == "SAC":
        return SAC(3, 2, SACConfig(hidden=(8,), batch_size=4, random_steps=1), **options)
    return PPO(3, 2, PPOConfig(hidden=(8,), epochs=1), **options)


def use(agent: Any) -> dict[str, Tensor]:
    """Update once and, where it explores, explore."""
    if isinstance(agent, SHAC):
        return agent.update()
    if isinstance(agent, (SAC, PPO)):
        batch = transitions("cpu", *((2, 4) if isinstance(agent, PPO) else (8,)))
        first = agent.explore(batch["observation"])
        agent.steps += 1
        return {**agent.update(batch), "first": first, "drawn": agent.explore(batch["observation"])}
    metrics = agent.update(starts("cpu", getattr(agent, "population", None)))
    if isinstance(agent, DreamerV3):
        metrics["drawn"] = agent.act(windows("cpu")["observation"][:, 0], explore=True)[0]
    return metrics


def batches_of(name: str) -> Windows | None:
    """What `fit` trains it from, the same batch for ever."""
    if name == "SHAC":
        return None
    if name == "Population":
        return Windows(starts("cpu", 2))
    leads = {"SAC": (8,), "PPO": (2, 4)}
    return Windows(transitions("cpu", *leads[name])) if name in leads else replay()


def replay() -> Windows:
    """A replay of one batch of windows."""
    return Windows(windows("cpu"))
