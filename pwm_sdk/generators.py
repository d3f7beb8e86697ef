"""Sources of random numbers: an algorithm's own, one per policy, and the states of all in use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.calls import checked

__all__ = [
    "Generators",
    "drawing_from",
    "following",
    "own_generator",
    "random_state",
    "restore_generator",
    "set_random_state",
]


def own_generator(
    device: torch.device | str,
    generator: torch.Generator | None = None,
    *,
    seeded_by: torch.Generator | None = None,
) -> torch.Generator:
    """Return the source of an algorithm's random numbers on the device of its networks.

    Args:
        device: where the numbers are drawn.
        generator: the caller's; None: a new one.
        seeded_by: where the seed of a new one is drawn; None: from torch's global generator of the
            CPU, so that `torch.manual_seed` decides on it.

    Returns:
        `generator`, or the new one. For a device without generators (`meta`) it is on the CPU.

    Raises:
        ValueError: if the generator is on another device.
    """
    device = _place(device)
    if generator is None:
        return _seeded(device, torch.default_generator if seeded_by is None else seeded_by)
    if generator.device != device and device.type != "meta":
        raise ValueError(
            f"generator must be on the networks' device {device}, got one on {generator.device}"
        )
    return generator


def following(generator: torch.Generator, device: torch.device | str) -> torch.Generator:
    """Return `generator`, or one on `device` that it seeds, where networks have moved."""
    device = _place(device)
    if generator.device == device or device.type == "meta":
        return generator
    return _seeded(device, generator)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Let whatever draws from torch's global stream on a device draw from `generator` instead.

    For code that takes no generator, such as dropout and TorchRL's losses. The global stream goes
    on afterwards as if nothing had been drawn.
    """
    if any(generator is one for one in (torch.default_generator, *torch.cuda.default_generators)):
        yield
        return
    device = generator.device
    before = _state(device)
    _set_state(device, generator.get_state())
    try:
        yield
    finally:
        generator.set_state(_state(device))
        _set_state(device, before)


def restore_generator(generator: torch.Generator, state: Tensor | None) -> None:
    """Let a generator go on where a state was taken.

    Args:
        generator: an algorithm's.
        state: what its `get_state` returned. One of another kind of device fits no generator here:
            what is drawn then follows from it, but is not what would have been drawn there. None,
            of a file that was written before algorithms had a generator: it is left as it is.
    """
    if state is None:
        return
    state = state.cpu()
    if state.shape == generator.get_state().shape:
        generator.set_state(state)
    else:
        generator.manual_seed(int.from_bytes(hashlib.sha256(state.numpy().tobytes()).digest()[:7]))


def numpy_rng(generator: torch.Generator, *counts: int) -> np.random.Generator:
    """Return numpy's numbers that follow from the seed of a generator and from counts.

    Nothing is drawn from it.
    """
    return np.random.default_rng([generator.initial_seed() % 2**63, *counts])


def random_state() -> dict[str, Any]:
    """Return the states of torch's global generators: of the CPU, and of every GPU in use."""
    states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": list(states)}


def set_random_state(state: Mapping[str, Any] | Tensor) -> None:
    """Let torch's global generators go on where `random_state` was called.

    Args:
        state: what it returned, or the state of the CPU's generator alone. States of GPUs that
            this machine lacks are left out.
    """
    if isinstance(state, Tensor):
        state = {"cpu": state, "cuda": []}
    torch.set_rng_state(state["cpu"].cpu())
    if torch.cuda.is_available():
        for device, own in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(own.cpu(), device)


def _place(device: torch.device | str) -> torch.device:
    """Return a device with the index that tensors on it have."""
    return torch.empty(0, device=device).device


def _seeded(device: torch.device, source: torch.Generator) -> torch.Generator:
    """Return a generator on `device` whose seed is drawn from another one."""
    seed = torch.randint(2**63 - 1, (), generator=source, device=source.device)
    where = torch.device("cpu") if device.type == "meta" else device
    return torch.Generator(where).manual_seed(int(seed))


def _state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    module = torch.get_device_module(device.type)
    return module.get_rng_state(*_where(device))


def _set_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device.type).set_rng_state(state, *_where(device))


def _where(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)  # of which there is one


@checked()
class Generators:
    """P sources of random numbers with the interface of one `torch.Generator`.

    What a policy draws depends on its own seed and its own draws, not on the other policies.

    Args:
        seeds: one per policy, at least one.
        device: where the numbers are drawn; for `meta` the generators are on the CPU.

    Raises:
        ValueError: if there are no seeds.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        if not seeds:
            raise ValueError("seeds must have one entry per policy, got none")
        self.device = torch.device(device)
        self._home = torch.device("cpu") if self.device.type == "meta" else self.device
        self._parts = [torch.Generator(self._home).manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[torch.Generator]:
        return iter(self._parts)

    def draw(self, one: Callable[[torch.Generator], Tensor], axis: int = 0) -> Tensor:
        """Stack what `one` draws from each stream along a new axis of size P."""
        return torch.stack([one(part) for part in self._parts], axis)

    def get_state(self) -> Tensor:
        """Return the state of all streams, `[P, N]` uint8 on the CPU."""
        return torch.stack([part.get_state() for part in self._parts])

    def set_state(self, state: Tensor) -> None:
        """Continue every stream where `get_state` was taken; sets P to the rows of `state`."""
        if state.dim() != 2 or not len(state):
            raise ValueError(f"state must have shape [P, N], got {list(state.shape)}")
        self._parts = [torch.Generator(self._home) for _ in state]
        for part, own in zip(self._parts, state.cpu(), strict=True):
            part.set_state(own.clone())
