"""What happens to one policy of a population is nobody else's business, to the bit."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spoiled import BAD, MEMBERS, MODEL, OTHERS, VALUES, batch, differences, finite, quiet, run
from tensordict import TensorDict

from pwm_sdk.algorithms.population import Population
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.algorithms.return_scales import ReturnScale
from pwm_sdk.execution.settings import Execution
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.training.loop import fit

SMALL: dict[str, Any] = {"horizon": 3, "critic_epochs": 2, "critic_splits": 2}
SLOW = {"target_tau": 0.1, "average_tau": 0.1}
CONFIGS: dict[str, PWMConfig] = {
    "ours": PWMConfig.paper(**SMALL, **SLOW, saturation=0.1, behaviour=0.5),
    "lambda": PWMConfig.paper(**SMALL, actor_lam=0.9, gamma=[0.9, 0.99, 0.95]),
    "published": PWMConfig.published(**SMALL),
    "clipped": PWMConfig.paper(**SMALL, actor_max_norm=0.01, critic_max_norm=0.1),
}

Change = dict[str, Any]


def make(kind: str, name: str, check_every: int | None = None, **changes: Any) -> PWM:
    """The same start every time, but for what is changed."""
    torch.manual_seed(1)
    actor = FirstOrderActor.published(
        8, 2, (8,), population=MEMBERS, action_dims=changes.pop("action_dims", [2, 2, 1])
    )
    critic = Critic.published(8, (8,), 2, population=MEMBERS, scale=[1.0, 2.0, 3.0])
    config, options = copy.deepcopy(CONFIGS[name]), {}
    if "gamma" in changes:
        config = PWMConfig.paper(**{**config.__dict__, "gamma": changes.pop("gamma")})
    for part, value in changes.pop("weights", {}).items():
        with torch.no_grad():
            for parameter in {"actor": actor, "critic": critic}[part].parameters():
                parameter[BAD] = value
    scale = None if config.return_scale == "deviation" else ReturnScale(MEMBERS)
    options = {"return_scale": scale, "execution": Execution(check_every=check_every)}
    options["generator"] = torch.Generator().manual_seed(2)
    if kind == "Population":
        return Population(MODEL, actor, critic, config, seeds=[3, 4, 5], **options, **changes)
    return PWM(MODEL, actor, critic, config, **options)


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


def test_members_that_diverge_are_named_and_the_last_one_ends_the_run() -> None:
    pwm = make("Population", "ours")
    given = batch(0)
    spoiler("observation", math.nan)(given)
    with pytest.warns(
        UserWarning, match=r"^imagined returns of policy 1 must be finite, .* 2 of 3"
    ):
        pwm.update(given)
    assert pwm.stopped == [1]
    metrics = pwm.update(batch(1))  # what is known is not told again
    for name in ("return", "actor_grad_norm", "critic_grad_norm"):
        assert metrics[name].isnan().tolist() == [False, True, False]
    kept = copy.deepcopy(pwm.state_dict())
    given["observation"][:] = math.nan
    message = r"imagined returns of policies 0, 2 must be finite, .* all policies are stopped"
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


def test_one_that_is_stopped_is_so_in_copies_files_and_other_populations() -> None:
    pwm = make("Population", "ours")
    given = batch(0)
    spoiler("observation", math.inf)(given)
    with quiet():
        pwm.update(given)
    again, members = make("Population", "ours"), make("Population", "ours")
    again.load_state_dict(copy.deepcopy(pwm.state_dict()))
    members.load_members([pwm.member_state(i) for i in range(MEMBERS)])
    others = copy.deepcopy(pwm), pickle.loads(pickle.dumps(pwm)), again, members
    expected = run(pwm)
    for other in others:
        assert other.stopped == [BAD]
        found = run(other)
        assert differences(expected["state"], found["state"], [0, 1, 2]) == []
    members.load_members([pwm.member_state(i) for i in (0, 2, 0)])
    assert members.stopped == []
    pwm.keep([1, 2])
    assert pwm.stopped == [0]


def test_what_may_be_given_back_is_kept_in_the_same_memory_and_of_one_policy_not_at_all() -> None:
    pwm = make("Population", "ours")
    for number in range(2):
        pwm.update(batch(number))
    places = [kept.data_ptr() for kept in pwm.finite._before]
    pwm.update(batch(2))
    assert [kept.data_ptr() for kept in pwm.finite._before] == places
    assert len(places) > len(list(pwm.actor.parameters()))
    actor, critic = FirstOrderActor.published(8, 2, (8,)), Critic.published(8, (8,), 2)
    alone = PWM(MODEL, actor, critic, PWMConfig.paper(**SMALL))
    alone.update(batch(0)[0])
    assert alone.finite._before == []


def test_without_reading_the_end_of_fit_tells() -> None:
    class Rows:
        def sample(self) -> TensorDict:
            given = batch(0)
            given["observation"][:2] = math.nan
            return given

    pwm = make("PWM", "published", check_every=1000)
    with pytest.warns(UserWarning, match="imagined returns of policies 0, 1 must be finite"):
        metrics = fit(pwm, Rows(), 2)
    assert math.isfinite(metrics["value_loss"])  # of those that go on
    assert math.isfinite(metrics["saturated"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_compiled_members_are_independent() -> None:
    torch.manual_seed(1)
    actor = FirstOrderActor.published(8, 2, (8,), population=MEMBERS)
    critic = Critic.published(8, (8,), 2, population=MEMBERS)
    options = {"seeds": [3, 4, 5], "execution": Execution(compile=True, check_every=1000)}
    pwm, made = Population(MODEL, actor, critic, CONFIGS["ours"], **options), []
    pwm.update(batch(0))
    begin = copy.deepcopy(pwm.state_dict())
    for spoil in (None, BATCHES["one start NaN"]):
        pwm.load_state_dict(copy.deepcopy(begin))
        made.append(run(pwm, spoil))
    for part in ("state", "metrics", "gradients"):
        assert differences(made[0][part], made[1][part], OTHERS) == []
