"""Streams of transitions: a policy on observations acts, batches of its steps come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.calls import acts, array, checked, has, least
from pwm_sdk.checks import whole
from pwm_sdk.contract.agents import Behaviour
from pwm_sdk.contract.places import device_of, dtype_of
from pwm_sdk.training.border import acted, stacked


@checked(policy=acts, index=least(0), observation=array)
class ObservationBehaviour:
    """A policy on observations, the same in all environments.

    Args:
        policy: maps observations `[N, O]` to actions `[N, A]`, for example an `SAC` (mean actions)
            or its `explore`.
        device: where the policy's tensors live; None: where its networks are.
    """

    def __init__(
        self, policy: Callable[[Tensor], Tensor], device: torch.device | str | None = None
    ) -> None:
        self.policy, self.device = policy, device

    def start(self, index: int) -> None:
        """Do nothing: the policy has no memory."""

    @torch.no_grad()
    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]`."""
        seen = torch.as_tensor(
            observation, device=device_of(self.policy) if self.device is None else self.device
        )
        seen = seen.to(dtype_of(self.policy))
        return self.policy(seen).float().cpu().numpy()


@checked(count=least(1), index=least(0), observation=array)
class RecurrentBehaviour:
    """A policy with a memory, which it loses where an episode begins.

    Args:
        act: maps observations `[N, O]`, a memory (None at first) and `[N]` bool, where an episode
            begins, to actions `[N, A]` and the next memory, for example `DreamerV3.act`.
        count: N, number of environments.
        device: where the policy's tensors live; None: where its networks are.
    """

    def __init__(
        self, act: Callable[..., Any], count: int = 1, device: torch.device | str | None = None
    ) -> None:
        self.act, self.device = act, device
        self.first = torch.ones(count, dtype=torch.bool, device="cpu")
        self.memory: Any = None

    def start(self, index: int) -> None:
        """Note that environment `index` begins an episode."""
        self.first = self.first.clone()  # it may be of `inference_mode`
        self.first[index] = True

    @torch.no_grad()
    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]`."""
        seen = torch.as_tensor(
            observation, device=device_of(self.act) if self.device is None else self.device
        )
        seen = seen.to(dtype_of(self.act))
        action, self.memory = self.act(seen, self.memory, self.first.to(seen.device))
        self.first = torch.zeros_like(self.first)
        return action.float().cpu().numpy()


@checked(pool=has("reset_many", "step_many"), steps=least(1))
def transitions(pool: Any, behaviour: Behaviour, steps: int) -> Iterator[TensorDict]:
    """Step all environments of a pool without end.

    The batches have the entries of a TorchRL collector's, and a step takes a third of its time on
    small tasks, because no TensorDict is made before the batch is whole.

    Args:
        pool: an `EnvPool` of N environments; they are reset where an episode ends.
        behaviour: acts for all N at once.
        steps: T, steps per environment in a batch.

    Yields:
        TensorDict `[N, T]`: observation, action and, under next, observation (before any reset),
        reward `[1]`, terminated, truncated and done `[1]`.

    Raises:
        ValueError: for fewer than one step, observations of different sizes, and what the pool
            refuses.
    """
    steps, count = whole(1, steps=steps), len(pool)
    observation = stacked(pool.reset_many(range(count)))
    for i in range(count):
        behaviour.start(i)
    while True:
        rows = [_step(pool, behaviour, observation) for _ in range(steps)]
        before, action, after, reward, flags = (
            np.stack(part, 1) for part in zip(*rows, strict=True)
        )
        terminated, truncated = flags[..., :1], flags[..., 1:]
        following = {
            keys.OBSERVATION: after,
            keys.REWARD: reward[..., None],
            keys.TERMINATED: terminated,
            keys.TRUNCATED: truncated,
            keys.DONE: terminated | truncated,
        }
        shape = (count, steps)
        yield TensorDict(
            {
                keys.OBSERVATION: torch.from_numpy(before),
                keys.ACTION: torch.from_numpy(action),
                keys.NEXT: TensorDict(
                    {k: torch.from_numpy(v) for k, v in following.items()}, shape
                ),
            },
            shape,
        )


def _step(pool: Any, behaviour: Behaviour, observation: np.ndarray) -> tuple[np.ndarray, ...]:
    """Step every environment once; `observation` [N, O] is moved on in place."""
    before = observation.copy()
    action = acted(behaviour, before)
    after, reward = np.empty_like(before), np.empty(len(before), np.float32)
    flags = np.zeros((len(before), 2), bool)
    ended = []
    for i, step in enumerate(pool.step_many(range(len(before)), action)):
        after[i], reward[i] = step.observation, step.reward
        flags[i] = step.terminated, step.truncated
        observation[i] = step.observation
        if flags[i].any():
            ended.append(i)
    for i, first in zip(ended, pool.reset_many(ended), strict=True):
        observation[i] = first
        behaviour.start(i)
    return before, action, after, reward, flags
