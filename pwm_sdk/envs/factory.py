"""Makes the environment of a task by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium

from pwm_sdk.checks import file_name, flag, single, whole
from pwm_sdk.envs.dmcontrol import DMControlEnv
from pwm_sdk.envs.engines import MissingSimulatorError
from pwm_sdk.envs.metaworld import MetaWorldEnv
from pwm_sdk.envs.task_env import TaskEnv
from pwm_sdk.tasks import BUILT_IN, FIRST_OWN_INDEX, MT80, Task, TaskSet

if TYPE_CHECKING:
    import torch
    from torchrl.envs import EnvBase

__all__ = ["make_env", "make_gym", "register_task"]


def _simulator(name: str) -> gymnasium.Env:
    from pwm_sdk.envs.simulated import SimulatorEnv  # keeps torch out of numpy-only workers
    from pwm_sdk.simulators.suite import make_simulator

    return SimulatorEnv(make_simulator(name, threads=1))


_SUITES: dict[str, Callable[[str], gymnasium.Env]] = {
    "dmcontrol": DMControlEnv,
    "metaworld": lambda name: MetaWorldEnv(name.removeprefix("mw-")),
    "simulator": _simulator,
    "gymnasium": lambda name: gymnasium.make(name),
}
_VERSION = re.compile(r"-v\d+$")  # how the ids of gymnasium's environments end
_REGISTERED: dict[str, tuple[Task, Callable[[], gymnasium.Env]]] = {}


def make_env(
    task: str | Task,
    *,
    seed: int | None = None,
    padded: bool = False,
    tasks: TaskSet = MT80,
    device: torch.device | str = "cpu",
    batch: int | None = None,
) -> EnvBase:
    """The environment of a task for TorchRL.

    Args:
        task: name of a task of `tasks` (with MT80 also of `SINGLE_TASKS`), of a registered one or
            of an environment of gymnasium, such as `"Pendulum-v1"`; or a task itself.
        seed: seed of the episode sequence, in [0, 2**32); `reset(seed=)` and `set_seed` renew it.
        padded: whether observations and actions have the padded sizes of `tasks`.
        tasks: the task set of the data and the model.
        device: where the tensors go; the simulation stays on the CPU.
        batch: N, for an environment of batch size `[N]` whose rows start episodes by TorchRL's
            `"_reset"` mask: a simulator steps N states at once, other environments step in
            lockstep. Row i has the seed `seed + i`. None: one environment, without batch size.

    Returns:
        An environment with `observation` `[O]` float32, `action` `[A]` float32 in [-1, 1] and
        `task` `[]` int64; under `next` also `reward` `[1]` float32, `success` `[1]` bool and the
        done flags `[1]`.
        The seed is that of the environment: random actions, such as those of `rollout` without a
        policy, come from torch's global stream, which `torch.manual_seed` starts again.

    Raises:
        ValueError: if the task is unknown (the message has the nearest names), or the seed or batch
            is out of range.
        MissingSimulatorError: if the simulator is not installed.
    """
    from pwm_sdk.calls.rules import device as check_device
    from pwm_sdk.envs.torchrl_env import TorchRLTaskEnv  # keeps torch out of numpy-only workers

    check_device(device=device)
    if batch is not None:
        single(batch=batch)
    count = whole(1, batch=batch)
    env = make_gym(task, seed=seed, padded=padded, tasks=tasks)
    num_tasks = 1 + max(env.task.index, *(member.index for member in tasks))
    if count is None:
        return TorchRLTaskEnv(env, num_tasks=num_tasks, device=device)
    from pwm_sdk.envs.task_pool import task_pool
    from pwm_sdk.envs.torchrl_pool import TorchRLPoolEnv

    size: Any = env.observation_space.shape
    pool = task_pool(env, partial(make_gym, task, padded=padded, tasks=tasks), count, seed)
    return TorchRLPoolEnv(pool, observation_dim=size[0], num_tasks=num_tasks, device=device)


def make_gym(
    task: str | Task,
    *,
    seed: int | None = None,
    padded: bool = False,
    tasks: TaskSet = MT80,
) -> TaskEnv:
    """The environment of a task for gymnasium, in numpy; arguments and errors as in `make_env`.

    Returns:
        An environment whose `info["success"]` is a bool array `[1]`. With a seed, the sequence of
        its episodes is the same to the bit in every process.
    """
    flag(padded=padded)
    task, build = _find(task, tasks)
    return TaskEnv(
        build(),
        task,
        observation_dim=tasks.observation_dim if padded else None,
        action_dim=tasks.action_dim if padded else None,
        seed=seed,
    )


def register_task(task: Task, factory: Callable[[], gymnasium.Env]) -> Task:
    """Let `make_env` and `make_gym` make your own gymnasium environment.

    Registering a name again replaces its environment. The registry is that of the process: code
    that starts worker processes must register there too, for example in a module they import.

    Args:
        task: its name and sizes. With index -1 it gets the first free index from 200 on.
        factory: makes the environment; seeds arrive through its `reset(seed=)`.

    Returns:
        The task with its index.

    Raises:
        ValueError: if a built-in task or another registered one has the name or index, the name is
            a path, or the factory is no function.
    """
    if not isinstance(task, Task):
        raise ValueError(f"task must be a Task, got {task!r}")
    if not callable(factory) or isinstance(factory, gymnasium.Env):
        raise ValueError(f"factory must be a function that makes an environment, got {factory!r}")
    file_name(name=task.name)  # results of a task have files of its name
    if task.name in BUILT_IN:
        raise ValueError(f"name must not be one of the built-in tasks, got {task.name!r}")
    others = {other.index for other, _ in _REGISTERED.values() if other.name != task.name}
    if task.index == -1:
        known = _REGISTERED.get(task.name)
        index = known[0].index if known else max({FIRST_OWN_INDEX - 1, *others}) + 1
        task = replace(task, index=index)
    if task.index in BUILT_IN or task.index in others:
        raise ValueError(f"index must not be taken by another task, got {task.index}")
    _REGISTERED[task.name] = task, factory
    return task


def _of_gymnasium(name: str) -> tuple[Task, Callable[[], gymnasium.Env]]:
    """Register an environment of gymnasium's registry as a task with the sizes that it has."""
    if name not in gymnasium.registry:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3)
        raise ValueError(
            f"task must be a known name, got {name!r}; nearest of gymnasium's: "
            f"{', '.join(near) or 'none'}"
        )
    factory = partial(gymnasium.make, name)
    try:
        task = Task.from_env(factory, name, suite="gymnasium")
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingSimulatorError(f"{name} needs more than gymnasium: {error}") from error
    except ModuleNotFoundError as error:  # its robots import imageio even where nothing is drawn
        raise MissingSimulatorError(
            f"{name} needs more than gymnasium: {error}; extras of gymnasium bring it, as "
            'pip install "gymnasium[mujoco]" does for its robots'
        ) from error
    return register_task(task, factory), factory


def _find(task: str | Task, tasks: TaskSet) -> tuple[Task, Callable[[], gymnasium.Env]]:
    if not isinstance(task, str | Task):
        raise ValueError(f"task must be a name or a Task, got {task!r}")
    if not isinstance(tasks, TaskSet):
        raise ValueError(f"tasks must be a TaskSet, got {tasks!r}")
    name = task.name if isinstance(task, Task) else task
    if name in _REGISTERED:
        registered, factory = _REGISTERED[name]
        return (task if isinstance(task, Task) else registered), factory
    known = BUILT_IN if tasks is MT80 else tasks
    if isinstance(task, str) and task not in known.names and _VERSION.search(task):
        return _of_gymnasium(task)
    found = task if isinstance(task, Task) else known[task]
    if found.suite not in _SUITES:
        raise ValueError(f"task must be registered with register_task, got {found.name!r}")
    return found, lambda: _SUITES[found.suite](found.name)
