"""Steps several single environments in lockstep as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from torchrl.envs import EnvBase

from pwm_sdk.checks import whole
from pwm_sdk.envs.member import PoolStep, about, is_maker, member_of
from pwm_sdk.envs.workers import Workers

__all__ = ["EnvPool", "PoolStep"]


class EnvPool:
    """Single environments of any kind behind one numpy interface.

    Environments of `make_env` are stepped through the gymnasium environment underneath, which
    spares a TensorDict per step; any other TorchRL environment is stepped as it is. With workers
    the environments live in processes of their own, started once, that step at the same time; what
    comes out is the same to the bit.

    Args:
        envs: gymnasium or unbatched TorchRL environments, or functions without arguments that make
            them; with workers such functions, which can be pickled, for example
            `functools.partial(make_gym, "mw-reach", seed=0)`.
        workers: Number of processes; 0 steps all environments in this one. A script that starts
            any needs `if __name__ == "__main__":`.

    Raises:
        ValueError: For no environments, a batched one, or with workers anything but functions.
        TypeError: For an environment of another kind.
        RuntimeError: If an environment cannot be made in its worker, or fails there.
    """

    def __init__(
        self, envs: Sequence[gymnasium.Env | EnvBase | Callable[[], Any]], workers: int = 0
    ) -> None:
        if not envs:
            raise ValueError("envs must hold at least one environment, got none")
        whole(0, workers=workers)
        self._members, self._workers = [], None
        if workers:
            if kinds := [type(env).__name__ for env in envs if not is_maker(env)]:
                raise ValueError(f"envs must be functions to be made in workers, got {kinds[0]}")
            self._workers = Workers(envs, workers)  # pyright: ignore[reportArgumentType]
            self._about = self._workers.about
        else:
            self._members = [member_of(env) for env in envs]
            self._about = [about(member.env) for member in self._members]

    def __len__(self) -> int:
        return len(self._about)

    @property
    def tasks(self) -> list[int]:
        """Index of each environment's task, 0 where it has none."""
        return [known.task or 0 for known in self._about]

    @property
    def action_dims(self) -> list[int | None]:
        """Size of each environment's actions, None where they are single numbers."""
        return [known.action_dim for known in self._about]

    def reset(self, index: int, *, seed: int | None = None) -> np.ndarray:
        """Start an episode in environment `index`; returns the observation [O] float32."""
        return self.reset_many([index], [seed])[0]

    def step(self, index: int, action: np.ndarray) -> PoolStep:
        """Take `action` [A] in environment `index`."""
        return self.step_many([index], [action])[0]

    def reset_many(
        self, indices: Sequence[int], seeds: Sequence[int | None] | None = None
    ) -> list[np.ndarray]:
        """Start episodes in some environments, at once; returns their observations."""
        seeds = [None] * len(indices) if seeds is None else seeds
        if self._workers is not None:
            return self._workers.reset(indices, seeds)
        return [self._members[i].reset(seed) for i, seed in zip(indices, seeds, strict=True)]

    def step_many(
        self, indices: Sequence[int], actions: Sequence[np.ndarray] | np.ndarray
    ) -> list[PoolStep]:
        """Take one action [A] in each of some environments, at once."""
        if self._workers is not None:
            return self._workers.step(indices, list(actions))
        return [self._members[i].step(a) for i, a in zip(indices, actions, strict=True)]

    def close(self) -> None:
        """Close every environment, and end the workers."""
        if self._workers is not None:
            self._workers.close()
        for member in self._members:
            member.env.close()
