"""Parts that `torch.compile` wraps take part as others do, and states fit with and without it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from object_cases import (
    A,
    B,
    D,
    H,
    Line,
    O,
    actor,
    critic,
    model,
    nothing,
    pwm_config,
    rand,
    starts,
    transitions_of,
    windows,
)  # fmt: skip
from tensordict import TensorDict
from torch import nn

import pwm_sdk as P

# Of torch's, for a compiled network that is called with what has a graph.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


def compiled(module: Any) -> Any:
    """Wrap a module as a user would, without the price of a compiler."""
    return torch.compile(module, backend="eager")


def pwm(wrap: Callable[[Any], Any], population: int | None = None) -> Any:
    parts = model(), actor(population=population), critic(population=population)
    options: dict[str, Any] = {"return_scale": wrap(P.ReturnScale(population))}
    if population is not None:
        options["seeds"] = range(population)
    return (P.PWM if population is None else P.Population)(
        *map(wrap, parts), pwm_config(), **options
    )


def tdmpc2(wrap: Callable[[Any], Any]) -> Any:
    own = model()
    parts = P.QEnsemble.for_model(own, dropout=0.0), P.PolicyPrior.for_model(own)
    return P.TDMPC2(wrap(own), *map(wrap, parts))


def shac(wrap: Callable[[Any], Any]) -> Any:
    simulator = P.MassSpring(2, 2)
    size = simulator.observation_dim
    parts = (
        P.FirstOrderActor.published(size, simulator.action_dim, (6,)),
        P.Critic.published(size, (6,)),
    )
    config = P.SHACConfig(environments=4, horizon=H)
    normalizer = wrap(P.RunningMeanStd((size,)))
    return P.SHAC(simulator, *map(wrap, parts), config, normalizer=normalizer)


def perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, outputs))


class Pair(nn.Module):
    """A value of observations and actions."""

    def __init__(self) -> None:
        super().__init__()
        self.net = perceptron(O + A, 1)

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat((observation, action), -1))


def growing_batch(wrap: Callable[[Any], Any]) -> Any:
    own = wrap(model(standardize=True))
    learner = P.PWM(own, wrap(actor()), wrap(critic()), pwm_config())
    loop = P.GrowingBatch(
        P.EnvPool([Line()]), own, torch.optim.Adam(own.parameters()), [P.Learner(learner, [0], 4)],
        P.ReplayBuffer(500, H + 1, B, seed=0), P.RoundConfig(updates=1, first_updates=1),
        reward_scale=[1.0], lengths=[8], episodes=[1],
    )  # fmt: skip
    loop.collect_seed([2])
    return loop


ALGORITHMS: dict[str, tuple[Callable[[Any], Any], Callable[[], Any]]] = {
    "PWM": (pwm, lambda: starts(B)),
    "Population": (partial(pwm, population=2), lambda: starts(2, B)),
    "TDMPC2": (tdmpc2, windows),
    "SHAC": (shac, nothing),
    "BehaviourCloning": (
        lambda wrap: P.BehaviourCloning(wrap(actor()), model=wrap(model())), windows,
    ),
    "SAC": (
        lambda wrap: P.SAC(
            O, A, actor=wrap(perceptron(O, 2 * A)), critic=wrap(Pair())
        ),
        lambda: transitions_of(4),
    ),
    "PPO": (
        lambda wrap: P.PPO(O, A, actor=wrap(perceptron(O, A)), critic=wrap(perceptron(O, 1))),
        lambda: transitions_of(2, 4),
    ),
    "GrowingBatch": (growing_batch, nothing),
}  # fmt: skip


def run(algorithm: Any, batch: Callable[[], Any]) -> list[float]:
    """Return the metrics of one update or round."""
    torch.manual_seed(5)
    if isinstance(algorithm, P.GrowingBatch):
        metrics: Any = algorithm.run_round(0.5).metrics
    else:
        metrics = algorithm.update(*[batch()] * (batch is not nothing))
    return [float(np.mean(np.asarray(torch.as_tensor(v).detach()))) for v in metrics.values()]


def every_key(state: Any) -> list[str]:
    if not isinstance(state, dict):
        return [key for part in state for key in every_key(part)] if type(state) is list else []
    return [*map(str, state), *(key for part in state.values() for key in every_key(part))]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithms_learn_the_same_and_exchange_their_states(name: str) -> None:
    make, batch = ALGORITHMS[name]
    made = []
    for wrap in (lambda part: part, compiled):
        torch.manual_seed(0)
        made.append(make(wrap))
    plain, wrapped = made
    np.testing.assert_allclose(run(wrapped, batch), run(plain, batch), rtol=1e-4)
    states = [copy.deepcopy(part.state_dict()) for part in made]
    assert every_key(states[1]) == every_key(states[0])
    plain.load_state_dict(states[1])
    wrapped.load_state_dict(copy.deepcopy(states[0]))
    twin = copy.deepcopy(wrapped)
    expected = run(wrapped, batch)
    np.testing.assert_allclose(run(plain, batch), expected, rtol=1e-4)
    np.testing.assert_allclose(run(twin, batch), expected, rtol=1e-4)


def test_a_part_inside_a_model_that_is_compiled_is_saved_by_its_plain_name(tmp_path: Path) -> None:
    own = model()
    own.dynamics = compiled(own.dynamics)
    own.save(tmp_path / "inside")
    compiled(own).save(tmp_path / "around")
    latent, action = torch.rand(B, D), torch.rand(B, A)
    for name in ("inside", "around"):
        again = P.WorldModel.from_checkpoint(tmp_path / name)
        torch.testing.assert_close(again.next(latent, action), own.next(latent, action))


@pytest.mark.parametrize("make", [actor, critic])
def test_members_of_compiled_populations(make: Callable[..., Any]) -> None:
    many, one = make(population=2), make()
    latent = torch.rand(2, B, D)
    wrapped = compiled(many)
    for part, rows in ((wrapped.member(1), latent[1]), (wrapped.take([1]), latent[1:])):
        expected = many(latent)[1] if rows.dim() == 2 else many(latent)[1:]
        torch.testing.assert_close(part(rows), expected)
    joined = type(many).stack([compiled(one), one])
    torch.testing.assert_close(joined(latent)[0], one(latent[0]))
    assert type(joined) is type(many)


def test_they_act_plan_and_are_diagnosed() -> None:
    own, policy, value = map(compiled, (model(), actor(), critic()))
    behaviour = P.LatentBehaviour(own, [policy], [0], np.random.default_rng(0))
    assert behaviour(np.zeros((1, O), np.float32)).shape == (1, A)
    assert P.evaluate(Line(), P.ObservationPolicy(policy, model=own), 1)["episodes"] == 1.0
    planner = P.MPPI(own, policy, value, samples=8, elites=2, policy_samples=2)
    assert P.evaluate(Line(), P.ObservationPolicy(planner), 1)["episodes"] == 1.0
    q, prior = compiled(P.QEnsemble.for_model(model())), compiled(P.PolicyPrior.for_model(model()))
    planner = P.MPPI(own, prior, P.PolicyValue(q, prior), samples=8, elites=2, policy_samples=2)
    assert planner.plan(torch.zeros(2, O)).shape == (2, A)
    latent = torch.rand(B, D)
    for estimator in ("pathwise", "score"):
        torch.manual_seed(0)
        first = P.policy_gradients(own, policy, latent, [H], estimator=estimator)
        torch.manual_seed(0)
        plain = policy._orig_mod
        torch.testing.assert_close(
            first, P.policy_gradients(own, plain, latent, [H], estimator=estimator)
        )
    assert "loc" in P.LatentRollout(own, policy, H)(latent)  # it is stochastic all the same
    assert len(P.Disagreement(own).step(latent, rand(B, A))) == 2
    for change in (P.init_uniform, P.init_orthogonal, P.init_fan_in):
        assert change(policy) is policy


@pytest.mark.parametrize("send", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_a_compiled_rollout_have_networks_of_their_own(
    send: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    own, policy, noise = model(), actor(), torch.randn(H, B, A)
    rollout, latent = P.LatentRollout(own, policy, H, compile=True), torch.rand(B, D)
    expected = rollout(latent, noise=noise)["action"].detach()
    other = send(rollout)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    torch.testing.assert_close(other(latent, noise=noise)["action"].detach(), expected)
    learner = P.PWM(model(), actor(), critic(), pwm_config(), execution=P.Execution(compile=True))
    batch = TensorDict({"observation": torch.rand(B, O)}, [B])
    learner.update(batch)
    twin = send(learner)
    before = copy.deepcopy(learner.actor.state_dict())
    twin.update(batch)
    for name, value in learner.actor.state_dict().items():
        assert torch.equal(value, before[name])
    torch.manual_seed(0)
    first = learner.update(batch)
    assert torch.isfinite(first["return"])
