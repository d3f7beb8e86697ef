"""Latent models as TorchRL environments imagine what `LatentRollout` does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict.nn import TensorDictModule
from torch import Tensor
from torchrl.envs import StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from pwm_sdk import (
    FirstOrderActor,
    LatentEnv,
    LatentRollout,
    MassSpring,
    WorldModel,
    make_simulator,
)

SMALL: dict[str, Any] = {"latent_dim": 8, "hidden": (8,), "encoder_hidden": (8,), "simnorm_size": 4}


class Line:
    """z' = z + (a, 0) by hand, reward -|z'|^2; no module."""

    latent_dim, action_dim = 2, 1

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None) -> Any:
        after = latent + torch.cat([action, 0 * action], -1)
        return after, -after.square().sum(-1, keepdim=True)


def world_model(**more: Any) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(3, 2, **SMALL, **more)
    torch.nn.init.normal_(model.reward_head[-1].weight)  # flat at first
    return model


def cases() -> dict[str, tuple[Any, Tensor, Tensor | None]]:
    task = torch.arange(5) % 2
    plain, tasked = world_model(), world_model(num_tasks=2, task_dim=4, episodic=True)
    seen = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    springs, hopper = MassSpring(2, 2), make_simulator("hopper-forward", threads=1)
    return {
        "world model": (plain, plain.encode(seen).detach(), None),
        "tasks and ends": (tasked, tasked.encode(seen, task).detach(), task),
        "simulator": (springs, springs.reset(5), None),
        "features": (hopper, hopper.reset(5), None),
        "own": (Line(), torch.randn(5, 2), None),
    }


@pytest.mark.parametrize("name", list(cases()))
def test_it_imagines_what_a_rollout_does(name: str) -> None:
    model, latent, task = cases()[name]
    env = LatentEnv(model)
    check_env_specs(env)
    actor = FirstOrderActor(env.observation_spec["latent"].shape[-1], model.action_dim, (8,))
    policy = TensorDictModule(lambda seen: actor(seen), ["latent"], ["action"])
    start = env.start(latent, task)
    found = env.rollout(4, policy, tensordict=start, break_when_any_done=False)
    expected = LatentRollout(model, lambda seen: actor(seen), 4)(latent, task)
    assert found.shape == (5, 4)
    keys: list[Any] = ["latent", "action", ("next", "latent"), ("next", "reward")]
    keys += [("next", "terminated"), *["task"] * (task is not None)]
    keys += ["state", ("next", "state")] if "state" in expected.keys() else []  # noqa: SIM118
    for key in keys:
        torch.testing.assert_close(found[key], expected[key])
    weights = [p for n, p in actor.named_parameters() if "std" not in n]
    slopes = (torch.autograd.grad(x["next", "reward"].sum(), weights) for x in (found, expected))
    for one, two in zip(*slopes, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4 * float(two.abs().max()))
        assert one.abs().sum() > 0


def test_any_batch_size() -> None:
    model = world_model()
    env = LatentEnv(model)
    for batch in ((), (3,), (2, 3)):
        start = env.start(model.encode(torch.randn(*batch, 3)))
        assert env.rollout(2, tensordict=start, break_when_any_done=False).shape == (*batch, 2)
    assert env.reset()["latent"].tolist() == [0.0] * 8
    assert env.reset(env.start(torch.ones(4, 8)).empty()).shape == (4,)
    assert {id(p) for p in model.parameters()} == {id(p) for p in env.parameters()}


def test_it_takes_transforms_and_starts_of_its_own() -> None:
    env = TransformedEnv(LatentEnv(MassSpring(2, 2)), StepCounter())
    rows = env.rollout(3, break_when_any_done=False)
    assert rows["next", "step_count"].flatten().tolist() == [1, 2, 3]
    own = LatentEnv(MassSpring(2, 2))
    starts = []
    for seed in (1, 1, 2):
        own.set_seed(seed)
        starts.append(own.reset()["latent"])
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


def test_what_does_not_fit() -> None:
    env, tasked = LatentEnv(world_model()), LatentEnv(world_model(num_tasks=2, task_dim=4))
    with pytest.raises(ValueError, match=r"latent must have shape \[.., 8\], got \[2, 7\]"):
        env.start(torch.zeros(2, 7))
    with pytest.raises(ValueError, match="task must be None without tasks, got one"):
        env.start(torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="task must be of a model of 2 tasks, got none"):
        tasked.start(torch.zeros(2, 8))
    with pytest.raises(ValueError, match=r"task must have shape \[2\], got \[3\]"):
        tasked.start(torch.zeros(2, 8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="model must be an object with latent_dim"):
        LatentEnv(torch.nn.Linear(2, 2))  # pyright: ignore[reportArgumentType]
