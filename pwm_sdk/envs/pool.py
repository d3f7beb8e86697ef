"""Steps several single environments in lockstep as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from torchrl.envs import EnvBase

from pwm_sdk.checks import positive, seed, whole
from pwm_sdk.contract.pools import PoolStep
from pwm_sdk.envs.environments import Environments, check_places
from pwm_sdk.envs.member import Limits, Member
from pwm_sdk.envs.opening import is_maker, members_of
from pwm_sdk.envs.workers import Workers

__all__ = ["EnvPool", "PoolStep"]


class EnvPool(Environments):
    """Single environments of any kind with one numpy interface.

    Environments of `make_env` are stepped through the gymnasium environment underneath, which
    spares a TensorDict per step; any other TorchRL environment is stepped as it is. With workers
    the environments live in processes of their own, started once, that step at the same time; what
    comes out is the same to the bit.

    All of them pass one gate. Actions lie in [-1, 1]: they are checked, clipped, scaled to the
    environment's own bounds and handed over in its own dtype. Observations are copied to float32;
    they and rewards must be finite. Messages name the environment, the culprit and the step,
    counted from 0 in each episode.

    Args:
        envs: gymnasium or unbatched TorchRL environments, or functions without arguments (or
            classes) that make them; with workers such functions, which can be pickled, for example
            `functools.partial(make_gym, "mw-reach", seed=0)`. Observations are vectors and actions
            vectors of floats between finite bounds; other spaces are refused with what helps.
        workers: number of processes; 0 steps all environments in this one. A script that starts
            any needs `if __name__ == "__main__":`.
        max_steps: most steps of an episode, more of which are an error; None: any number.
        timeout: most seconds that a step or a reset may take. In this process it is looked at when
            the environment returns; one that never returns is ended in a worker only. None: any
            time.

    Raises:
        ValueError: if there are no environments, one is batched or given twice, spaces do not fit,
            or `workers` are asked for with anything but functions; later if the gate refuses a
            value, and if an environment raises an exception, which is then the cause.
        TypeError: if an environment is of another kind.
        RuntimeError: if an environment cannot be made in its worker, or fails there.
    """

    def __init__(
        self,
        envs: Sequence[gymnasium.Env | EnvBase | Callable[[], Any]],
        workers: int = 0,
        *,
        max_steps: int | None = None,
        timeout: float | None = None,
    ) -> None:
        if isinstance(envs, str) or is_maker(envs) or not isinstance(envs, Iterable):
            raise ValueError(f"envs must be a sequence of environments, got {type(envs).__name__}")
        if not (envs := list(envs)):
            raise ValueError("envs must hold at least one environment, got none")
        workers, max_steps = whole(0, workers=workers), whole(1, max_steps=max_steps)
        positive(timeout=timeout)
        self.max_steps, limits = max_steps, Limits(max_steps, timeout)
        self._members: list[Member] = []
        self._workers: Workers | None = None
        if workers:
            if kinds := [type(env).__name__ for env in envs if not is_maker(env)]:
                raise ValueError(f"envs must be functions to be made in workers, got {kinds[0]}")
            self._workers = Workers(envs, workers, limits)  # pyright: ignore[reportArgumentType]
            self.about = self._workers.about
        else:
            self._members = list(members_of(envs, limits))
            self.about = [member.about for member in self._members]

    def reset_many(
        self, indices: Sequence[int], seeds: Sequence[int | None] | None = None
    ) -> list[np.ndarray]:
        """Start episodes in some environments, at once; returns their observations."""
        given = [None] * len(indices) if seeds is None else [seed(seeds=one) for one in seeds]
        check_places(len(self), indices, "seeds", given)
        if self._workers is not None:
            return self._workers.reset(indices, given)
        return [self._members[i].reset(one) for i, one in zip(indices, given, strict=True)]

    def step_many(
        self, indices: Sequence[int], actions: Sequence[np.ndarray] | np.ndarray
    ) -> list[PoolStep]:
        """Take one action `[A]` in each of some environments, at once."""
        check_places(len(self), indices, "actions", actions)
        if self._workers is not None:
            return self._workers.step(indices, list(actions))
        return [self._members[i].step(a) for i, a in zip(indices, actions, strict=True)]

    def close(self) -> None:
        """Close every environment, and end the workers."""
        if self._workers is not None:
            self._workers.close()
        faults = []
        for member in self._members:
            try:
                member.close()
            except ValueError as error:
                faults.append(error)
        if faults:
            raise faults[0]
