"""What a protocol promises is enough: its smallest legal object works wherever it is asked for.

Every argument of a public function or class that is typed by a protocol is found, and fed an object
that has what the protocol names and nothing else.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
import pytest
import torch
from smallest import (
    SMALLEST,
    SmallActing,
    SmallActionValue,
    SmallAgent,
    SmallBatches,
    SmallBehaviour,
    SmallLearnedPrior,
    SmallLoop,
    SmallModel,
    SmallPolicy,
    SmallPool,
    SmallPrior,
    SmallQ,
    SmallSimulator,
    SmallStochastic,
    SmallTrainable,
    SmallTrainableAgent,
    SmallValue,
)
from smallest_agents import USES_OF_AGENTS, B, H, windows
from smallest_parts import SMALLEST_PARTS
from tensordict import TensorDict
from torch import Tensor, nn

import pwm_sdk as sdk
from pwm_sdk.algorithms.published import PublishedModel
from pwm_sdk.calls.abilities import members
from pwm_sdk.objectives import tdmpc2 as objectives
from pwm_sdk.objectives.world_model import step_errors

# parts of the package whose arguments are not typed yet, or are being typed
WAITING = ("envs", "data")
ALL = {**SMALLEST, **SMALLEST_PARTS}
# parts of algorithms, which are not public but typed like what is
INNER = (
    PublishedModel, objectives.joint_loss, objectives.prior_loss, objectives.td_targets, step_errors
)  # fmt: skip


class Place(NamedTuple):
    """An argument that is typed by a protocol."""

    call: str
    argument: str
    protocol: str


def protocols(hint: Any) -> list[type]:
    """Return the protocols in an annotation."""
    if getattr(hint, "_is_protocol", False):
        return [hint]
    return [found for inner in get_args(hint) for found in protocols(inner)]


def named() -> dict[str, Any]:
    """Return the public names, and those of `INNER`."""
    return {name: getattr(sdk, name) for name in sdk.__all__} | {f.__name__: f for f in INNER}


def places() -> list[Place]:
    """Return every argument of the public names, and of `INNER`, that is typed by a protocol."""
    found = []
    for name, value in named().items():
        part = getattr(value, "__module__", "").removeprefix("pwm_sdk.").split(".")[0]
        if not callable(value) or getattr(value, "_is_protocol", False) or part in WAITING:
            continue
        calls = {name: value}
        if inspect.isclass(value):
            calls = {name: value.__init__}
            public = {m: f for m, f in vars(value).items() if not m.startswith("_")}
            calls |= {f"{name}.{m}": f for m, f in public.items() if inspect.isfunction(f)}
        for call, function in calls.items():
            for argument, hint in get_type_hints(function).items():
                kinds = protocols(hint) if argument != "return" else []
                found += [Place(call, argument, kind.__name__) for kind in kinds]
    return found


def trajectory() -> TensorDict:
    return sdk.LatentRollout(SmallModel(), SmallStochastic(), H)(torch.rand(B, 2))


def recorded() -> sdk.Episode:
    seen, action, flags = np.ones((6, 2), np.float32), np.zeros((5, 1), np.float32), np.zeros(5)
    return sdk.Episode(seen, action, flags.astype(np.float32), flags > 0, flags > 0)


def planned(**parts: Any) -> Tensor:
    whole = {"model": SmallModel(), "policy": SmallPolicy(), "value": SmallValue(), **parts}
    few = {"horizon": 2, "samples": 8, "elites": 4, "policy_samples": 2, "iterations": 2}
    planner = sdk.MPPI(**whole, **few)
    first = planner.plan(torch.rand(B, 2))
    return torch.cat([first, planner.plan(torch.rand(B, 2)), planner(torch.rand(B, 2))])


def acted(behaviour: Any) -> np.ndarray:
    behaviour.start(0)
    return np.stack([behaviour(np.ones((2, 2), np.float32)) for _ in range(2)])


def gap(**parts: Any) -> list[np.ndarray]:
    whole = {"model": SmallModel(), "actor": SmallStochastic(), "critic": SmallValue(), **parts}
    rng = np.random.default_rng(0)
    more = {"reward_scale": [1.0], "horizon": 2, "count": 3, "rng": rng, "deterministic": False}
    found = sdk.exploitation_gap(**whole, episodes=[[recorded()]], tasks=[0], gamma=0.9, **more)
    return list(found.values())


def chosen(actor: Any, **more: Any) -> np.ndarray:
    policy = sdk.ObservationPolicy(actor, **more)
    seen = np.ones((2, 2), np.float32)
    return np.concatenate([policy.act(seen), policy.act(seen), acted(policy.behaviour([0, 0]))[0]])


def looped(**parts: Any) -> list[float]:
    whole = {"agent": SmallAgent(), "replay": SmallBatches(), **parts}
    loop = sdk.AgentLoop(**whole, updates=2, steps=8, every=4)
    loop.begin()
    report = loop.run_round(0.5)
    return [float(loop.updates), *report.metrics.values()]


def trained(**parts: Any) -> list[float]:
    whole = {"loop": SmallLoop(), **parts}
    with tempfile.TemporaryDirectory() as folder:
        run = sdk.Run(folder, whole.pop("loop"), episodes=1, **whole).train(rounds=2)
    return [row["loss"] for row in run.log]


def members_of(pool: Any, policy: Any) -> list[float]:
    return [value for row in sdk.evaluate_members(pool, policy, 1) for value in row.values()]


def collected(pool: Any, behaviour: Any) -> list[np.ndarray]:
    episodes = sdk.run_episodes(pool, behaviour, [1, 2])
    return [np.array([e.total for mine in episodes for e in mine])]


def grown(**parts: Any) -> list[Any]:
    """A round of a growing batch whose model is trained from outside."""
    whole = {"model": SmallModel(), "pool": SmallPool(1), **parts}
    weight, actor = nn.Parameter(torch.ones(())), sdk.FirstOrderActor(2, 1, (4,), learn_std=False)
    pwm = sdk.PWM(whole["model"], actor, sdk.Critic(2, (4,)))
    loop = sdk.GrowingBatch(
        **whole, model_optimizer=torch.optim.SGD([weight], 0.1),
        learners=[sdk.Learner(pwm, [0], 4)], replay=sdk.ReplayBuffer(100, 3, 4, seed=0),
        config=sdk.RoundConfig(updates=1, first_updates=1), reward_scale=[1.0], lengths=[5],
        episodes=[1], model_loss=lambda model, batch: weight.square(),
    )  # fmt: skip
    loop.collect_seed([1])
    report = loop.run_round(0.5)
    return [report.train_return, *report.metrics.values(), *report.alarms.values()]


def prior_loss(**parts: Any) -> list[Tensor]:
    whole = {"prior": SmallLearnedPrior(), "q": SmallQ(), **parts}
    more = {"noise": torch.randn(B, H, 1), "heads": torch.tensor([0])}
    more |= {"latent": torch.rand(B, H, 2), "context": None, "scale": torch.ones(())}
    return list(objectives.prior_loss(**whole, **more))


def td_targets(**parts: Any) -> Tensor:
    whole = {"q": SmallQ(), "prior": SmallPrior(), **parts}
    more = {"noise": torch.randn(B, H, 1), "heads": torch.tensor([0])}
    return objectives.td_targets(
        **whole, batch=windows(), next_latent=torch.rand(B, H, 2), context=None, gamma=0.9, **more
    )


def joint_loss(q: Any) -> list[Tensor]:
    errors = step_errors(SmallTrainable(), windows())
    return list(objectives.joint_loss(q, windows(), errors, torch.rand(B, H, 1)))


def simulated(**parts: Any) -> list[Tensor]:
    whole = {"simulator": SmallSimulator(), "encoder": SmallModel(), **parts}
    seen = sdk.EncodedSimulator(**whole)
    return [seen.features(torch.rand(B, 2)), *seen.step(torch.rand(B, 2), torch.rand(B, 1))]


def tracked(model: Any) -> list[Tensor]:
    tracker = sdk.LatentTracker(model)
    before = tracker.see(torch.rand(B, 2))
    tracker.acted(torch.rand(B, 1))
    return [before, tracker.see(torch.rand(B, 2))]


def rolled(model: Any = None, policy: Any = None) -> list[Any]:
    found = sdk.LatentRollout(model or SmallModel(), policy or SmallPolicy(), H)(torch.rand(B, 2))
    return [found["action"], found["next", "reward"]]


def policy_value(**parts: Any) -> Tensor:
    whole = {"q": SmallActionValue(), "policy": SmallPolicy(), **parts}
    return sdk.PolicyValue(**whole).given(None)(torch.rand(B, 2))


START = torch.rand(B, 2)
behaviour = sdk.LatentBehaviour
# how an argument is fed; the result must be finite
USES: dict[str, Callable[[Any], Any]] = {
    **USES_OF_AGENTS,
    "AgentLoop.agent": lambda x: looped(agent=x),
    "AgentLoop.pool": lambda x: looped(pool=x, replay=None),
    "AgentLoop.replay": lambda x: looped(replay=x),
    "AgentLoop.test_pool": lambda x: looped(test_pool=x),
    "EncodedSimulator.simulator": lambda x: simulated(simulator=x),
    "EncodedSimulator.encoder": lambda x: simulated(encoder=x),
    "GrowingBatch.model": lambda x: grown(model=x),
    "GrowingBatch.pool": lambda x: grown(pool=type(x)(1)),
    "GrowingBatch.test_pool": lambda x: grown(test_pool=type(x)(1)),
    "LatentBehaviour.model": lambda x: acted(behaviour(x, [SmallPolicy()], [None] * 2)),
    "LatentBehaviour.actors": lambda x: acted(behaviour(SmallModel(), [x], [None] * 2)),
    "LatentRollout.model": lambda x: rolled(model=x),
    "LatentRollout.policy": lambda x: rolled(policy=x),
    "LatentRollout.draw_noise.policy": lambda x: sdk.LatentRollout(
        SmallModel(), SmallPolicy(), H
    ).draw_noise(START, x),
    "LatentTracker.model": tracked,
    "MPPI.model": lambda x: planned(model=x),
    "MPPI.policy": lambda x: planned(policy=x),
    "MPPI.value": lambda x: planned(value=x),
    "ObservationPolicy.actor": lambda x: chosen(x),
    "ObservationPolicy.model": lambda x: chosen(SmallPolicy(), model=x),
    "PolicyValue.q": lambda x: policy_value(q=x),
    "PolicyValue.policy": lambda x: policy_value(policy=x),
    "Run.loop": lambda x: trained(loop=x),
    "Run.logger": lambda x: trained(logger=x),
    "actor_loss.critic": lambda x: sdk.actor_loss(trajectory(), x, 0.9),
    "behaviour_loss.policy": lambda x: sdk.behaviour_loss(x, START, torch.rand(B, 1)),
    "check_pool.pool": lambda x: float(sdk.check_pool(x, 20) is None),
    "critic_loss.critic": lambda x: sdk.critic_loss(x, START, torch.rand(B, 1)),
    "evaluate.policy": lambda x: list(sdk.evaluate(SmallPool(), x, 2).values()),
    "evaluate_members.envs": lambda x: members_of(x, SmallActing()),
    "evaluate_members.policy": lambda x: members_of(SmallPool(), x),
    "exploitation_gap.model": lambda x: gap(model=x),
    "exploitation_gap.actor": lambda x: gap(actor=x),
    "exploitation_gap.critic": lambda x: gap(critic=x),
    "fit.agent": lambda x: list(sdk.fit(x, SmallBatches(), 2).values()),
    "fit.batches": lambda x: list(sdk.fit(SmallTrainableAgent(), x, 2).values()),
    "imagined_returns.critic": lambda x: sdk.imagined_returns(trajectory(), x, 0.9),
    "joint_loss.q": joint_loss,
    "lambda_targets.critic": lambda x: sdk.lambda_targets(trajectory(), x, 0.9),
    "model_size.tasks": lambda x: float(sdk.model_size(1, iter([x])).latent_dim),
    "observed_latents.model": lambda x: sdk.observed_latents(
        x, torch.rand(B, H, 2), torch.rand(B, H - 1, 1)
    ),
    "online_pwm.pool": lambda x: [
        float(sdk.online_pwm("cartpole-swingup", "tiny", pool=type(x)(1)).steps)
    ],
    "policy_gradients.model": lambda x: sdk.policy_gradients(x, nn.Linear(2, 1), START, [2]),
    "prior_loss.prior": lambda x: prior_loss(prior=x),
    "prior_loss.q": lambda x: prior_loss(q=x),
    "pwm_model_loss.model": lambda x: list(sdk.pwm_model_loss(x, windows())),
    "return_landscape.model": lambda x: sdk.return_landscape(
        x, nn.Linear(2, 1), START, torch.ones(3), torch.zeros(1), [2]
    ),
    "run_episodes.behaviour": lambda x: collected(SmallPool(), x),
    "run_episodes.pool": lambda x: collected(x, SmallBehaviour()),
    "step_errors.model": lambda x: list(step_errors(x, windows()))[1:5],
    "td_targets.q": lambda x: td_targets(q=x),
    "td_targets.prior": lambda x: td_targets(prior=x),
    "transitions.behaviour": lambda x: next(sdk.transitions(SmallPool(), x, 7))["action"],
    "transitions.pool": lambda x: next(sdk.transitions(x, SmallBehaviour(), 7))["action"],
    "world_model_errors.model": lambda x: list(sdk.world_model_errors(x, windows())),
    "world_model_loss.model": lambda x: sdk.world_model_loss(x, windows()),
}


def finite(value: Any) -> bool:
    """Tell whether a result, or all in it, is finite, and that there is one."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(finite(part) for part in value)
    if isinstance(value, Tensor):
        value = value.detach().numpy()
    return bool(np.isfinite(value).all()) and np.size(value) > 0


