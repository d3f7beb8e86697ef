"""Meta-World v3 tasks with a visible, random goal as gymnasium environments."""

from __future__ import annotations

import secrets
from typing import Any, SupportsIndex

import gymnasium
import numpy as np

from pwm_sdk.envs.engines import NO_COPY, load_meta_world
from pwm_sdk.keys import SUCCESS

__all__ = ["MetaWorldEnv"]


class MetaWorldEnv(gymnasium.Env):
    """One Meta-World task, one simulator step per `step`.

    Every reset draws a new goal and new object positions from the environment's own generator,
    never from the global numpy state. Observations: hand and gripper (4) and objects (14), the same
    18 values one simulator step earlier, the goal (3). Bounds are left open because the suite's own
    ones do not hold.

    Differs: the published setting runs the v2 tasks of 2023; v3 is their maintained successor, with
    other rewards, success tests or start states in some tasks.

    Args:
        name: task name without the `mw-` prefix, such as `"reach"`.

    Raises:
        ValueError: if Meta-World does not have the task.
        MissingSimulatorError: if Meta-World is not installed.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it without ClassVar

    def __init__(self, name: str) -> None:
        classes = load_meta_world()
        key = f"{name}-v3-goal-observable"
        if key not in classes:
            raise ValueError(f"task must be one of Meta-World's, got {name!r}")
        # Without a seed the constructor would draw from, and so advance, the global numpy state.
        self.simulator = classes[key](seed=0)
        self.simulator._freeze_rand_vec = False  # else one goal for ever
        self.simulator.seeded_rand_vec = True
        self.simulator.seed(secrets.randbits(32))
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (39,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; `seed` restarts the random stream.

        As in TD-MPC2, one zero action is taken and what it shows thrown away.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.simulator.seed(seed)
        observation, _ = self.simulator.reset()
        self.simulator.step(np.zeros(4, np.float32))
        return observation, {SUCCESS: False}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply `action` `[4]` for one simulator step; `success` is that of this step."""
        observation, reward, _, _, info = self.simulator.step(action)
        return observation, float(reward), False, False, {SUCCESS: bool(info[SUCCESS])}

    def render(self) -> None:
        """Say how to film.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "render must be done by the simulator, got none here: set MUJOCO_GL=egl (or glfw, "
            "osmesa) before the first environment is made, then let mujoco.Renderer(model) update "
            "from data, with model and data of env.unwrapped.simulator"
        )

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Refuse copies: the suite's own would start again from another state.

        Raises:
            TypeError: always.
        """
        raise TypeError(NO_COPY.format(type(self).__name__))

    def close(self) -> None:
        """Free the simulator."""
        self.simulator.close()
