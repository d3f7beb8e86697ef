"""Environments of the stock suite that reward, or start, in another way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pwm_sdk.envs.engines import Physics, load_dm_control

__all__ = ["Builder", "Reward", "Start", "rewarded"]

Builder = Callable[[np.random.RandomState], Any]
"""Makes a `dm_control.rl.control.Environment` whose task draws from the given random state."""

Reward = Callable[[Physics], float]
"""Reward of the state that a dm_control `Physics` holds."""

Start = Callable[[Physics, np.random.RandomState], None]
"""Sets a dm_control `Physics` to the first state of an episode."""


def rewarded(domain: str, task: str, reward: Reward, start: Start | None = None) -> Builder:
    """A builder of a stock task with `reward` in place of its own.

    Model, observations, time limit and control step stay the stock task's.

    Args:
        domain: domain of the stock suite, such as `"walker"`.
        task: task of that domain.
        reward: the reward.
        start: start of an episode; the stock task's if not given.
    """

    def build(random: np.random.RandomState) -> Any:
        environment = load_dm_control().load(domain, task, task_kwargs={"random": random})
        environment.task.get_reward = reward
        if start is not None:
            # A partial is copied with the random state it draws from; a closure would share it.
            environment.task.initialize_episode = partial(_begun, start, random)
        return environment

    return build


def _begun(start: Start, random: np.random.RandomState, physics: Physics) -> None:
    start(physics, random)
