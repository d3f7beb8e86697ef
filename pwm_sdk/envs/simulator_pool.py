"""A simulator as a pool: N states that are stepped at once."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from pwm_sdk.contract.models import SimulatorModel
from pwm_sdk.envs.batched import BatchedPool, Stepped
from pwm_sdk.envs.gate import Gate, GateError
from pwm_sdk.envs.member import Limits
from pwm_sdk.envs.task_env import PADDED
from pwm_sdk.tasks import Task

__all__ = ["SimulatorPool"]


class SimulatorPool(BatchedPool):
    """N episodes of a `SimulatorModel`, without gradients.

    Shows the model's features, pays its rewards and ends where it says so; episodes are truncated
    after their length. Every row draws its start states from a random stream of its own, so that a
    row shows the episodes of a single `SimulatorEnv` of its seed, up to the rounding of batches.

    Args:
        model: a `SimulatorModel`.
        count: N.
        task: that the model shows; None: none, of the model's own episode length.
        seeds: of the rows' random streams; None: any.
        observation_dim: padded O; None: the model's.
        action_dim: padded A; None: the model's.
        limits: of episodes and steps.
    """

    def __init__(
        self,
        model: SimulatorModel,
        count: int,
        *,
        task: Task | None = None,
        seeds: list[int] | None = None,
        observation_dim: int | None = None,
        action_dim: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.model = model
        self._length = model.episode_length if task is None else task.episode_length
        self._pad = 0 if observation_dim is None else observation_dim - model.observation_dim
        box = gymnasium.spaces.Box(-1.0, 1.0, (model.action_dim,), np.float32)
        name = type(model).__name__ if task is None else task.name
        size = model.observation_dim + self._pad
        gates = [Gate(size, box, f"environment {i} ({name})", action_dim) for i in range(count)]
        if task is not None:
            for gate in gates:
                gate.hint = PADDED
        tasks = [None if task is None else task.index] * count
        super().__init__(gates, tasks, Limits() if limits is None else limits)
        self._generators = [torch.Generator("cpu") for _ in range(count)]
        for i, generator in enumerate(self._generators):
            generator.seed() if seeds is None else generator.manual_seed(seeds[i])
        self._state = torch.zeros(0, device="cpu")  # [N, D] from the first start on

    def close(self) -> None:
        """Do nothing: a simulator holds nothing open."""

    @torch.no_grad()
    def _reset(self, rows: list[int], seeds: list[int | None]) -> Any:
        for i, seed in zip(rows, seeds, strict=True):
            if seed is not None:
                self._generators[i].manual_seed(seed)
        fresh = torch.cat([self.model.reset(1, self._generators[i]) for i in rows])
        if len(self._state) == 0:
            self._state = fresh[:1].expand(len(self), -1).clone()
        else:
            self._state = self._state.clone()
        self._state[rows] = fresh
        return self._seen(fresh)

    @torch.no_grad()
    def _step(self, rows: list[int], native: np.ndarray) -> Stepped:
        every = len(rows) == len(self) and rows == list(range(len(self)))
        state = self._state if every else self._state[rows]
        action = torch.from_numpy(native).to(state.device)
        try:
            state, reward, *ends = self.model.step(state, action)
        except Exception as error:
            raise self._culprit(rows, state, action, error) from error
        if every:
            self._state = state
        else:
            self._state = self._state.clone()
            self._state[rows] = state
        terminated = np.zeros(len(rows), bool)
        if ends:
            terminated = ends[0].reshape(-1).cpu().numpy()
        truncated = (self._steps[rows] + 1 >= self._length) & ~terminated
        paid = reward.reshape(-1).double().cpu().numpy()
        return Stepped(self._seen(state), paid, np.zeros(len(rows), bool), terminated, truncated)

    def _seen(self, state: Tensor) -> np.ndarray:
        """Return what states `[n, D]` show, `[n, O]`."""
        seen = self.model.features(state).float().cpu().numpy()
        return np.pad(seen, ((0, 0), (0, self._pad))) if self._pad else seen

    def _culprit(
        self, rows: list[int], state: Tensor, action: Tensor, error: Exception
    ) -> GateError:
        """Return the fault of the first row that fails alone, or of all."""
        for k, i in enumerate(rows):
            try:
                self.model.step(state[k : k + 1], action[k : k + 1])
            except Exception as own:
                return self._failure([i], own)
        return self._failure(rows, error)
