"""Environments leave the process as they found it, and do not disturb one another."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from pwm_sdk.envs.factory import make_env, make_gym, register_task
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.policies.behaviours import RandomBehaviour
from pwm_sdk.tasks import Task
from pwm_sdk.training.collect import run_episodes

OWN = register_task(
    Task("own-pendulum", -1, "mine", 3, 1, 200, action_repeat=1),
    partial(gymnasium.make, "Pendulum-v1"),
)
NAMES = [
    "walker-walk",  # dm_control's suite
    "quadruped-walk",
    "cup-spin",  # of MT30
    "reacher-three-easy",
    "mw-reach",
    "mw-door-close",
    "hopper-forward",  # simulators
    "muscle-humanoid",
    "mass-spring",
    "own-pendulum",
]


def state() -> dict[str, Any]:
    """Everything global that an environment might touch."""
    kind, words, *rest = np.random.get_state()
    loggers = {
        name: (logger.level, logger.disabled, logger.propagate, tuple(logger.handlers))
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    return {
        "numpy": (kind, words.tolist(), rest),
        "random": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "environ": dict(os.environ),
        "warnings": list(warnings.filters),
        "root": (logging.root.level, tuple(logging.root.handlers), logging.root.disabled),
        "disabled": logging.root.manager.disable,
        "loggers": loggers,
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "errors": np.geterr(),
        "print": np.get_printoptions(),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "hooks": (sys.excepthook, threading.excepthook, warnings.showwarning),
        "streams": (sys.stdout, sys.stderr),
        "recursion": sys.getrecursionlimit(),
        "products": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    known = before["loggers"]
    after = after | {"loggers": {k: v for k, v in after["loggers"].items() if k in known}}
    return [name for name in before if before[name] != after[name]]


def use(make: Callable[..., Any], name: str, say: Callable[[str], None]) -> None:
    """Make, reset, step and close an environment, with a word after each."""
    env = make(name, seed=3 if make is make_gym else None)
    say("made")
    pool = EnvPool([env])
    pool.reset(0)
    say("reset")
    for _ in range(3):
        pool.step(
            0, np.zeros(env.action_space.shape[0] if make is make_gym else env.action_spec.shape[0])
        )
    say("stepped")
    pool.reset(0, seed=5)
    say("seeded")
    pool.close()
    say("closed")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_global_changes(name: str) -> None:
    for make in (make_gym, make_env):
        before, found = state(), {}
        use(make, name, lambda when: found.update({when: changed(before, state())}))  # noqa: B023
        assert not any(found.values()), found


FRESH = """
import sys
sys.path.insert(0, {folder!r})
import torch, gymnasium, tensordict, torchrl  # what they do is theirs
import pwm_sdk
from test_global_state import changed, state, use
from pwm_sdk import make_gym
found = set()
before = state()
def look(when):
    found.update((name, when, what) for what in changed(before, state()))
for name in {names!r}:
    use(make_gym, name, look)
print(sorted(found))
"""


def test_nor_does_it_in_a_fresh_process() -> None:
    """What an import does on first use shows here only."""
    names = ["walker-walk", "mw-reach", "cup-spin", "hopper-forward", "own-pendulum"]
    code = FRESH.format(folder=os.path.dirname(__file__), names=names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("name", [name for name in NAMES if name != "muscle-humanoid"])
def test_two_side_by_side_are_each_as_alone(name: str) -> None:
    def play(*seeds: int) -> list[np.ndarray]:
        envs = [make_gym(name, seed=seed) for seed in seeds]
        act = Same(len(seeds), envs[0].action_space.shape[0])
        episodes = run_episodes(EnvPool(envs), act, [2] * len(seeds), lengths=[4] * len(seeds))
        return [np.concatenate([e.observation for e in mine]) for mine in episodes]

    together, alone = play(1, 2), [play(1)[0], play(2)[0]]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)


class Same(RandomBehaviour):
    """The same actions in all environments, by step."""

    def __init__(self, count: int, action_dim: int) -> None:
        super().__init__(1, action_dim, seed=0)
        self.count = count

    def start(self, index: int) -> None:
        """Draw nothing."""

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return np.repeat(super().__call__(observation[:1]), self.count, 0)
