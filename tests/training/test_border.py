"""Models of other types of numbers and torch's own defaults, where they meet environments."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch

from pwm_sdk.algorithms.ppo import PPO, PPOConfig
from pwm_sdk.algorithms.sac import SAC, SACConfig
from pwm_sdk.envs.factory import make_env, make_gym
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.planner import MPPI
from pwm_sdk.policies.behaviours import RandomBehaviour
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.training.collect import run_episodes
from pwm_sdk.training.evaluate import evaluate
from pwm_sdk.training.transitions import transitions

WIDE = {"latent_dim": 8, "hidden": (8,), "encoder_hidden": (8,)}


def policy(model: WorldModel, actor: FirstOrderActor) -> ObservationPolicy:
    return ObservationPolicy(actor, model=model)


@pytest.fixture
def double() -> Iterator[None]:
    """Let torch's default be float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Let torch put tensors on no real device unless told where."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_models_of_any_type_are_played(point_mass, dtype: torch.dtype) -> None:
    model, actor = (
        WorldModel.published(2, 1, **WIDE).to(dtype),
        FirstOrderActor.published(8, 1, (4,)).to(dtype),
    )
    table = evaluate(point_mass(start=0.5, length=3), policy(model, actor), 1)
    assert 0.0 < table["return"] < 3.0
    if dtype == torch.float64:
        planner = MPPI(model, actor, lambda z: z[..., :1], samples=8, elites=2, policy_samples=2)
        assert evaluate(point_mass(length=2), ObservationPolicy(planner), 1)["episodes"] == 1.0


def test_the_type_changes_rounding_only(point_mass) -> None:
    model, actor = WorldModel.published(2, 1, **WIDE), FirstOrderActor.published(8, 1, (4,))
    one = evaluate(point_mass(start=0.5), policy(model, actor), 1)["return"]
    two = evaluate(point_mass(start=0.5), policy(model.double(), actor.double()), 1)["return"]
    assert one == pytest.approx(two, rel=1e-5)


def test_agents_made_in_float64_are_played(point_mass, double: None) -> None:
    sac, ppo = SAC(2, 1, SACConfig(hidden=(8,))), PPO(2, 1, PPOConfig(hidden=(8,)))
    for agent in (sac, ppo):
        assert evaluate(point_mass(length=3), agent.policy(), 1)["episodes"] == 1.0
        (batch,) = islice(
            transitions(EnvPool([point_mass()]), agent.explorer().behaviour([None]), 3), 1
        )
        assert batch["observation"].dtype == torch.float32
    model, actor = WorldModel.published(2, 1, **WIDE), FirstOrderActor.published(8, 1, (4,))
    assert evaluate(point_mass(length=3), policy(model, actor), 1)["episodes"] == 1.0


def test_environments_say_where_their_tensors_are(elsewhere: None) -> None:
    for name in ("pendulum-swingup", "mw-reach", "hopper-forward", "mass-spring"):
        env = make_gym(name, seed=0)
        act = RandomBehaviour(1, env.action_space.shape[0], seed=0)
        ((episode,),) = run_episodes(EnvPool([env]), act, [1], lengths=[3])
        assert np.isfinite(episode.observation).all()
        torchrl = make_env(name, seed=0)
        shown = torchrl.reset()
        shown["action"] = torch.zeros(env.action_space.shape, device="cpu")
        assert torchrl.step(shown)["next", "observation"].device.type == "cpu"
