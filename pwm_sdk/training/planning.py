"""Planning in environments, one plan per environment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pwm_sdk.calls import array, checked, has, least, one_of
from pwm_sdk.contract.places import device_of
from pwm_sdk.contract.policies import Planner
from pwm_sdk.training.border import task_ids, wide_enough


@checked(
    planner=has(Planner),
    index=least(0),
    action_dim=least(1),
    choice=one_of("mean", "elite", "explore"),
    observation=array,
)
class PlannerBehaviour:
    """A planner that acts in N environments at once and forgets at the start of an episode.

    Args:
        planner: an `MPPI`.
        tasks: task id of each environment.
        choice: how it chooses among the elites, see `MPPI.plan`.
        action_dim: width of the environments' actions, where the model's is larger; None: the
            model's.

    Raises:
        ValueError: for a task that is not known to a model of several.
    """

    def __init__(
        self,
        planner: Planner,
        tasks: Sequence[int | None],
        *,
        choice: str = "mean",
        action_dim: int | None = None,
    ) -> None:
        self.planner, self.choice, self.action_dim = planner, choice, action_dim
        self.device = device_of(planner.model)
        self.tasks = task_ids(tasks, planner.model).to(self.device)
        planner.reset()

    def start(self, index: int) -> None:
        """Forget the plan of environment `index`."""
        self.planner.reset(index)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]` for observations `[N, O]`."""
        seen = wide_enough(observation, self.planner.model, self.device)
        actions = self.planner.plan(seen, self.tasks, choice=self.choice)
        return actions[:, : self.action_dim].float().cpu().numpy()
