"""N environments of one task as a pool: stepped at once where the task is a simulator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pwm_sdk.contract.models import SimulatorModel
from pwm_sdk.contract.pools import Pool
from pwm_sdk.envs.member import Limits
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.envs.simulated import SimulatorEnv
from pwm_sdk.envs.simulator_pool import SimulatorPool
from pwm_sdk.envs.task_env import TaskEnv

__all__ = ["task_pool"]

_SEEDS = 2**32


def task_pool(
    first: TaskEnv,
    make: Callable[..., TaskEnv],
    count: int,
    seed: int | None = None,
    *,
    workers: int = 0,
    limits: Limits | None = None,
) -> Pool:
    """Return a pool of `count` environments of the task of `first`.

    Args:
        first: made with `seed`.
        make: makes one for a `seed`; with workers it can be pickled.
        count: N; row i has the seed `seed + i`.
        seed: of the first; None: any.
        workers: processes of single environments, or threads of a MuJoCo simulator.
        limits: of episodes and steps.
    """
    limits = Limits() if limits is None else limits
    seeds = None if seed is None else [(int(seed) + i) % _SEEDS for i in range(count)]
    from pwm_sdk.simulators.mujoco import MuJoCoModel

    model = _model_of(first)
    if model is not None:
        if workers and isinstance(model, MuJoCoModel):
            model.bridge.spread(workers)
        return SimulatorPool(
            model,
            count,
            task=first.task,
            seeds=seeds,
            observation_dim=first.observation_space.shape[0],  # pyright: ignore
            action_dim=first.action_space.shape[0],  # pyright: ignore
            limits=limits,
        )
    makers = [partial(make, seed=None if seeds is None else seeds[i]) for i in range(count)]
    if workers:
        first.close()
        return EnvPool(makers, workers, max_steps=limits.max_steps, timeout=limits.timeout)
    envs = [first, *makers[1:]]
    return EnvPool(envs, max_steps=limits.max_steps, timeout=limits.timeout)


def _model_of(env: TaskEnv) -> SimulatorModel | None:
    """Return the simulator that a task shows step by step; None where it shows another thing."""
    alone = type(env.env) is SimulatorEnv and env.task.action_repeat == 1
    return env.env.model if alone else None  # pyright: ignore[reportAttributeAccessIssue]
