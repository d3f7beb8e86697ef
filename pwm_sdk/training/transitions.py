"""Streams of transitions: a policy on observations acts, batches of its steps come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.calls import acts, array, checked, least
from pwm_sdk.checks import whole
from pwm_sdk.contract.agents import Behaviour
from pwm_sdk.contract.pools import Pool
from pwm_sdk.training.border import dtype_of
from pwm_sdk.training.collect import Collector


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
            observation, device=_home(self.policy) if self.device is None else self.device
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
            observation, device=_home(self.act) if self.device is None else self.device
        )
        seen = seen.to(dtype_of(self.act))
        action, self.memory = self.act(seen, self.memory, self.first.to(seen.device))
        self.first = torch.zeros_like(self.first)
        return action.float().cpu().numpy()


def _home(policy: Any) -> torch.device:
    """Return where the networks of a policy, or of a method of an algorithm, are."""
    while isinstance(policy, partial):
        policy = policy.func
    owner = getattr(policy, "__self__", policy)
    if isinstance(device := getattr(owner, "device", None), torch.device):
        return device
    network = owner if isinstance(owner, nn.Module) else getattr(owner, "actor", None)
    parameters = network.parameters() if isinstance(network, nn.Module) else ()
    return next((p.device for p in parameters), torch.device("cpu"))


@checked(steps=least(1))
def transitions(pool: Pool, behaviour: Behaviour, steps: int) -> Iterator[TensorDict]:
    """Step all environments of a pool without end.

    The batches have the entries of a TorchRL collector's, and a step takes a third of its time on
    small tasks, because no TensorDict is made before the batch is whole.

    Args:
        pool: N environments of any kind, from `make_pool` or `EnvPool`; they are reset where an
            episode ends.
        behaviour: acts for all N at once.
        steps: T, steps per environment in a batch.

    Yields:
        TensorDict `[N, T]`: observation, action and, under next, observation (before any reset),
        reward `[1]`, terminated, truncated and done `[1]`.

    Raises:
        ValueError: for fewer than one step, observations of different sizes, and what the pool
            refuses.
    """
    yield from Collector(pool, behaviour).transitions(whole(1, steps=steps))
