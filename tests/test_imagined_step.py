"""One model, one step: whatever replaces `step` is what everything imagines."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.population import Population
from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.contract.models import step_is_parts
from pwm_sdk.diagnostics.gradients import policy_gradients
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.disagreement import Disagreement
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.planner.mppi import MPPI
from pwm_sdk.rollout import LatentRollout
from pwm_sdk.training.collect import Episode
from pwm_sdk.training.metrics import exploitation_gap

SIZES: dict[str, Any] = {
    "observation_dim": 3, "action_dim": 2, "latent_dim": 8, "simnorm_size": 4,
    "hidden": (16,), "encoder_hidden": (16,), "num_bins": 0,
}  # fmt: skip
PENALTY = 100.0


def penalised(result: tuple[Tensor, ...], action: Tensor) -> tuple[Tensor, ...]:
    """Lower the reward by 100 times the squared action: seen in values and in gradients."""
    following, reward, *ends = result
    return following, reward - PENALTY * (1.0 + action.square().sum(-1, keepdim=True)), *ends


class Overriding(WorldModel):
    """Replaces `step` alone."""

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, ...]:
        return penalised(super().step(latent, action, task), action)


class Grandchild(Overriding):
    """A class below it that replaces a part, and not `step`."""

    def reward(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return super().reward(latent, action, task)

    def next(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return super().next(latent, action, task)


class Penalty:
    """A mixin."""

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, ...]:
        return penalised(super().step(latent, action, task), action)  # pyright: ignore


class Mixed(Penalty, WorldModel):
    """A mixin before the model."""


class PenalisedReward(WorldModel):
    """Replaces the part that `step` is made of."""

    def reward(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        reward = super().reward(latent, action, task)
        return penalised((latent, reward), action)[1]


class AnotherNext(WorldModel):
    """Moves by another `next`: the reward follows."""

    def next(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return super().next(latent, action, task) + 0.1 * action.sum(-1, keepdim=True)


class Forwarding:
    """A wrapper that forwards every name by `__getattr__` and has a `step` of its own."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["model"], name)

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, ...]:
        return penalised(self.model.step(latent, action, task), action)


class ForwardedReward(Forwarding):
    """Forwards `step` too, and has a reward of its own that no step pays."""

    step = property(lambda self: self.model.step)  # pyright: ignore

    def reward(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return self.model.reward(latent, action, task) - 1000.0


class Spelled(nn.Module):
    """A module that spells out what it forwards, parts included."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model, self.episodic = model, model.episodic
        self.latent_dim, self.action_dim = model.latent_dim, model.action_dim

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return self.model.encode(observation, task)

    def next(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return self.model.next(latent, action, task)

    def reward(self, latent: Tensor, action: Tensor, task: Any = None) -> Tensor:
        return self.model.reward(latent, action, task)

    def terminated(self, latent: Tensor, task: Any = None) -> Tensor:
        return self.model.terminated(latent, task)

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, ...]:
        return penalised(self.model.step(latent, action, task), action)


class SilentEnds(Spelled):
    """Its step tells ends, which no attribute announces."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__(model)
        del self.episodic

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, ...]:
        following, reward, *_ = super().step(latent, action, task)
        return following, reward, reward < 0.0


def on_instance(episodic: bool) -> WorldModel:
    model = WorldModel.published(**SIZES, episodic=episodic)
    plain = model.step
    model.step = lambda z, a, task=None: penalised(plain(z, a, task), a)  # pyright: ignore
    return model


def bound_to_instance(episodic: bool) -> WorldModel:
    model = WorldModel.published(**SIZES, episodic=episodic)

    def step(self: WorldModel, z: Tensor, a: Tensor, task: Any = None) -> tuple[Tensor, ...]:
        return penalised(WorldModel.step(self, z, a, task), a)

    model.step = types.MethodType(step, model)  # pyright: ignore
    return model


def forwarding(kind: Callable[[WorldModel], Any]) -> Callable[[bool], Any]:
    return lambda episodic: kind(WorldModel.published(**SIZES, episodic=episodic))


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


# name -> how it is made, for a model that tells ends or none; whether its parts are its step
MODELS: dict[str, tuple[Callable[[bool], Any], bool]] = {
    "plain": (lambda ends: WorldModel.published(**SIZES, episodic=ends), True),
    "compiled": (lambda ends: compiled(WorldModel.published(**SIZES, episodic=ends)), True),
    "penalised reward": (lambda ends: PenalisedReward(**SIZES, episodic=ends), True),
    "another next": (lambda ends: AnotherNext(**SIZES, episodic=ends), True),
    "overriding": (lambda ends: Overriding(**SIZES, episodic=ends), False),
    "grandchild": (lambda ends: Grandchild(**SIZES, episodic=ends), False),
    "mixed": (lambda ends: Mixed(**SIZES, episodic=ends), False),
    "compiled overriding": (lambda ends: compiled(Overriding(**SIZES, episodic=ends)), False),
    "forwarding": (forwarding(Forwarding), False),
    "forwarded reward": (forwarding(ForwardedReward), False),
    "spelled": (forwarding(Spelled), False),
    "silent ends": (forwarding(SilentEnds), False),
    "instance": (on_instance, False),
    "bound": (bound_to_instance, False),
    "guard": (lambda ends: Disagreement(Overriding(**SIZES, episodic=ends), heads=1), False),
}
each_model = pytest.mark.parametrize("name", MODELS)
each_case = pytest.mark.parametrize("episodic", [False, True])


class StepOnly:
    """Shows nothing but the contract: what any of them must equal."""

    def __init__(self, model: Any) -> None:
        self.latent_dim, self.action_dim = model.latent_dim, model.action_dim
        self.encode, self.step = model.encode, model.step


