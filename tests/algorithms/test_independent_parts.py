"""The parts of an update keep policies apart too: cloning, critics, scales of returns, one step."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from spoiled import BAD, MEMBERS, MODEL, OTHERS, VALUES, differences, finite, quiet, run
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.behaviour_cloning import BehaviourCloning
from pwm_sdk.algorithms.critic_fit import CriticFit
from pwm_sdk.algorithms.return_scales import ReturnDeviation, ReturnScale
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.optim import FiniteWatch, optimize
from pwm_sdk.planner.mppi import MPPI
from pwm_sdk.policies.behaviours import LatentBehaviour


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_cloned_policies_are_independent(value: float, windows: bool) -> None:
    def make_one() -> BehaviourCloning:
        torch.manual_seed(1)
        return BehaviourCloning(
            FirstOrderActor.published(8, 2, (8,), population=MEMBERS), model=MODEL
        )

    def spoil(given: TensorDict) -> None:
        given["observation"][BAD, 0] = value
        given["action"][BAD, 0] = value

    class Cloning:
        """Its batches as pairs or as windows of the same pairs."""

        def __init__(self) -> None:
            self.own = make_one()
            self.actor, self.state_dict = self.own.actor, self.own.state_dict

        def update(self, given: TensorDict) -> dict[str, Tensor]:
            if windows:
                seen = given["observation"].unflatten(1, (2, 3))
                given = TensorDict(
                    {
                        "observation": torch.cat((seen, seen[:, :, :1] * math.nan), 2),
                        "action": given["action"].unflatten(1, (2, 3)),
                        "task": given["task"][:, :2],
                    },
                    [MEMBERS, 2],
                )
            return self.own.update(given)

    expected, spoiled = run(Cloning()), Cloning()
    actual = run(spoiled, spoil)
    for part in ("state", "metrics", "gradients"):
        assert differences(expected[part], actual[part], OTHERS) == []
    if not value < 1e38:
        assert spoiled.own.stopped == [BAD]
        before = {k: v for k, v in actual["before"].items() if k != "stopped"}
        assert differences(before, actual["state"], [BAD]) == []
    finite(actual["state"])


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_critics_fitted_at_once_are_independent(value: float) -> None:
    def fitted(bad: float | None) -> tuple[Critic, Any, list[Tensor]]:
        torch.manual_seed(1)
        critic = Critic.published(4, (8,), 2, population=MEMBERS)
        optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, fused=True)
        parts = {"splits": 2, "generator": torch.Generator().manual_seed(0)}
        fit = CriticFit(critic, optimizer, 1.0, parts=parts, population=MEMBERS)
        states, targets = torch.randn(MEMBERS, 4, 2, 4), torch.randn(MEMBERS, 4, 2, 1)
        if bad is not None:
            targets[BAD, 3] = bad
        with quiet():
            results = [torch.stack(fit(states, targets)) for _ in range(2)]
        assert (bad is None) or fit.watch.members() == [BAD]
        return critic, optimizer, results

    critic, optimizer, expected = fitted(None)
    other, others, actual = fitted(value)
    torch.manual_seed(1)
    start = Critic.published(4, (8,), 2, population=MEMBERS)
    for a, b, first in zip(
        critic.parameters(), other.parameters(), start.parameters(), strict=True
    ):
        assert torch.equal(a[OTHERS], b[OTHERS])
        assert torch.equal(b[BAD], first[BAD])
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[a][name][OTHERS], others.state[b][name][OTHERS])
            assert not others.state[b][name][BAD].any()
    for a, b in zip(expected, actual, strict=True):
        assert torch.equal(a[:, OTHERS], b[:, OTHERS])
    with pytest.raises(ValueError, match="population must be the critic's 3, got None"):
        CriticFit(critic, optimizer, 1.0, parts={})


@pytest.mark.parametrize("scale", [ReturnScale, ReturnDeviation])
def test_scales_of_returns_are_independent(scale: Any) -> None:
    def scaled(bad: float | None) -> list[Tensor]:
        own, generator = scale(MEMBERS), torch.Generator().manual_seed(0)
        results = []
        for number in range(3):
            returns = torch.randn(MEMBERS, 5, 1, generator=generator)
            if bad is not None and number == 1:
                returns[BAD, 2] = bad
            results.append(own.update(returns))
        return results

    with pytest.raises(ValueError, match=r"returns must have shape \[3, ..\], got \[6, 1\]"):
        scale(MEMBERS).update(torch.randn(6, 1))
    for value in VALUES.values():
        for a, b in zip(scaled(None), scaled(value), strict=True):
            assert torch.equal(a[OTHERS], b[OTHERS])


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
@pytest.mark.parametrize("every", [1, 1000])
def test_a_step_of_a_population_leaves_out_the_members_that_it_may_not_take(
    optimizer: Any, every: int
) -> None:
    weights = {}
    for bad in (None, math.nan):
        weight = nn.Parameter(torch.arange(6.0).view(3, 2))
        stepper = optimizer([weight], lr=0.1)
        watch = FiniteWatch(["loss"], every, population=3)
        for number in range(3):
            loss = weight.square().sum(1)
            if bad is not None and number == 1:
                loss = loss * torch.tensor([1.0, bad, 1.0])
                before = weight.detach().clone()
            norm = optimize(loss, stepper, 1.0, population=3, watch=watch)
            assert norm.shape == (3,)
        weights[bad] = weight.detach()
    assert torch.equal(weights[None][OTHERS], weights[math.nan][OTHERS])
    assert torch.equal(before[BAD], weights[math.nan][BAD])
    with pytest.warns(UserWarning, match="loss of policy 1 must be finite"):
        watch.read()
    optimize(loss := weight.sum(), stepper, population=3, watch=watch)
    assert torch.equal(before[BAD], weight.detach()[BAD])  # for good
    assert loss.dim() == 0


def test_a_sum_of_losses_blames_whom_it_can() -> None:
    weight = nn.Parameter(torch.ones(2, 1))
    optimizer, watch = torch.optim.SGD([weight], lr=1.0), FiniteWatch(["loss"], population=2)
    optimize(
        (weight * torch.tensor([[1.0], [math.nan]])).sum(), optimizer, population=2, watch=watch
    )
    assert watch.members() == [1]
    optimize(weight.sum() + math.inf, optimizer, population=2, watch=watch)  # nobody's gradient
    assert watch.members() == [0, 1]
    with pytest.raises(ValueError, match=r"loss must be a scalar or of shape \[2\], got .*\[3\]"):
        optimize(weight.sum() * torch.ones(3), optimizer, population=2)
    with pytest.raises(ValueError, match="watch must be of population 2, got None"):
        optimize(weight.sum(), optimizer, population=2, watch=FiniteWatch(["loss"]))
    with pytest.raises(ValueError, match=r"gradients must be finite, got norm \[1.0, nan\]"):
        optimize((weight * torch.tensor([[1.0], [math.nan]])).nansum(), optimizer, population=2)


@pytest.mark.parametrize("part", ["observation", "weights"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_actions_and_plans_of_members_are_independent(value: float, part: str) -> None:
    def found(bad: float | None) -> list[Tensor]:
        torch.manual_seed(1)
        actor = FirstOrderActor.published(8, 2, (8,), population=MEMBERS)
        critic = Critic.published(8, (8,), 2, population=MEMBERS)
        seen = torch.randn(MEMBERS, 3)
        if bad is not None and part == "observation":
            seen[BAD] = bad
        elif bad is not None:
            for parameter in (*actor.parameters(), *critic.parameters()):
                parameter.data[BAD] = bad
        behaviour = LatentBehaviour(MODEL, [actor], [0, 1, 1], np.random.default_rng(0))
        results = [torch.as_tensor(behaviour(seen.numpy()))]
        planner = MPPI(
            MODEL, actor, critic, samples=16, elites=4, policy_samples=4, iterations=2,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        with contextlib.suppress(ValueError):  # where nothing of a row is finite, and says so
            results.append(planner.plan(seen, torch.tensor([0, 1, 1])))
        return results

    for a, b in zip(found(None), found(value), strict=False):
        assert torch.equal(a[OTHERS], b[OTHERS])
