"""A task's gymnasium environment as a TorchRL environment."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import Categorical, Composite
from torchrl.envs import GymWrapper, default_info_dict_reader

from pwm_sdk.envs.task_env import TaskEnv
from pwm_sdk.keys import SUCCESS, TASK

__all__ = ["TorchRLTaskEnv"]


class TorchRLTaskEnv(GymWrapper):
    """TorchRL view of a `TaskEnv`: a `GymWrapper` that adds the task's index and the success.

    Root and `next` hold `observation` `[O]` float32, `task` `[]` int64, `success` `[1]` bool and
    the done flags `[1]` bool; `next` has `reward` `[1]` float32. `set_seed(s)` makes the next reset
    the first episode of stream `s`.

    Args:
        env: the environment to view.
        num_tasks: number of task indices in the data, the upper bound of `task`.
        device: where the tensors go.
        **options: handed to `GymWrapper`.
    """

    def __init__(
        self,
        env: TaskEnv,
        *,
        num_tasks: int,
        device: torch.device | str = "cpu",
        **options: object,
    ) -> None:
        place, more = torch.device(device), dict[str, Any](options)
        with _default(place):
            super().__init__(env=env, device=place, **more)
        flag = Categorical(2, shape=torch.Size([1]), dtype=torch.bool, device=self.device)
        self.set_info_dict_reader(
            default_info_dict_reader([SUCCESS], spec=Composite({SUCCESS: flag}))
        )
        # Set by hand: a Discrete space in the gymnasium observation would turn into a one-hot.
        self.observation_spec[TASK] = Categorical(
            num_tasks, shape=torch.Size([]), dtype=torch.int64, device=self.device
        )
        self._task_index = torch.tensor(env.task.index, device=self.device)

    @property
    def gym_env(self) -> TaskEnv:
        """The gymnasium environment underneath."""
        return self._env

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        with _default(self.device):
            return super()._step(tensordict).set(TASK, self._task_index.clone())

    def _reset(self, tensordict: TensorDictBase | None = None, **options: object) -> TensorDictBase:
        with _default(self.device):
            return super()._reset(tensordict, **options).set(TASK, self._task_index.clone())

    def _set_seed(self, seed: int | None) -> None:
        self.gym_env.seed_next_reset(seed)


def _default(device: torch.device | None) -> AbstractContextManager[Any]:
    """Let torch put tensors on a device, where its default is another: TorchRL relies on that."""
    return nullcontext() if device is None or torch.get_default_device() == device else device
