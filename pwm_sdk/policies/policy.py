"""The policy from observations to actions: what one evaluates, saves, exports and deploys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.envs import EnvBase

from pwm_sdk.calls import anywhere, checked, least, one_of
from pwm_sdk.checks import in_unit
from pwm_sdk.contract.agents import Ids
from pwm_sdk.contract.memory import has_memory
from pwm_sdk.contract.models import Encoder, num_tasks
from pwm_sdk.contract.policies import (
    Planner,
    Policy,
    RecurrentPolicy,
    TaskPart,
    is_planner,
    is_recurrent,
    member_of,
    population_of,
)
from pwm_sdk.policies.behaviours import LatentBehaviour, PlannerBehaviour, RecurrentBehaviour
from pwm_sdk.policies.bounds import Bounds, Edge, bounds_of
from pwm_sdk.policies.export import Program, export_program
from pwm_sdk.policies.files import read_policy, save_policy
from pwm_sdk.policies.tensordict_policy import TensorDictPolicy

Acting = LatentBehaviour | PlannerBehaviour | RecurrentBehaviour


@checked(
    choice=one_of("mean", "elite", "explore"),
    correlation=in_unit,
    index=least(0),
    action_dim=least(1),
    observation_dim=least(1),
    observation=anywhere,
    task=anywhere,
)
class ObservationPolicy:
    """A policy from observations to actions, of one environment or of many: an `ActingPolicy`.

    It shares its networks with whoever trains them, and so follows their updates. An actor of P
    policies acts for P environments side by side, one for each; `member(i)` is one of them alone.

    Args:
        actor: maps what it sees `[.., D]` to actions `[.., A]` in [-1, 1], for example a
            `FirstOrderActor`, a `PolicyPrior` or any module; or a planner such as `MPPI`; or a
            `RecurrentPolicy`, which remembers.
        model: a `LatentModel`, whose latents the actor sees; None: it sees observations. A planner
            has its own.
        tasks: task id for a model of several tasks, or those of the P policies; None: they come
            with each call.
        choice: how a planner chooses among the elites, see `MPPI.plan`.
        rng: source of noise with which the actor explores; None: mean actions.
        correlation: of the noise from step to step, see `LatentBehaviour`.
        low: smallest action of the environment, a number or `[A]`.
        high: largest one.

    Raises:
        ValueError: if bounds or tasks do not fit.
    """

    def __init__(
        self,
        actor: Policy | TaskPart | Planner | RecurrentPolicy,
        *,
        model: Encoder | None = None,
        tasks: Sequence[int] | int | None = None,
        choice: str = "mean",
        rng: np.random.Generator | None = None,
        correlation: float = 0.0,
        low: Edge = -1.0,
        high: Edge = 1.0,
    ) -> None:
        self.actor: Any = actor
        self.model: Any = self.actor.model if is_planner(actor) else model
        self.population, self.tasks = population_of(actor), tasks
        if isinstance(tasks, Sequence) and len(tasks) != (self.population or 1):
            raise ValueError(
                f"tasks must have one entry per policy ({self.population or 1}), got {list(tasks)}"
            )
        self.choice, self.rng, self.correlation = choice, rng, correlation
        self.bounds = Bounds(low, high)
        self._acting: Acting | None = None  # what `act` keeps of each environment

    def act(
        self, observation: np.ndarray | Tensor | Sequence[Any], task: Ids = None
    ) -> np.ndarray | Tensor:
        """Return actions in the environment's own units, between `low` and `high`.

        What a planner or a policy with memory keeps of each environment stays from call to call,
        until `reset`.

        Args:
            observation: `[O]`, or `[N, O]` of N environments.
            task: task id, or `[N]`; None: the policy's own.

        Returns:
            `[A]` or `[N, A]`: a tensor on the same device for a tensor, else an array.

        Raises:
            ValueError: if observations or tasks do not fit, or if the policy remembers and the
                number of environments changes without a `reset`.
        """
        tensor = isinstance(observation, Tensor)
        seen = observation if tensor else torch.as_tensor(observation, device="cpu")
        if seen.dim() not in (1, 2):
            raise ValueError(f"observation must have shape [O] or [N, O], got {list(seen.shape)}")
        rows = seen if seen.dim() == 2 else seen.unsqueeze(0)
        action = self._acted(rows, _ids(task, len(rows)))
        with torch.no_grad():
            action = self.bounds.scaled(action, cut=num_tasks(self.model) > 0)
        action = action if seen.dim() == 2 else action[0]
        return action.to(seen.device) if tensor else action.float().cpu().numpy()

    @property
    def remembers(self) -> bool:
        """Whether actions depend on what was seen before: it plans, it or its model remembers."""
        seen = has_memory(self.model)
        return seen or is_planner(self.actor) or is_recurrent(self.actor)

    def reset(self, index: int | None = None) -> None:
        """Forget what `act` keeps of environment `index`, or of all."""
        if index is None:
            self._acting = None
        elif self._acting is not None:
            self._acting.start(index)

    def behaviour(
        self, tasks: Sequence[int | None], *, action_dim: int | None = None
    ) -> LatentBehaviour | PlannerBehaviour | RecurrentBehaviour:
        """Return what acts in N environments in [-1, 1], with a memory of its own.

        Args:
            tasks: task id of each environment; None: the policy's own.
            action_dim: width of the environments' actions, where that of a planner's model is
                larger; None: the model's.

        Raises:
            ValueError: if the numbers of policies and environments differ, or a model of several
                tasks does not know a task.
        """
        ids = self._tasks(tasks)
        if is_planner(self.actor):
            return PlannerBehaviour(self.actor, ids, choice=self.choice, action_dim=action_dim)
        if is_recurrent(self.actor):
            return RecurrentBehaviour(self.actor, ids)
        return LatentBehaviour(self.model, [self.actor], ids, self.rng, self.correlation)

    def bounded(self, low: Edge, high: Edge) -> Self:
        """Return the same policy for actions between other bounds, numbers or `[A]` each."""
        return self._with(low=low, high=high)

    def for_env(self, env: gymnasium.Env | EnvBase) -> Self:
        """Return the same policy for the bounds of an environment's actions."""
        low, high = bounds_of(env)
        return self._with(low=low, high=high)

    def for_tasks(self, tasks: Sequence[int] | int) -> Self:
        """Return the same policy for a task, or for a task for each of P policies."""
        return self._with(tasks=tasks)

    def member(self, index: int) -> Self:
        """Return policy `index` of a population alone, with copied weights."""
        tasks = self.tasks[index] if isinstance(self.tasks, Sequence) else self.tasks
        return self._with(actor=member_of(self.actor, index), tasks=tasks)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write networks, tasks and bounds to one file, atomically; nothing in it runs code.

        Raises:
            ValueError: if the policy plans, remembers or explores, and so is more than its
                networks, or is no module.
            OSError: if the file cannot be written.
        """
        self._plain("saved")
        settings = {
            "tasks": self.tasks if isinstance(self.tasks, int | None) else list(self.tasks),
            "low": self.bounds.low.tolist(),
            "high": self.bounds.high.tolist(),
        }
        save_policy(path, {"actor": self.actor, "model": self.model}, settings)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        actor: nn.Module | None = None,
        model: nn.Module | None = None,
    ) -> Self:
        """Build a policy from a file of `save`, on the CPU.

        Networks of this package, and `nn.Sequential` of plain layers, are built from what the file
        says of them. A module of your own is handed over and gets the file's weights.

        Args:
            path: the file.
            actor: an actor of your own.
            model: a model of your own.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged, of another kind or a newer version, if weights do not fit,
                or if a part must be given.
        """
        found: Any = read_policy(path, {"actor": actor, "model": model})
        parts, settings = found
        return cls(parts["actor"], model=parts["model"], **settings)

    def export(self, path: str | os.PathLike[str], *, observation_dim: int | None = None) -> None:
        """Write what `act` does as a program that needs no `pwm_sdk`, for any number of rows.

        Its inputs are observation `[N, O]`, as wide as the networks', and for a model of tasks
        task `[N]`, unless the policy has one; its output is action `[N, A]` between the bounds.

        Args:
            path: ends in `.pt2`, for `torch.export.load`, or in `.onnx`, which needs the extra
                `export`.
            observation_dim: O; None: as the networks say.

        Raises:
            ValueError: if the policy plans, remembers or explores, is a population (export a
                `member`), or its networks do not say how wide observations are.
            ImportError: if packages for ONNX are missing.
        """
        self._plain("exported")
        if self.population is not None:
            raise ValueError(
                f"policy must be one to be exported, got a population of {self.population}: export "
                "its member(i)"
            )
        task = self.tasks[0] if isinstance(self.tasks, Sequence) else self.tasks
        export_program(path, Program(self.actor, self.model, self.bounds, task), observation_dim)

    def tensordict_module(self) -> TensorDictModuleBase:
        """Return the same policy as a module for TorchRL, with a memory of its own.

        It reads observation, and task where the model has tasks and the policy none, and writes
        action, for `env.rollout` and collectors. One that plans or remembers needs the entry of
        TorchRL's `InitTracker`.
        """
        return TensorDictPolicy(self._with())

    @property
    def is_plain(self) -> bool:
        """Whether the policy is its networks alone: one that can be saved."""
        return not self._more()

    def _more(self) -> list[str]:
        """What the policy does that its networks alone do not."""
        more = {
            "plans": is_planner(self.actor),
            "remembers": self.remembers,
            "explores": self.rng is not None,
        }
        return [what for what, so in more.items() if so]

    def _plain(self, done: str) -> None:
        """Raise ValueError for a policy that is more than its networks."""
        if found := self._more():
            raise ValueError(
                f"policy must be its networks alone to be {done}, got one that {found[0]}"
            )

    def _with(self, **changed: object) -> Self:
        """Build the same policy but for some arguments, with nothing seen so far."""
        same: dict[str, Any] = {
            "actor": self.actor,
            "model": None if is_planner(self.actor) else self.model,
            "tasks": self.tasks,
            "choice": self.choice,
            "rng": self.rng,
            "correlation": self.correlation,
            "low": self.bounds.low,
            "high": self.bounds.high,
            **changed,
        }
        return type(self)(**same)

    def _acted(self, rows: Tensor, tasks: list[Any]) -> Tensor:
        """Return actions `[N, A]` in [-1, 1], going on with what was kept."""
        acting = self._acting
        if acting is not None and len(acting.tasks) != len(rows):
            if self.remembers:
                raise ValueError(
                    f"observation must have {len(acting.tasks)} rows, as before; call reset() for "
                    f"other environments, got {len(rows)}"
                )
            acting = None
        if acting is None:
            self._acting = acting = self.behaviour(tasks)
            for i in range(len(rows)):
                acting.start(i)
        else:
            acting.set_tasks(self._tasks(tasks))
        return acting.actions(rows)

    def _tasks(self, tasks: Sequence[int | None]) -> list[int | None]:
        """Put the policy's own tasks where none is given."""
        several = isinstance(self.tasks, Sequence)
        own: Any = self.tasks if several else [self.tasks] * len(tasks)
        if len(own) != len(tasks):
            raise ValueError(f"tasks must have one entry per policy ({len(own)}), got {len(tasks)}")
        return [mine if task is None else task for mine, task in zip(own, tasks, strict=True)]


def _ids(task: Ids, count: int) -> list[Any]:
    """Return one task for each of N environments."""
    if isinstance(task, Tensor | np.ndarray):
        task = task.tolist()
    ids = list(task) if isinstance(task, Sequence) else [task] * count
    if len(ids) != count:
        raise ValueError(f"task must be one id or have shape [{count}], got {ids}")
    return ids
