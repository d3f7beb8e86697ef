"""Observations to start imagination from, from one random stream per policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tensordict import TensorDict

from pwm_sdk.calls import checked
from pwm_sdk.checks import seeds as checked_seeds
from pwm_sdk.checks import whole
from pwm_sdk.data.entries import task_index
from pwm_sdk.data.ring import Ring
from pwm_sdk.data.sampler import EpisodeSampler, OwnStream
from pwm_sdk.generators import Generators

__all__ = ["Starts"]


@checked()
class Starts:
    """First observations of the windows of a task, for one policy or P; see `ReplayBuffer.starts`.

    Of a window its first observation is read and the action taken there. What a policy gets depends
    on its task and seed, not on who is beside it. Episodes that join the replay are drawn from the
    next batch on.

    Args:
        sampler: knows where the windows are.
        ring: has the rows.
        tasks: index (or `Task`) of one policy, or of each of P policies.
        count: observations per policy and batch.
        seeds: of each policy's random numbers, one or P.
        device: where batches come out.

    Attributes:
        generator: the streams; their state says where `sample` goes on.

    Raises:
        ValueError: if there are not as many seeds as policies, or fewer than one observation.
    """

    def __init__(
        self,
        sampler: EpisodeSampler,
        ring: Ring,
        tasks: int | Sequence[int],
        count: int,
        seeds: int | Sequence[int],
        device: torch.device,
    ) -> None:
        count = whole(1, count=count)
        tasks = tasks.tolist() if isinstance(tasks, np.ndarray | torch.Tensor) else tasks
        seeds = seeds.tolist() if isinstance(seeds, np.ndarray | torch.Tensor) else seeds
        self._alone = not isinstance(tasks, Sequence)
        self.tasks = [task_index(t) for t in (tasks if isinstance(tasks, Sequence) else [tasks])]
        many = seeds if isinstance(seeds, Sequence) else [seeds]
        if len(many) != len(self.tasks) or isinstance(seeds, Sequence) is self._alone:
            raise ValueError(f"seeds must be given as tasks are ({tasks}), got {seeds}")
        self._sampler, self._ring, self.count, self.device = sampler, ring, count, device
        self._stream = OwnStream(Generators(checked_seeds(seeds=list(many)), "cpu"))

    @property
    def generator(self) -> Generators:
        """The policies' random numbers; a worker of a `DataLoader` has its own."""
        return self._stream.generator

    def sample(self) -> TensorDict:
        """Draw a batch.

        Returns:
            TensorDict `[count]`, or `[P, count]`: observation `[.., O]`, task `[..]` int64, action
            `[.., A]` that was taken there, and real `[.., 1]`, all True.

        Raises:
            ValueError: if a task has no episode in the replay.
        """
        rows, goes_on, _ = self._sampler.draw_starts(self.tasks, self.count, self.generator)
        if self._alone:
            rows, goes_on = rows[0], goes_on[0]
        return self._ring.starts(rows, goes_on).to(self.device)

    def keep(self, members: Sequence[int]) -> None:
        """Go on, in place, for some of the policies alone, in the order given."""
        self.tasks = [self.tasks[i] for i in members]
        self.generator.set_state(self.generator.get_state()[list(members)])
