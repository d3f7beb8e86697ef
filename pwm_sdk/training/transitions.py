"""Streams of transitions: a policy on observations acts, batches of its steps come out."""

from __future__ import annotations

from collections.abc import Iterator

from tensordict import TensorDict

from pwm_sdk.calls import checked, least
from pwm_sdk.checks import whole
from pwm_sdk.contract.agents import Behaviour
from pwm_sdk.contract.pools import Pool
from pwm_sdk.training.collect import Collector


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
        ValueError: if there is less than one step, observations differ in size, or the pool refuses
            a call.
    """
    yield from Collector(pool, behaviour).transitions(whole(1, steps=steps))
