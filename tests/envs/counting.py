"""An environment whose every observation says which episode and step it is of."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Counting(gymnasium.Env):
    """Observation: a number drawn at the start plus the last action, the episode and the step.

    Args:
        length: steps of an episode, which then terminates.
        cut: truncate in place of terminating.
        numbered: show the number of the episode, which no seed reproduces.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, length: int = 3, cut: bool = False, numbered: bool = True) -> None:
        self.length, self.cut, self.episode, self.numbered = length, cut, 0, numbered

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.uniform()
        self.episode += self.numbered
        return self.seen(0.0), {}

    def step(self, action: Any) -> Any:
        if self.t == self.length:
            raise RuntimeError("stepped past the end")
        self.t += 1
        over = self.t == self.length
        info = {"success": over and not self.cut}
        return self.seen(action[0]), float(self.t), over and not self.cut, over and self.cut, info

    def seen(self, push: float) -> np.ndarray:
        return np.array([self.x + push, self.episode, self.t], np.float32)
