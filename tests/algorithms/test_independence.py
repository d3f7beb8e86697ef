"""What happens to one policy of a population is nobody else's business, to the bit."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.behaviour_cloning import BehaviourCloning
from pwm_sdk.algorithms.critic_fit import CriticFit
from pwm_sdk.algorithms.execution import Execution
from pwm_sdk.algorithms.population import Population, take_members
from pwm_sdk.algorithms.published import ReturnDeviation
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.normalizers import ReturnScale
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.optim import FiniteWatch, optimize

MEMBERS, BAD = 3, 1
OTHERS = [0, 2]
SMALL: dict[str, Any] = {"horizon": 3, "critic_epochs": 2, "critic_splits": 2}
SLOW = {"target_tau": 0.1, "average_tau": 0.1}
CONFIGS: dict[str, PWMConfig] = {
    "ours": PWMConfig(**SMALL, **SLOW, saturation=0.1, behaviour=0.5),
    "lambda": PWMConfig(**SMALL, actor_lam=0.9, gamma=[0.9, 0.99, 0.95]),
    "published": PWMConfig.published(**SMALL),
    "clipped": PWMConfig(**SMALL, actor_max_norm=0.01, critic_max_norm=0.1),
}
VALUES = {"NaN": math.nan, "inf": math.inf, "1e30": 1e30, "3e38": 3e38}

Change = dict[str, Any]


def make_model() -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(
        3, 2, num_tasks=2, task_dim=4, latent_dim=8, hidden=(8,), encoder_hidden=(8,),
        simnorm_size=4, action_dims=[1, 2], num_bins=11,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model


MODEL = make_model()


def make(kind: str, name: str, check_every: int | None = None, **changes: Any) -> PWM:
    """The same start every time, but for what is changed."""
    torch.manual_seed(1)
    actor = FirstOrderActor(
        8, 2, (8,), population=MEMBERS, action_dims=changes.pop("action_dims", [2, 2, 1])
    )
    critic = Critic(8, (8,), 2, population=MEMBERS, scale=[1.0, 2.0, 3.0])
    config, options = copy.deepcopy(CONFIGS[name]), {}
    if "gamma" in changes:
        config = PWMConfig(**{**config.__dict__, "gamma": changes.pop("gamma")})
    for part, value in changes.pop("weights", {}).items():
        with torch.no_grad():
            for parameter in {"actor": actor, "critic": critic}[part].parameters():
                parameter[BAD] = value
    scale = None if config.normalize_returns else ReturnScale(MEMBERS)
    options = {"return_scale": scale, "execution": Execution(check_every=check_every)}
    options["generator"] = torch.Generator().manual_seed(2)
    if kind == "Population":
        return Population(MODEL, actor, critic, config, seeds=[3, 4, 5], **options, **changes)
    return PWM(MODEL, actor, critic, config, **options)


def batch(number: int) -> TensorDict:
    generator = torch.Generator().manual_seed(100 + number)
    lead = (MEMBERS, 6)
    return TensorDict(
        {
            "observation": torch.randn(*lead, 3, generator=generator),
            "action": torch.rand(*lead, 2, generator=generator) - 0.5,
            "task": torch.tensor([0, 1, 1])[:, None].expand(lead).clone(),
        },
        lead,
    )


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(
    pwm: Any, spoil: Callable[[TensorDict], Any] | None = None, updates: int = 3
) -> dict[str, Any]:
    """All that some updates leave behind; the second batch is spoiled."""
    metrics, before = [], None
    with quiet():
        for number in range(updates):
            given = batch(number)
            if spoil is not None and number == 1:
                before = copy.deepcopy(pwm.state_dict())
                spoil(given)
            metrics.append({k: v for k, v in pwm.update(given).items() if v.shape == (MEMBERS,)})
    parts = [getattr(pwm, name) for name in ("actor", "critic") if hasattr(pwm, name)]
    gradients = {
        f"{i} {name}": None if parameter.grad is None else parameter.grad.clone()
        for i, part in enumerate(parts)
        for name, parameter in part.named_parameters()
    }
    state = {k: v for k, v in pwm.state_dict().items() if k != "stopped"}
    return {
        "state": copy.deepcopy(state),
        "metrics": dict(enumerate(metrics)),
        "gradients": gradients,
        "before": before,
    }


def differences(first: Any, second: Any, members: list[int], path: str = "") -> list[str]:
    """Names of the tensors in which members differ in a bit (NaN equals NaN)."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        return [
            name
            for key in first
            for name in differences(first[key], second[key], members, f"{path}/{key}")
        ]
    if not isinstance(first, Tensor) or not first.dim() or "generator" in path:
        return []
    a, b = (take_members(x, members) for x in (first, second))
    return [] if torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) else [path]


def spoiler(key: str, value: float, start: int | None = None) -> Callable[[TensorDict], Any]:
    """Write a value into a member's starts, all of them or one."""

    def spoil(given: TensorDict) -> None:
        rows = given[key][BAD]
        rows[slice(None) if start is None else start] = value

    return spoil


