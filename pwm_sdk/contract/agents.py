"""What loops and evaluation need of an algorithm, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from tensordict import TensorDictBase
from torch import Tensor


@runtime_checkable
class Behaviour(Protocol):
    """What acts in N environments at once."""

    def start(self, index: int) -> None:
        """Note that environment `index` begins an episode."""
        ...

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]` in [-1, 1] for observations `[N, O]`."""
        ...


@runtime_checkable
class ActingPolicy(Protocol):
    """A policy from observations to actions, with the statistics, tasks and memory that it needs.

    What one evaluates, saves, exports and deploys.
    """

    def act(self, observation: Any, task: Any = None) -> Any:
        """Return actions in the environment's own bounds.

        Args:
            observation: `[O]` or `[N, O]`, an array or a tensor.
            task: index of the task, or `[N]`; None: the policy's own.

        Returns:
            `[A]` or `[N, A]`, of the kind that the observation is of.
        """
        ...

    def reset(self, index: int | None = None) -> None:
        """Forget what was seen by environment `index` of `act`, or by all."""
        ...

    def behaviour(self, tasks: Sequence[int | None]) -> Behaviour:
        """Return what acts in N environments of these tasks, with a memory of its own."""
        ...


@runtime_checkable
class Agent(Protocol):
    """An algorithm with its networks: any loop can train it, any evaluation can run it.

    Attributes:
        updates: number of updates so far.
    """

    updates: int

    def update(self, batch: TensorDictBase) -> Mapping[str, Tensor]:
        """Improve once from a batch; returns detached metrics."""
        ...

    def policy(self) -> ActingPolicy:
        """Return the policy that acts by its mean, which follows later updates."""
        ...

    def explorer(self) -> ActingPolicy:
        """Return the policy that acts to collect data, which follows later updates."""
        ...

    def set_learning_rates(self, factor: float) -> None:
        """Set all learning rates to `factor` times those that they were made with."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        ...


def check_finite(agent: Any) -> None:
    """Let an agent that reads its losses now and then only read them now, if it is one."""
    getattr(agent, "check_finite", lambda: None)()


@runtime_checkable
class Batches(Protocol):
    """Where a loop takes batches from, as a `ReplayBuffer`."""

    def sample(self) -> TensorDictBase:
        """Return the next batch."""
        ...


@runtime_checkable
class Loop(Protocol):
    """Learning in rounds of {improve, collect}, which a `Run` drives, keeps and continues.

    Attributes:
        round: number of rounds so far.
        updates: number of updates so far.
        steps: number of environment steps so far.
    """

    round: int
    updates: int
    steps: int

    def begin(self) -> None:
        """Collect what the first round learns from."""
        ...

    def run_round(self, progress: float) -> Any:
        """Improve, then collect; `progress` in [0, 1] drives schedules. Returns a report."""
        ...

    def policy(self) -> ActingPolicy:
        """Return the policy learned so far."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that rounds change, but for the data."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        ...
