"""Makes a pool of whatever steps environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeGuard

import gymnasium
from gymnasium.vector import VectorEnv
from torchrl.envs import EnvBase

from pwm_sdk.calls import anywhere, checked, least
from pwm_sdk.checks import positive
from pwm_sdk.contract.models import SimulatorModel
from pwm_sdk.contract.pools import Pool
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.envs.member import Limits
from pwm_sdk.envs.opening import is_maker
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.envs.simulator_pool import SimulatorPool
from pwm_sdk.envs.task_pool import task_pool
from pwm_sdk.envs.tensordict_pool import TensorDictPool
from pwm_sdk.envs.torchrl_pool import TorchRLPoolEnv
from pwm_sdk.envs.vector_pool import VectorPool
from pwm_sdk.tasks import MT80, Task, TaskSet

__all__ = ["make_pool", "makes"]

Single = gymnasium.Env | EnvBase | Callable[[], Any] | str | Task


@checked(envs=anywhere, batch=least(1), workers=least(0), max_steps=least(1), timeout=positive)
def make_pool(
    envs: Single | VectorEnv | SimulatorModel | Pool | Sequence[Single],
    batch: int | None = None,
    *,
    seed: int | None = None,
    padded: bool = False,
    tasks: TaskSet = MT80,
    workers: int = 0,
    max_steps: int | None = None,
    timeout: float | None = None,
) -> Pool:
    """Return a pool of environments of any kind, which all that collect and evaluate take.

    | given | the pool |
    |---|---|
    | name of a task, or a `Task` | N of its environments; of a simulator, stepped at once |
    | a `SimulatorModel` | N states stepped at once |
    | a `gymnasium.vector.VectorEnv` of any autoreset mode | its environments |
    | a TorchRL environment of batch size `[N]` | its rows, started by `"_reset"` |
    | a function or class that makes an environment | N environments made by it |
    | a sequence of names, tasks, environments and functions | one environment each, an `EnvPool` |
    | a gymnasium or unbatched TorchRL environment, or a pool | that one |

    Rows of a simulator start as single environments of their seeds do. A vector environment, or a
    TorchRL one, steps all rows at once: where only some are stepped, the others lose their episode.

    Args:
        envs: see the table.
        batch: N; None: 1. Given for tasks, simulators and functions only.
        seed: of row 0, in [0, 2**32); row i has `seed + i`. For tasks and simulators only.
        padded: whether a task's observations and actions have the padded sizes of `tasks`.
        tasks: the task set of the data and the model.
        workers: processes of single environments (see `EnvPool`), or threads of the MuJoCo
            simulator of a task; 0: all in this process.
        max_steps: most steps of an episode, more of which are an error; None: any number. A pool,
            also one that `make_env` has wrapped, keeps its own.
        timeout: most seconds that a step or a reset may take; None: any time. As `max_steps`.

    Raises:
        ValueError: if a task is unknown, spaces do not fit, rows of a batched environment cannot be
            reset alone, or `envs` cannot take a setting; later as `EnvPool`.
    """
    count, limits = batch or 1, Limits(max_steps, timeout)
    made = partial(make_gym, padded=padded, tasks=tasks)
    if isinstance(envs, str | Task):
        make = partial(made, envs)
        return task_pool(make(seed=seed), make, count, seed, workers=workers, limits=limits)
    if _is_simulator(envs):
        _without(envs, workers=workers)
        seeds = None if seed is None else [(seed + i) % 2**32 for i in range(count)]
        return SimulatorPool(envs, count, seeds=seeds, limits=limits)
    if is_maker(envs):
        _without(envs, seed=seed)
        return _of_singles([envs] * count, workers, limits)
    if isinstance(envs, Sequence):
        _without(envs, batch=batch)
        return _of_singles(_named(envs, made, seed), workers, limits)
    _without(envs, batch=batch, seed=seed, workers=workers)
    return _as_it_is(envs, limits)


def _as_it_is(envs: object, limits: Limits) -> Pool:
    """Return a pool of what has its own size."""
    if isinstance(envs, TorchRLPoolEnv):
        return envs.pool
    if isinstance(envs, VectorEnv):
        return VectorPool(envs, limits)
    if isinstance(envs, EnvBase):
        alone = not envs.batch_size
        return _of_singles([envs], 0, limits) if alone else TensorDictPool(envs, limits)
    if isinstance(envs, Pool):
        return envs
    return _of_singles([envs], 0, limits)


def makes(envs: object) -> bool:
    """Tell whether `make_pool` makes all environments of `envs` itself: nobody else needs them."""
    given = envs if isinstance(envs, Sequence) and not isinstance(envs, str) else [envs]
    return all(isinstance(env, str | Task) or is_maker(env) for env in given)


def _is_simulator(envs: object) -> TypeGuard[SimulatorModel]:
    foreign = isinstance(envs, gymnasium.Env | EnvBase | VectorEnv | type)
    return not foreign and isinstance(envs, SimulatorModel)


def _of_singles(envs: Sequence[Any], workers: int, limits: Limits) -> EnvPool:
    return EnvPool(envs, workers, max_steps=limits.max_steps, timeout=limits.timeout)


def _named(envs: Sequence[Any], make: Callable[..., Any], seed: int | None) -> list[Any]:
    """Let names and tasks of a sequence be made with seeds of their own."""
    tasks = [isinstance(env, str | Task) for env in envs]
    if not all(tasks):
        _without(envs, seed=seed)
    seeds = [None if seed is None else (seed + i) % 2**32 for i in range(len(envs))]
    return [
        partial(make, env, seed=one) if named else env
        for env, one, named in zip(envs, seeds, tasks, strict=True)
    ]


def _without(envs: object, **settings: object) -> None:
    """Raise ValueError for settings that are given to what cannot take them."""
    for name, value in settings.items():
        if value:
            raise ValueError(
                f"{name} must be left out for {type(envs).__name__}, which has its own, got {value}"
            )
