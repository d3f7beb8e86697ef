"""Every wrong call of the public names is answered by an error that names the argument."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from legal_calls import FOREIGN, constructors, every_call, functions, methods
from legitimate_calls import LEGITIMATE, NAMED_OTHERWISE, reason
from wrong_calls import answer, wrong_values

import pwm_sdk
import pwm_sdk.functional

REVIEWED = 441  # wrong calls that the review tried

# public names that are not called, and methods that no wrong call of this kind reaches
DATA = {"MT30", "MT80", "SINGLE_TASKS"}
ANSWERED_ELSEWHERE = {
    # states are checked as a whole: tests of files and of resuming
    *("load_state_dict", "set_state", "get_state", "load", "from_dataset", "save", "state_dict"),
    # environments: tests/envs
    *("reset_many", "step_many", "SimulatorEnv.reset", "SimulatorEnv.step", "EnvPool.reset"),
    "EnvPool.step",
    # a record, made by pools of what passed their gates
    "PoolStep",
    # TorchRL calls them
    *("any_done", "maybe_reset"),
    # newton compiles for a minute: the same rules as MassSpring
    *("SoftBody", "SoftBody.encode", "SoftBody.features", "SoftBody.reset", "SoftBody.step"),
    # **settings of their class
    *("PWMConfig.published", "PWMConfig.paper"),
    # needs matplotlib: tests/runs/test_run.py
    *("Run.plot",),
    # TorchRL's storage
    *("SAC.make_replay",),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """Let calls that write do so in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def optional(call: Any, name: str) -> bool:
    """Tell whether None stands for leaving an argument out."""
    try:
        parameters = inspect.signature(call).parameters
    except ValueError:
        return False
    if name not in parameters:  # of **options, or of a lambda around the call
        return True
    parameter = parameters[name]
    return parameter.default is None or "None" in str(parameter.annotation)


def wrong_calls() -> list[tuple[str, str, str]]:
    """Every (callable, argument, label) of the corpus."""
    return [
        (name, argument, label)
        for name, (call, settings) in every_call().items()
        for argument, value in settings.items()
        for label, _ in wrong_values(value)
        if not (label == "None" and optional(call, argument))
    ]


def public_callables() -> set[str]:
    """Names that the table must have: classes, their methods with arguments, functions."""
    found = set()
    for name in set(pwm_sdk.__all__) - DATA:
        value = getattr(pwm_sdk, name)
        if getattr(value, "_is_protocol", False) or inspect.ismodule(value):
            continue
        if inspect.isclass(value) and issubclass(value, Exception):
            continue
        found.add(name)
        if inspect.isclass(value):
            found |= {f"{name}.{method}" for method in _methods(value)}
    equations = [getattr(pwm_sdk.functional, name) for name in pwm_sdk.functional.__all__]
    return found | {f"{e.__module__.removeprefix('pwm_sdk.')}.{e.__name__}" for e in equations}


def _methods(owner: type) -> list[str]:
    found = []
    for name in dir(owner):
        if name.startswith("_") and name not in ("__call__", "__getitem__"):
            continue
        home = next(c for c in owner.__mro__ if name in vars(c))
        method = getattr(owner, name)
        if not home.__module__.startswith("pwm_sdk") or isinstance(vars(home)[name], property):
            continue
        if callable(method) and set(inspect.signature(method).parameters) - {"self"}:
            found.append(name)
    return found


def test_every_public_name_is_called() -> None:
    known = {*every_call(), *ANSWERED_ELSEWHERE}
    missing = {n for n in public_callables() if n not in known and n.split(".")[-1] not in known}
    assert not missing, f"add a legal call to tests/calls/legal_calls.py: {sorted(missing)}"


@pytest.mark.filterwarnings("ignore")  # Minari's
@pytest.mark.parametrize("table", [constructors, functions, methods])
def test_legal_calls_are_legal(table) -> None:
    for name, (call, settings) in table().items():
        if name not in FOREIGN:
            call(**settings)


def test_wrong_calls_are_answered_by_the_arguments_name() -> None:
    corpus, wrong = wrong_calls(), []
    assert len(corpus) >= REVIEWED
    for name, (call, settings) in every_call().items():
        for argument, value in settings.items():
            for label, given in wrong_values(value):
                if label == "None" and optional(call, argument):
                    continue
                said = answer(call, settings, argument, given)
                if said and not reason(name, argument, label, refused=said != "accepted"):
                    wrong.append(f"{name}({argument}={label}): {said}")
    assert not wrong, f"{len(wrong)} of {len(corpus)}:\n" + "\n".join(wrong)


def test_every_reason_is_of_a_call() -> None:
    corpus = wrong_calls()
    for refused, table in ((False, LEGITIMATE), (True, NAMED_OTHERWISE)):
        met = {reason(*call, refused=refused) for call in corpus}
        assert {pattern[3] for pattern in table} <= met
