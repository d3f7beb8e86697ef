"""What loops and evaluation need of an algorithm, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.contract.pools import Pool

# task ids as callers give them, one or one per row
Ids: TypeAlias = Tensor | np.ndarray | Sequence[Any] | int | None


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

    What you evaluate, save, export and deploy.
    """

    def act(self, observation: np.ndarray | Tensor, task: Ids = None) -> Any:
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
class TrainableAgent(Protocol):
    """What `fit` needs of an agent.

    Attributes:
        updates: number of updates so far, of gradients; steps of environments are not counted here.
    """

    updates: int

    def update(self, batch: Any) -> Mapping[str, Tensor]:
        """Improve once from a batch; returns detached metrics."""
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


def check_finite(agent: object) -> None:
    """Let an agent that reads its losses now and then only read them now, if it is one."""
    getattr(agent, "check_finite", lambda: None)()


@runtime_checkable
class Agent(TrainableAgent, Protocol):
    """An algorithm with its networks: any loop can train it, any evaluation can run it."""

    def policy(self) -> ActingPolicy:
        """Return the policy that acts by its mean, which follows later updates."""
        ...

    def explorer(self) -> ActingPolicy:
        """Return the policy that acts to collect data, which follows later updates."""
        ...


@runtime_checkable
class DecayingAgent(TrainableAgent, Protocol):
    """An agent that says how far its learning rates fall in a `fit`.

    Attributes:
        decay_floor: share of the learning rates that is left at the end; 1.0 keeps them.
    """

    decay_floor: float


@runtime_checkable
class WatchedAgent(TrainableAgent, Protocol):
    """An agent that reads only now and then whether its losses were finite."""

    def check_finite(self) -> None:
        """Wait for the device; raise ValueError for what was not finite since the last reading."""
        ...


@runtime_checkable
class ConfiguredAgent(Protocol):
    """An agent whose settings are one dataclass.

    Attributes:
        config: the settings.
    """

    config: Any


@runtime_checkable
class PlacedAgent(TrainableAgent, Protocol):
    """An agent whose networks are on one device, where it takes its batches.

    Attributes:
        device: of its networks.
    """

    device: torch.device


@runtime_checkable
class SteppingAgent(Protocol):
    """An agent that counts environment steps; a loop that collects for its replay counts for it.

    Attributes:
        steps: environment steps so far.
    """

    steps: int


@runtime_checkable
class Batches(Protocol):
    """Where a loop takes batches from, as a `ReplayBuffer`."""

    def sample(self) -> Any:
        """Return the next batch, a TensorDict."""
        ...


@runtime_checkable
class SeededBatches(Batches, Protocol):
    """Batches that say where they go on.

    Attributes:
        generator: `get_state()` and `set_state(state)` of their random numbers; None: they have no
            such state.
    """

    generator: Any


@runtime_checkable
class Report(Protocol):
    """What a round did.

    Attributes:
        train_seconds: of updates.
        collect_seconds: of environments.
    """

    train_seconds: float
    collect_seconds: float

    def row(self, names: Sequence[str]) -> dict[str, float]:
        """Return all as numbers by name, for a table; `names` are those of the tasks."""
        ...


@runtime_checkable
class Loop(Protocol):
    """Learning in rounds of {improve, collect}, which a `Run` drives, keeps and continues.

    Attributes:
        round: number of rounds so far.
        updates: number of updates so far.
        steps: number of environment steps so far.
        names: what tables call the environments.
        tasks: what the policy calls the task of each environment; None: it has none.
        test_pool: environments of evaluations, in the same order; None: there are none.
        code: what tells the loop from others, such as the program that makes it.
    """

    round: int
    steps: int
    names: list[str]
    test_pool: Pool | None
    code: str

    @property
    def updates(self) -> int:
        """Number of updates so far."""
        ...

    @property
    def tasks(self) -> Sequence[int | None]:
        """What the policy calls the task of each environment."""
        ...

    def begin(self) -> None:
        """Collect what the first round learns from."""
        ...

    def run_round(self, progress: float) -> Report:
        """Improve and collect; `progress` in [0, 1] drives schedules."""
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

    def save_data(self, path: Path) -> None:
        """Write the data that rounds collect to a folder."""
        ...

    def load_data(self, path: Path) -> None:
        """Read what `save_data` wrote."""
        ...
