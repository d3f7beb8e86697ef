"""The gate: a table of faulty environments by every entry, and what the good ones receive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from doubles import ACTING, Buffer, Spy, Still, TensorBuffer, act
from faulty import AT, FAULTS, Faulty
from gymnasium import spaces
from torchrl.envs import GymWrapper

from pwm_sdk.envs.factory import make_gym, register_task
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.tasks import Task
from pwm_sdk.training.collect import run_episodes
from pwm_sdk.training.evaluate import evaluate, evaluate_members
from pwm_sdk.training.transitions import transitions


def by_pool(env: Any) -> float:
    return run_episodes(EnvPool([env]), ACTING, [1])[0][0].total


def by_evaluate(env: Any) -> float:
    return evaluate(env, ObservationPolicy(act(0.5)), episodes=1)["return"]


def by_members(env: Any) -> float:
    model = Spy()
    return evaluate_members(
        [env], ObservationPolicy(Still(population=1), model=model), 1, tasks=[0]
    )[0]["return"]


def by_transitions(env: Any) -> float:
    (batch,) = islice(transitions(EnvPool([env]), ACTING, 5), 1)
    return float(batch["next", "reward"].sum())


ENTRIES = [by_pool, by_evaluate, by_members, by_transitions]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_environment_is_named_or_right(name: str, entry: Callable[[Any], float]) -> None:
    says = FAULTS[name].says
    if not says:
        assert entry(Faulty(name)) == 5.0
        return
    with pytest.raises(ValueError, match=says) as caught:
        entry(Faulty(name))
    if name.startswith("raises"):
        assert type(caught.value.__cause__) in (KeyError, OSError)


NOT_FOR_TORCHRL = {"flags as tensors"}  # it joins them by "or", which these do not have
REFUSED_BY_TORCHRL = {"Tuple actions", "Tuple observation", "actions unsaid", "observation unsaid"}
# It drops infos, and pays 0 where nothing is paid.
MENDED_BY_TORCHRL = {
    "a row": 5.0, "no info": 5.0, "success nan": 5.0, "success in words": 5.0, "no reward": 4.0,
    "success half": 5.0, "successes": 5.0, "info is a tuple": 5.0, "number as action": 5.0,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy")  # torchrl's
@pytest.mark.parametrize("name", FAULTS)
def test_within_torchrl_as_well(name: str) -> None:
    """What TorchRL itself cannot make never enters; what it mends comes out as it says."""
    if name in REFUSED_BY_TORCHRL:
        with pytest.raises((RuntimeError, ImportError, KeyError)):
            GymWrapper(Faulty(name))
        return
    fine = not FAULTS[name].says and name not in NOT_FOR_TORCHRL
    if fine or name in MENDED_BY_TORCHRL:
        assert by_pool(GymWrapper(Faulty(name))) == MENDED_BY_TORCHRL.get(name, 5.0)
        return
    with pytest.raises(ValueError, match=r"environment 0 \(Faulty\) (must|in step)"):
        by_pool(GymWrapper(Faulty(name)))


@pytest.mark.parametrize("name", ["nan", "inf reward", "longer", "no reward", "four values"])
def test_registered_tasks_pass_the_same_gate(name: str) -> None:
    task = register_task(
        Task("faulty", -1, "mine", 2, 1, 5, action_repeat=1), partial(Faulty, name)
    )
    env = make_gym(task)
    env.reset()
    says = FAULTS[name].says
    with pytest.raises(
        ValueError, match=says.replace(r"environment 0 \(Faulty\)", "the environment")
    ):
        for _ in range(5):
            env.step(np.zeros(1))
    with pytest.raises(ValueError, match=says.replace("Faulty", "faulty")):
        by_pool(make_gym(task))
    with pytest.raises(ValueError, match=rf"environment 0 \(faulty\) must run in step {AT}, got"):
        by_pool(gymnasium.wrappers.RecordEpisodeStatistics(make_gym(task)))


def test_in_workers_the_same_is_said_and_the_cause_kept(capfd: pytest.CaptureFixture) -> None:
    for name in ("nan", "raises", "Discrete actions"):
        says = FAULTS[name].says.replace("environment 0", "environment 1")
        with pytest.raises(ValueError, match=says) as caught:
            pool = EnvPool([Faulty, partial(Faulty, name), Faulty], workers=3)
            run_episodes(pool, ACTING, [1, 1, 1])
        if name == "raises":
            assert isinstance(caught.value.__cause__, KeyError)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_actions_must_be_finite(bad: float) -> None:
    for env in (Faulty(), GymWrapper(Faulty())):
        with pytest.raises(ValueError, match=r"action of environment 0 \(Faulty\) must be finite"):
            run_episodes(EnvPool([env]), ObservationPolicy(act(bad)).behaviour([None]), [1])


def test_actions_must_fit() -> None:
    for env in (Faulty(), GymWrapper(Faulty())):
        with pytest.raises(ValueError, match=r"action of environment 0 .* \(1,\), got \(7,\)"):
            evaluate(env, ObservationPolicy(act(0.0, 7)), episodes=1)
    for wrong in (lambda seen: seen[0], lambda seen: torch.zeros(3, 1)):
        for run in (
            lambda b: run_episodes(EnvPool([Faulty()]), b, [1]),
            lambda b: next(transitions(EnvPool([Faulty()]), b, 1)),
        ):
            with pytest.raises(ValueError, match=r"actions of the behaviour must have shape"):
                run(ObservationPolicy(wrong).behaviour([None]))


BOUNDS = [
    (0.0, 1.0, -1.0, 0.0),
    (0.0, 1.0, 0.0, 0.5),
    (-2.0, 2.0, 1.0, 2.0),
    (-2.0, 2.0, -1.0, -2.0),
    (-1.0, 1.0, 1.7, 1.0),
    (0.0, 100.0, -5.0, 0.0),
    (0.1, 0.7, 1.0, 0.7),
    (0.0, 3e38, 1.0, 3e38),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("low", "high", "action", "native"), BOUNDS)
def test_actions_arrive_in_the_environments_own_box(low, high, action, native, dtype) -> None:
    raw, inner = Faulty(), Faulty()
    for env in (raw, inner):
        env.action_space = spaces.Box(low, high, (1,), dtype)
    pool = EnvPool([raw, GymWrapper(inner)])
    for i, env in enumerate((raw, inner)):
        pool.reset(i)
        pool.step(i, np.array([action]))
        assert env.given[-1] == dtype(native)
        assert env.given[-1].dtype == dtype
        assert env.action_space.contains(env.given[-1])


@pytest.mark.parametrize("make", [Buffer, TensorBuffer, lambda: GymWrapper(Buffer())])
def test_what_an_environment_shows_is_copied(make: Callable[[], Any]) -> None:
    ((one, two),) = run_episodes(EnvPool([make()]), ACTING, [2])
    assert one.observation[:, 0].tolist() == two.observation[:, 0].tolist() == [0, 1, 2, 3, 4]
    pool = EnvPool([make()])
    kept = pool.reset(0)
    pool.step(0, np.zeros(1))
    assert kept.tolist() == [0.0]


def test_actions_of_torchrl_are_scaled_too() -> None:
    env = TensorBuffer()
    run_episodes(EnvPool([env]), ObservationPolicy(act(-3.0)).behaviour([None]), [1])
    assert env.given[0].tolist() == [-2.0]
    assert env.given[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("one-hot", r"action_spec of environment 0 \(TensorBuffer\) must be Bounded"),
        ("unbounded", r"action_spec of environment 0 \(TensorBuffer\) must be bounded"),
        ("matrix", r"action_spec of environment 0 \(TensorBuffer\) must be a Box of shape \(n,\)"),
        (
            "nan",
            r"observation of environment 0 \(TensorBuffer\) must be finite, got nan in entry 0",
        ),
        (
            "inf reward",
            r"reward of environment 0 \(TensorBuffer\) must be finite, got inf in step",
        ),
        ("raises", r"environment 0 \(TensorBuffer\) must run in step 2, got KeyError: 'lost'"),
    ],
)
def test_faults_of_torchrl_environments(fault: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        by_pool(TensorBuffer(fault))
