"""Everything that learns, loses, plans, samples or normalises, on another device than the CPU.

`meta` has no numbers: an update that runs there reads none, so it does not wait for a GPU either.
Loops and replays count and read, which needs numbers: they run on `elsewhere`, as all others do
again, and find there what they find on the CPU.
"""

from __future__ import annotations

import pytest
import torch
from anywhere import ANYWHERE, WITH_NUMBERS
from elsewhere import Remote, elsewhere

import pwm_sdk


def test_every_public_algorithm_loop_and_planner_has_a_case() -> None:
    public = {name: getattr(pwm_sdk, name) for name in pwm_sdk.__all__}
    algorithms = {
        name
        for name, value in public.items()
        if isinstance(value, type)
        and value.__module__.startswith("pwm_sdk.algorithms")
        and hasattr(value, "update")
        and hasattr(value, "load_state_dict")
        and not issubclass(value, torch.nn.Module)
    }
    cases = " ".join([*ANYWHERE, *WITH_NUMBERS])
    others = {"GrowingBatch", "fit", "MPPI", "LatentRollout", "ReplayBuffer"}
    assert len(algorithms) >= 8
    assert {name for name in algorithms | others if name not in cases} == set()


@pytest.mark.parametrize("name", ANYWHERE)
def test_on_meta_nothing_is_read(name: str) -> None:
    torch.manual_seed(0)
    for key, value in ANYWHERE[name]("meta").items():
        assert value.device.type == "meta", key


@pytest.mark.parametrize("name", [*ANYWHERE, *WITH_NUMBERS])
def test_elsewhere_everything_is_as_on_the_cpu(name: str) -> None:
    run = {**ANYWHERE, **WITH_NUMBERS}[name]
    torch.manual_seed(0)
    expected = run("cpu")
    torch.manual_seed(0)
    with elsewhere() as device:
        found = run(device)
        there = {k: v.detach().inner if isinstance(v, Remote) else v for k, v in found.items()}
        assert name in WITH_NUMBERS or all(isinstance(v, Remote) for v in found.values())
    assert set(there) == set(expected)
    loose = {"rtol": 0.05, "atol": 0.05} if "bf16" in name else {"rtol": 1e-4, "atol": 1e-5}
    for key, value in there.items():
        torch.testing.assert_close(
            value, expected[key].detach(), **loose, msg=lambda m, k=key: f"{k}: {m}"
        )
