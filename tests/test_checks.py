"""The checks of settings, and the settings that they keep out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pwm_sdk.algorithms.behaviour_cloning import BehaviourCloningConfig
from pwm_sdk.algorithms.dreamer_v3_config import DreamerV3Config
from pwm_sdk.algorithms.ppo import PPOConfig
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.algorithms.sac import SACConfig
from pwm_sdk.algorithms.shac_config import SHACConfig
from pwm_sdk.algorithms.tdmpc2_config import TDMPC2Config
from pwm_sdk.checks import (
    at_least,
    finite,
    flag,
    in_unit,
    pair,
    positive,
    seed,
    seeds,
    single,
    text,
    whole,
)
from pwm_sdk.training.settings import Learner, RoundConfig


def test_what_fits_and_none_pass() -> None:
    positive(one=1e-9, many=[1, 2.0], infinite=math.inf, none=None)
    at_least(0.0, zero=0, single=np.float32(0.5))
    in_unit(ends=(0, 1.0), none=None)
    whole(1, one=1, array=np.int64(3), many=(1, 2))
    pair(two=(0.1, 2.0))


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (positive, 0.0, "x must be positive, got 0.0"),
        (positive, [1.0, -2.0], r"x must be positive, got \[1.0, -2.0\]"),
        (positive, math.nan, "x must be positive, got nan"),
        (positive, "3", "x must be positive, got '3'"),
        (in_unit, 1.5, r"x must lie in \[0, 1\], got 1.5"),
        (pair, 0.3, "x must be two numbers, got 0.3"),
        (pair, (1, 2, 3), r"x must be two numbers, got \(1, 2, 3\)"),
    ],
)
def test_others_are_named(check: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(x=value)


def test_numbers_below_the_least_and_fractions_are_named() -> None:
    with pytest.raises(ValueError, match="x must be at least 1, got 0"):
        whole(1, x=0)
    with pytest.raises(ValueError, match=r"x must be an integer, got 16\.0"):
        whole(1, x=16.0)
    with pytest.raises(ValueError, match=r"y must be at least 0\.5, got 0\.1"):
        at_least(0.5, x=0.5, y=0.1)


def test_integers_of_numpy_come_back_as_those_of_python() -> None:
    assert type(whole(0, x=np.int64(3))) is int
    assert whole(0, x=np.array([1, 2])) == (1, 2)
    assert whole(0, x=None) is None
    assert whole(0, x=1, y=[2]) == (1, (2,))
    assert type(seed(seed=np.uint32(2**32 - 1))) is int
    assert seeds(seeds=[0, np.int64(7)]) == (0, 7)


@pytest.mark.parametrize("value", [1.0, True, np.True_, "3", math.nan, -1, 2**32, 2**64, object()])
def test_what_is_no_seed_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"seed must be an integer in 0\.\.2\*\*32 - 1, got"):
        seed(seed=value)


@pytest.mark.parametrize("value", [2.0, np.float64(2.0), True, np.True_, "2"])
def test_what_is_no_count_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="count must be an integer, got"):
        whole(0, count=value)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (PWMConfig, {"lam": 2.0}),
        (PWMConfig, {"gamma": (0.9, 1.1)}),
        (PWMConfig, {"critic_limit": 0}),
        (PWMConfig, {"horizon": 0}),
        (PWMConfig, {"saturation": -0.1}),
        (PWMConfig, {"actor_max_norm": -1.0}),
        (PWMConfig, {"betas": (0.9,)}),
        (SHACConfig, {"gamma": 2.0}),
        (SHACConfig, {"actor_max_norm": -1.0}),
        (SHACConfig, {"cotangent_clip": 0.0}),
        (RoundConfig, {"hold": 0}),
        (RoundConfig, {"correlation": 2.0}),
        (RoundConfig, {"std_share": 0.0}),
        (RoundConfig, {"std": 0.3}),
        (RoundConfig, {"updates": -1}),
        (RoundConfig, {"model_max_norm": -1.0}),
        (TDMPC2Config, {"gamma": [0.9, 2.0]}),
        (TDMPC2Config, {"max_norm": 0.0}),
        (SACConfig, {"batch_size": 0}),
        (SACConfig, {"tau": 2.0}),
        (PPOConfig, {"minibatch": 0}),
        (PPOConfig, {"std": 0.0}),
        (DreamerV3Config, {"horizon": 0}),
        (BehaviourCloningConfig, {"max_norm": -1.0}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
def test_settings_out_of_range_are_refused(config: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(settings))} must "):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.0}, r"gamma must lie in \[0, 1\), got 1.0"),
        ({"unimix": 1.0}, r"unimix must lie in \[0, 1\), got 1.0"),
        ({"belief": 10, "blocks": 4}, "belief must be divisible by blocks 4, got 10"),
    ],
)
def test_settings_that_no_dreamer_can_have_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        DreamerV3Config(**settings)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (flag, 1, "x must be True or False, got 1"),
        (flag, None, "x must be True or False, got None"),
        (text, 3, "x must be a string, got 3"),
        (finite, math.inf, "x must be a finite number, got inf"),
        (finite, True, "x must be a finite number, got True"),
        (single, [1.0], r"x must be one number, got \[1.0\]"),
        (single, None, "x must be one number, got None"),
    ],
)
def test_what_is_of_another_kind_is_named(check, value, message) -> None:
    with pytest.raises(ValueError, match=message):
        check(x=value)


def test_a_learner_has_a_task_for_each_policy() -> None:
    with pytest.raises(ValueError, match=r"tasks must have one entry per policy \(1\), got \[0, 1"):
        Learner(None, [0, 1], starts=4)
    with pytest.raises(ValueError, match="starts must be at least 1, got 0"):
        Learner(None, [0], starts=0)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Learner(None, [0], starts=4, every=0)
