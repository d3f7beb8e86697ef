"""dm_control tasks as gymnasium environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from pwm_sdk.envs.dm_tasks.registry import CUSTOM_TASKS
from pwm_sdk.envs.engines import load_dm_control
from pwm_sdk.keys import SUCCESS

__all__ = ["DMControlEnv"]

_DOMAINS = {"cup": "ball_in_cup"}


class DMControlEnv(gymnasium.Env):
    """One dm_control task, one control step per `step`, float64 throughout.

    Observations are the task's entries in the order in which it reports them: datasets and
    checkpoints depend on that order, so it is never sorted. Consecutive resets continue one
    random stream; `reset(seed=)` starts it again.

    Args:
        name: task name such as `"walker-run"`; `cup` means the domain `ball_in_cup`.

    Raises:
        ValueError: if neither the stock suite nor MT30 has the task.
        MissingSimulatorError: if dm_control is not installed.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it without ClassVar

    def __init__(self, name: str) -> None:
        self._random = np.random.RandomState()
        self.simulator = _build(name, self._random)
        observations, actions = self.simulator.observation_spec(), self.simulator.action_spec()
        size = sum(int(np.prod(spec.shape)) for spec in observations.values())
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = gymnasium.spaces.Box(actions.minimum, actions.maximum, dtype=np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; `seed` in [0, 2**32) restarts the random stream."""
        super().reset(seed=seed)
        if seed is not None:
            self._random.seed(seed)
        return _flatten(self.simulator.reset().observation), {SUCCESS: False}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply `action` `[A]` in native units for one control step."""
        step = self.simulator.step(action)
        terminated = bool(step.last() and step.discount == 0.0)
        truncated = bool(step.last() and not terminated)
        return _flatten(step.observation), step.reward, terminated, truncated, {SUCCESS: False}

    def render(self) -> None:
        """Say how to film.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "render must be done by the simulator, got none here: set MUJOCO_GL=egl (or glfw, "
            "osmesa) before the first environment is made, then call "
            "env.unwrapped.simulator.physics.render(height=240, width=320, camera_id=0)"
        )

    def close(self) -> None:
        """Free the simulator."""
        self.simulator.close()


def _build(name: str, random: np.random.RandomState) -> Any:
    if name in CUSTOM_TASKS:
        return CUSTOM_TASKS[name](random)
    suite = load_dm_control()
    domain, _, task = name.replace("-", "_").partition("_")
    domain = _DOMAINS.get(domain, domain)
    if (domain, task) not in suite.ALL_TASKS:
        raise ValueError(f"task must be one of the dm_control suite or of MT30, got {name!r}")
    return suite.load(domain, task, task_kwargs={"random": random})


def _flatten(observation: Mapping[str, Any]) -> np.ndarray:
    return np.concatenate([np.ravel(value) for value in observation.values()])
