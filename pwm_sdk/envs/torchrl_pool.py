"""A pool as a batched TorchRL environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from pwm_sdk.contract.pools import Pool
from pwm_sdk.keys import (
    ACTION,
    DONE,
    OBSERVATION,
    REWARD,
    SUCCESS,
    TASK,
    TERMINATED,
    TRUNCATED,
)

__all__ = ["TorchRLPoolEnv"]

_RESET = "_reset"  # TorchRL's mask of rows that start an episode
_SEEDS = 2**32


class TorchRLPoolEnv(EnvBase):
    """TorchRL view of a pool of N environments of one task: batch size `[N]`.

    Root and `next` hold `observation` `[N, O]` float32, `task` `[N]` int64, `success` `[N, 1]` bool
    and the done flags `[N, 1]` bool; `next` has `reward` `[N, 1]` float32. Rows start episodes by
    the `"_reset"` mask. `set_seed(s)` lets the next reset of row i seed it with `s + i`.

    Args:
        pool: of environments with observations of one size and a task each.
        observation_dim: O.
        num_tasks: number of task indices in the data, the upper bound of `task`.
        device: where the tensors go.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        observation_dim: int,
        num_tasks: int,
        device: torch.device | str = "cpu",
    ) -> None:
        count, place = len(pool), torch.device(device)
        super().__init__(device=place, batch_size=torch.Size([count]))
        self.pool = pool
        self._rows = list(range(count))
        self._seeds: list[int | None] = [None] * count  # of the next resets
        kind: dict[str, Any] = {"device": place}
        flag = Categorical(2, shape=torch.Size([count, 1]), dtype=torch.bool, **kind)
        index = Categorical(num_tasks, shape=torch.Size([count]), dtype=torch.int64, **kind)
        self.observation_spec = Composite(
            {
                OBSERVATION: Unbounded(
                    torch.Size([count, observation_dim]), dtype=torch.float32, **kind
                ),
                TASK: index,
                SUCCESS: flag,
            },
            shape=(count,),
            **kind,
        )
        self.action_spec = Bounded(
            -1.0, 1.0, torch.Size([count, pool.action_dims[0]]), dtype=torch.float32, **kind
        )
        self.reward_spec = Unbounded(torch.Size([count, 1]), dtype=torch.float32, **kind)
        self.done_spec = Composite(
            {key: flag.clone() for key in (DONE, TERMINATED, TRUNCATED)}, shape=(count,), **kind
        )
        tasks = [0 if task is None else task for task in pool.tasks]
        self._task = torch.tensor(tasks, dtype=torch.int64, device=place)
        self._seen = np.zeros((count, observation_dim), np.float32)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get(_RESET, None)
        rows = self._rows
        if mask is not None:
            rows = torch.nonzero(mask.reshape(len(rows), -1)[:, 0]).flatten().tolist()
        self._seen = self._seen.copy()
        if rows:
            self._seen[rows] = np.stack(self.pool.reset_many(rows, [self._seeds[i] for i in rows]))
        for i in rows:
            self._seeds[i] = None
        return self._shown(np.zeros((len(self._rows), 3), bool))

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get(ACTION).detach().cpu().numpy()
        steps = self.pool.step_many(self._rows, action)
        self._seen = np.stack([step.observation for step in steps])
        flags = np.array([step[2:] for step in steps])
        after = self._shown(flags)
        reward = np.array([[step.reward] for step in steps], np.float32)
        return after.set(REWARD, torch.as_tensor(reward, device=self.device))

    def _shown(self, flags: np.ndarray) -> TensorDict:
        """Lay out the last observations and flags `[N, 3]`: success, terminated, truncated."""
        success, terminated, truncated = torch.as_tensor(flags, device=self.device).split(1, -1)
        return TensorDict(
            {
                OBSERVATION: torch.as_tensor(self._seen, device=self.device),
                TASK: self._task.clone(),
                SUCCESS: success,
                TERMINATED: terminated,
                TRUNCATED: truncated,
                DONE: terminated | truncated,
            },
            self.batch_size,
            device=self.device,
        )

    def _set_seed(self, seed: int | None) -> None:
        self._seeds = [None if seed is None else (seed + i) % _SEEDS for i in self._rows]

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the environments."""
        super().close(raise_if_closed=raise_if_closed)
        self.pool.close()