def made(name: str, episodic: bool = False) -> Any:
    """Make a model whose rewards, ends and moves are not flat."""
    model = MODELS[name][0](episodic)
    inner = getattr(model, "model", model)
    for parameter in inner.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


@each_case
@each_model
def test_a_rollout_imagines_the_step(name: str, episodic: bool) -> None:
    model = made(name, episodic)
    assert step_is_parts(model) is MODELS[name][1]
    actor, start, noise = (
        FirstOrderActor.published(8, 2, (6,)),
        torch.rand(4, 8),
        torch.randn(3, 4, 2),
    )
    for detach in (False, True):
        found = LatentRollout(model, actor, 3, detach=detach)(start, None, noise)
        expected = LatentRollout(StepOnly(model), actor, 3, detach=detach)(start, None, noise)
        torch.testing.assert_close(found.to_dict(), expected.to_dict())
    if name not in ("plain", "compiled", "another next", "forwarded reward"):
        assert (found["next", "reward"] < -50.0).all()


@each_model
def test_a_planner_and_gradients_imagine_the_step(name: str) -> None:
    model, noise = made(name), torch.randn(2, 4, 2)
    actor, start = FirstOrderActor.published(8, 2, (6,)), torch.rand(4, 8)
    for estimator in ("pathwise", "score"):
        slopes = [
            policy_gradients(kind, actor, start, [2], noise=noise, estimator=estimator)
            for kind in (model, StepOnly(model))
        ]
        torch.testing.assert_close(*slopes)
    plans = []
    for kind in (model, StepOnly(model)):
        plan = MPPI(
            kind, actor, Critic.published(8, (6,)), samples=16, elites=4, policy_samples=2,
            iterations=2,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        plan.value = lambda latent: latent[..., :1]
        plans.append(plan.plan(torch.ones(1, 3)))
    assert torch.equal(*plans)


@pytest.mark.parametrize("population", [None, 2])
@pytest.mark.parametrize("name", ["overriding", "mixed", "instance", "forwarding", "spelled"])
def test_policies_learn_from_the_step(name: str, population: int | None) -> None:
    model, kind = made(name), PWM if population is None else Population
    parts = [
        FirstOrderActor.published(8, 2, (6,), population=population),
        Critic.published(8, (6,), population=population),
    ]
    observation = torch.randn(*[] if population is None else [population], 5, 3)
    seeds = {} if population is None else {"seeds": range(population)}
    pwm = kind(model, *parts, PWMConfig.paper(horizon=2), **seeds)
    batch = TensorDict({"observation": observation}, observation.shape[:-1])
    assert (pwm.update(batch)["return"] < -50.0).all()


@pytest.mark.parametrize("name", ["overriding", "spelled", "guard"])
def test_the_exploitation_gap_is_of_the_step(name: str) -> None:
    rng, zeros = np.random.default_rng(0), np.zeros(4, np.float32)
    seen, action = rng.standard_normal((5, 3)), rng.standard_normal((4, 2))
    episode = Episode(seen.astype(np.float32), action, zeros, zeros > 0, zeros > 0)
    parts = (
        FirstOrderActor.published(8, 2, (6,), population=1),
        Critic.published(8, (6,), population=1),
    )
    options = {"reward_scale": [1.0], "horizon": 2, "count": 3, "rng": rng}
    gap = exploitation_gap(made(name), *parts, [[episode]], [0], 0.9, **options)
    assert gap["predicted"] < -100.0


@pytest.mark.parametrize("name", ["overriding", "penalised reward"])
def test_a_compiled_rollout_imagines_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    model, actor = made(name), FirstOrderActor.published(8, 2, (6,))
    start, noise = torch.rand(4, 8), torch.randn(2, 4, 2)
    rollouts = (LatentRollout(model, actor, 2, compile=flag) for flag in (False, True))
    torch.testing.assert_close(*(r(start, None, noise).to_dict() for r in rollouts))


@pytest.mark.parametrize("name", ["overriding", "mixed", "instance", "penalised reward"])
def test_what_the_published_view_would_not_see_is_refused(name: str) -> None:
    parts = FirstOrderActor.published(8, 2, (6,)), Critic.published(8, (6,))
    with pytest.raises(ValueError, match=r"model must have a (step|reward) made of its own"):
        PWM(made(name), *parts, PWMConfig.published())
    PWM(made("another next"), *parts, PWMConfig.published())


@each_case
@each_model
def test_the_checker_names_the_part_that_differs(name: str, episodic: bool) -> None:
    model, observation = made(name, episodic), torch.randn(3, 3)
    if MODELS[name][1] or name == "guard":
        check_latent_model(model, observation)
        return
    with pytest.raises(ValueError, match="another reward in step than in"):
        check_latent_model(model, observation)


def test_the_checker_names_other_parts() -> None:
    model, observation = made("plain", episodic=True), torch.randn(3, 3)
    model.next = lambda z, a, task=None: WorldModel.next(model, z, a, task)  # pyright: ignore
    check_latent_model(model, observation)
    wrapped = Forwarding(model)
    wrapped.step = model.step  # pyright: ignore
    for name, change in {"next": lambda z: z + 0.1, "terminated": lambda d: ~d}.items():
        part = getattr(model, name)
        setattr(wrapped, name, lambda *x, part=part, change=change: change(part(*x)))
        with pytest.raises(ValueError, match=f"another {name} in step than in"):
            check_latent_model(wrapped, observation)
        delattr(wrapped, name)
    wrapped.episodic = False  # pyright: ignore
    with pytest.raises(ValueError, match="episodic must tell whether step returns terminated"):
        check_latent_model(wrapped, observation)
