"""A simulator as a gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch

from pwm_sdk.calls import checked
from pwm_sdk.contract.models import SimulatorModel
from pwm_sdk.keys import SUCCESS

__all__ = ["SimulatorEnv"]


@checked()
class SimulatorEnv(gymnasium.Env):
    """One episode of a `SimulatorModel` at a time, without gradients.

    Shows the model's features, pays its rewards and ends where it says so; how long an episode may
    last is left to the task. Register your own with
    `register_task(task, lambda: SimulatorEnv(model))`.

    Args:
        model: a `SimulatorModel`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it without ClassVar

    def __init__(self, model: SimulatorModel) -> None:
        self.model = model
        self._generator = torch.Generator("cpu")
        self._generator.seed()
        self._state = torch.zeros(0, device="cpu")
        size = model.observation_dim
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (model.action_dim,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; `seed` restarts the random stream."""
        super().reset(seed=seed)
        if seed is not None:
            self._generator.manual_seed(seed)
        self._state = self.model.reset(1, self._generator)
        return self._observe(), {SUCCESS: False}

    @torch.no_grad()
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one agent step with `action` `[A]` in [-1, 1]."""
        given = torch.from_numpy(np.asarray(action, np.float32)).unsqueeze(0)
        self._state, reward, *ends = self.model.step(self._state, given)
        terminated = bool(ends[0]) if ends else False
        return self._observe(), float(reward), terminated, False, {SUCCESS: False}

    @torch.no_grad()
    def _observe(self) -> np.ndarray:
        return self.model.features(self._state)[0].float().numpy()

    def render(self) -> None:
        """Say how to film.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "render must be done by the simulator, got none here: states of a MuJoCoModel can be "
            "set in a mujoco.MjData of env.unwrapped.model.mj and shown by mujoco.Renderer, with "
            "MUJOCO_GL=egl (or glfw, osmesa) set before the first environment is made"
        )