BATCHES: dict[str, Callable[[TensorDict], Any]] = {
    **{f"observations {name}": spoiler("observation", v) for name, v in VALUES.items()},
    **{f"one start {name}": spoiler("observation", v, 2) for name, v in VALUES.items()},
    "actions NaN": spoiler("action", math.nan),
    "another task": spoiler("task", 0),
}
STARTS: dict[str, Change] = {
    **{f"actor {name}": {"weights": {"actor": v}} for name, v in VALUES.items()},
    **{f"critic {name}": {"weights": {"critic": v}} for name, v in VALUES.items()},
    "another gamma": {"gamma": [0.9, 0.5, 0.95]},
    "another mask": {"action_dims": [2, 1, 1]},
}
RATES: dict[str, list[float] | None] = {
    "no rates": None,
    "no rate": [1.0, 0.0, 1.0],
    "huge rate": [1.0, 1e30, 1.0],
    "largest rate": [1.0, 3e38, 1.0],
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", ["PWM", "Population"])
def test_what_one_member_starts_from_changes_no_other(kind: str, name: str) -> None:
    expected, wrong = run(make(kind, name)), {}
    for case, spoil in BATCHES.items():
        often, seldom = (make(kind, name, every) for every in (1, 1000))
        actual, later = run(often, spoil), run(seldom, spoil)
        wrong[case] = [
            part
            for part in ("state", "metrics", "gradients")
            if differences(expected[part], actual[part], OTHERS)
            or differences(actual[part], later[part], [0, 1, 2])
        ]
        assert often.stopped == seldom.stopped
        assert set(often.stopped) <= {BAD}
        if "observations NaN" in case or (case == "actions NaN" and often.config.behaviour):
            assert often.stopped == [BAD]
        if often.stopped == [BAD] and "1e30" not in case and "3e38" not in case:
            before, after = (  # noise is drawn for all, whoever uses it
                {k: v for k, v in state.items() if k not in ("stopped", "streams")}
                for state in (actual["before"], actual["state"])
            )
            assert differences(before, after, [BAD]) == []
        finite(actual["state"])
    assert not any(wrong.values()), wrong


@pytest.mark.parametrize("name", CONFIGS)
def test_what_one_member_is_made_with_changes_no_other(name: str) -> None:
    base: Change = {} if name == "lambda" else {"gamma": [0.9, 0.99, 0.95]}
    expected, wrong = run(make("Population", name, **base)), {}
    for case, change in STARTS.items():
        pwm = make("Population", name, **{**base, **change})
        actual = run(pwm)
        wrong[case] = [
            where
            for part in ("state", "metrics", "gradients")
            for where in differences(expected[part], actual[part], OTHERS)
        ]
        if "NaN" in case or "inf" in case:
            assert pwm.stopped == [BAD]
    for case, rates in RATES.items():
        pwm = make("Population", name, rates=rates, **base)
        actual = run(pwm)
        finite(actual["state"])
        wrong[case] = [
            where
            for part in ("state", "metrics", "gradients")
            for where in differences(expected[part], actual[part], OTHERS)
        ]
    assert not any(wrong.values()), wrong


def finite(state: Any, path: str = "") -> None:
    """Nothing that is kept is NaN or infinite."""
    if isinstance(state, dict):
        for key, value in state.items():
            finite(value, f"{path}/{key}")
    elif isinstance(state, Tensor) and state.is_floating_point():
        assert torch.isfinite(state).all(), path


def test_members_that_diverge_are_named_and_the_last_one_ends_the_run() -> None:
    pwm = make("Population", "ours")
    given = batch(0)
    spoiler("observation", math.nan)(given)
    with pytest.warns(
        UserWarning, match=r"^imagined returns of policy 1 must be finite, .* 2 of 3"
    ):
        pwm.update(given)
    assert pwm.stopped == [1]
    pwm.update(batch(1))  # what is known is not told again
    kept = copy.deepcopy(pwm.state_dict())
    given["observation"][:] = math.nan
    message = r"imagined returns of policies 0, 2 must be finite, .* all 3 policies are stopped"
    with pytest.raises(ValueError, match=message):
        pwm.update(given)
    assert pwm.stopped == [0, 1, 2]
    same = {k: v for k, v in pwm.state_dict().items() if k in ("actor", "critic", "average")}
    assert differences({k: kept[k] for k in same}, same, [0, 1, 2]) == []
    with pytest.raises(ValueError, match=r"the numbers of policies 0, 1, 2 must be finite"):
        pwm.update(batch(2))
    again = make("Population", "ours")
    again.load_state_dict(kept)
    assert again.stopped == [1]
    again.keep([2, 0])
    assert again.stopped == []
    again.update(batch(2)[[2, 0]])


def test_without_reading_the_end_of_fit_tells() -> None:
    class Rows:
        def sample_starts(self, tasks: object, count: int) -> TensorDict:
            given = batch(0)
            given["observation"][:2] = math.nan
            return given

    pwm = make("PWM", "published", check_every=1000)
    with pytest.warns(UserWarning, match="imagined returns of policies 0, 1 must be finite"):
        metrics = pwm.fit(Rows(), 2, tasks=[0, 1, 1])
    assert torch.isfinite(metrics["value_loss"])  # of those that go on
    assert torch.isfinite(metrics["saturated"])


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_cloned_policies_are_independent(value: float, windows: bool) -> None:
    def make_one() -> BehaviourCloning:
        torch.manual_seed(1)
        return BehaviourCloning(FirstOrderActor(8, 2, (8,), population=MEMBERS), model=MODEL)

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
        critic = Critic(4, (8,), 2, population=MEMBERS)
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
    start = Critic(4, (8,), 2, population=MEMBERS)
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_compiled_members_are_independent() -> None:
    torch.manual_seed(1)
    actor = FirstOrderActor(8, 2, (8,), population=MEMBERS)
    critic = Critic(8, (8,), 2, population=MEMBERS)
    options = {"seeds": [3, 4, 5], "execution": Execution(compile=True, check_every=1000)}
    pwm, made = Population(MODEL, actor, critic, CONFIGS["ours"], **options), []
    pwm.update(batch(0))
    begin = copy.deepcopy(pwm.state_dict())
    for spoil in (None, BATCHES["one start NaN"]):
        pwm.load_state_dict(copy.deepcopy(begin))
        made.append(run(pwm, spoil))
    for part in ("state", "metrics", "gradients"):
        assert differences(made[0][part], made[1][part], OTHERS) == []
