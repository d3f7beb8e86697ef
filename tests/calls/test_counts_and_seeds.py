"""Counts and seeds: one rule everywhere, integers of Python and numpy in, Python's out."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from legal_calls import FOREIGN, every_call

SEEDS = ("seed", "seeds")
NO_COUNTS = [True, 1.0, 1.5, float("nan"), "3", [1.0], np.float32(2.0), np.bool_(True)]


def counts() -> list[tuple[str, str]]:
    """Every argument of a public callable that is one integer, or several."""
    found = []
    for name, (call, settings) in every_call().items():
        parameters = inspect.signature(call).parameters
        for argument, value in settings.items():
            note = str(parameters[argument].annotation) if argument in parameters else ""
            single = isinstance(value, int) and not isinstance(value, bool)
            if (single and ("float" not in note) and argument != "task") or argument in SEEDS:
                found.append((name, argument))
    return found


def put(name: str, argument: str, value: Any) -> Any:
    """Call with one argument replaced, inside a list where there is one."""
    call, settings = every_call()[name]
    if isinstance(settings[argument], list):
        value = [value, *settings[argument][1:]]
    return call(**{**settings, argument: value})


@pytest.mark.parametrize(("name", "argument"), counts(), ids=str)
def test_integers_of_numpy_are_integers_and_nothing_else_is(name: str, argument: str) -> None:
    given = every_call()[name][1][argument]
    first = given[0] if isinstance(given, list) else given
    for kind in (np.int64, np.uint32, np.int32):
        if first >= 0 and name not in FOREIGN:
            made = put(name, argument, kind(first))
            kept = getattr(made, argument, first)
            assert not isinstance(kept, np.generic), f"{argument} must be kept as Python's integer"
    for wrong in NO_COUNTS:
        with pytest.raises(ValueError, match=rf"\b{re.escape(argument)}\b"):
            put(name, argument, wrong)


@pytest.mark.parametrize(("name", "argument"), [c for c in counts() if c[1] in SEEDS], ids=str)
def test_seeds_lie_in_32_bits(name: str, argument: str) -> None:
    put(name, argument, 2**32 - 1)
    for wrong in (-1, 2**32, 2**64):
        with pytest.raises(ValueError, match=rf"\b{argument}\b"):
            put(name, argument, wrong)


@pytest.mark.parametrize(
    "name", ["WorldModel", "FirstOrderActor", "Critic", "QEnsemble", "PolicyPrior"]
)
def test_networks_of_numpy_numbers_are_saved_and_built_again(name: str, tmp_path) -> None:
    call, settings = every_call()[name]

    def of_numpy(value: Any) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            return np.int64(value)
        return np.float32(value) if isinstance(value, float) else value

    module = call(**{key: of_numpy(value) for key, value in settings.items()})
    module.save(tmp_path / "module.safetensors")
    again = call.from_checkpoint(tmp_path / "module.safetensors")
    assert again.settings == module.settings
    assert all(
        type(v) in (int, float, str, bool, list, type(None)) for v in again.settings.values()
    )
