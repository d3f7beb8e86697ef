"""A toy environment whose episodes can be followed by hand."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest


class PointMass(gymnasium.Env):
    """A point on a line, pushed by the action; it should rest at 0.

    v' = 0.9 v + 0.25 a, p' = p + 0.25 v', reward exp(-4 p'^2), success within 0.2. With `start`,
    every episode begins there at rest; otherwise p is uniform in [-1, 1]. Ends beyond `wall`.
    """

    def __init__(self, start: float | None = None, wall: float = np.inf, length: int = 40) -> None:
        box = gymnasium.spaces.Box
        self.observation_space = box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = box(-1.0, 1.0, (1,), np.float32)
        self.begin, self.wall, self.length = start, wall, length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.p = self.np_random.uniform(-1, 1) if self.begin is None else self.begin
        self.v, self.t = 0.0, 0
        return np.array([self.p, self.v], np.float32), {}

    def step(self, action):
        self.v = 0.9 * self.v + 0.25 * float(action[0])
        self.p, self.t = self.p + 0.25 * self.v, self.t + 1
        observation = np.array([self.p, self.v], np.float32)
        reward = float(np.exp(-4 * self.p**2))
        info = {"success": abs(self.p) < 0.2}
        return observation, reward, abs(self.p) > self.wall, self.t >= self.length, info


@pytest.fixture
def point_mass() -> Callable[..., gymnasium.Env]:
    """Make point masses: `point_mass(start=None, wall=inf, length=40)`."""
    return PointMass