@pytest.mark.parametrize("place", places(), ids=".".join)
def test_the_smallest_object_is_enough(place: Place) -> None:
    torch.manual_seed(0)
    use = USES[f"{place.call}.{place.argument}"]
    assert finite(use(ALL[place.protocol]()))


def test_arguments_are_found() -> None:
    found = {(place.call, place.argument) for place in places()}
    assert {("LatentRollout", "model"), ("MPPI", "policy"), ("GrowingBatch", "pool")} <= found
    assert len(places()) >= 40


def kinds() -> dict[str, type]:
    """Return the protocols that arguments are typed by."""
    found = {}
    for value in named().values():
        functions = [value.__init__, *vars(value).values()] if inspect.isclass(value) else [value]
        for function in (f for f in functions if inspect.isfunction(f)):
            part = function.__module__.removeprefix("pwm_sdk.").split(".")[0]
            hints = {} if part in WAITING else get_type_hints(function)
            found |= {kind.__name__: kind for hint in hints.values() for kind in protocols(hint)}
    return found


@pytest.mark.parametrize("name", ALL)
def test_the_smallest_object_has_what_is_named_and_nothing_else(name: str) -> None:
    known = kinds() | {"MemoryModel": sdk.MemoryModel, "SimulatorModel": sdk.SimulatorModel}
    part = ALL[name]()
    named = {m for m in members(known[name]) if m != "__call__"}
    assert {m for m in dir(part) if not m.startswith("_")} == named


def test_noise_is_for_policies_that_take_it() -> None:
    rng = np.random.default_rng(0)
    actions = acted(behaviour(SmallModel(), [SmallStochastic()], [None] * 2, rng))
    assert len(np.unique(actions)) == actions.size
    with pytest.raises(ValueError, match="actors must be StochasticPolicies where there is rng"):
        behaviour(SmallModel(), [SmallPolicy()], [None] * 2, rng)
