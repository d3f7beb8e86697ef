"""Cutting members out of a population, and joining networks into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from pwm_sdk.models.files import Checkpointed
from pwm_sdk.states import state_of, uncompiled

Module = TypeVar("Module", bound=Checkpointed)


def cut_member(module: Module, index: int, own: Callable[[], dict[str, Any]]) -> Module:
    """Build the single network that is member `index` of a population, with copied weights.

    Args:
        module: a network whose parameters and buffers have the policies as their leading axis.
        index: 0-based.
        own: returns the constructor arguments in which the member differs from the population;
            called when `index` is known to be right.

    Returns:
        A module of the same class without a population, of the same device and dtype.

    Raises:
        ValueError: if there is no population, or no such member.
    """
    _check_index(index, _population(module))
    weights = {name: value[index] for name, value in state_of(module).items()}
    return _build(module, {"population": None, **own()}, weights)


def take_members(
    module: Module, members: Sequence[int], own: Callable[[], dict[str, Any]]
) -> Module:
    """Build the population of some members of another, in the given order, with copied weights.

    Args:
        module: as for `cut_member`.
        members: 0-based, each at most once.
        own: returns the constructor arguments in which members differ; called as in `cut_member`.

    Raises:
        ValueError: if there is no population, or if members are missing, unknown or repeated.
    """
    population = _population(module)
    if not all(0 <= index < population for index in members):
        raise ValueError(f"members must lie in 0..{population - 1}, got {list(members)}")
    if not members or len(set(members)) != len(members):
        raise ValueError(f"members must be named, each once, got {list(members)}")
    weights = {name: value[list(members)] for name, value in state_of(module).items()}
    return _build(module, {"population": len(members), **own()}, weights)


def stack_members(
    modules: Sequence[Module], own: dict[str, Any], first_values: Sequence[str] = ()
) -> Module:
    """Build the population of single networks or populations, in order, with copied weights.

    Args:
        modules: networks of one class with equal settings.
        own: the constructor arguments in which they may differ, for all together.
        first_values: arguments that only say where weights start, and may differ too.

    Raises:
        ValueError: if there are no networks, or settings differ.
    """
    if not modules:
        raise ValueError("networks must not be empty, got none")
    first, count, states = uncompiled(modules[0]), 0, []
    for module in modules:
        for name, value in module.settings.items():
            if name not in ("population", *own, *first_values) and value != first.settings[name]:
                raise ValueError(f"{name} must be {first.settings[name]} in all, got {value}")
        alone, state = module.settings["population"] is None, state_of(module)
        count += 1 if alone else module.settings["population"]
        states.append({k: v.unsqueeze(0) if alone else v for k, v in state.items()})
    weights = {name: torch.cat([state[name] for state in states]) for name in states[0]}
    return _build(first, {"population": count, **own}, weights)


def _population(module: Checkpointed) -> int:
    population = module.settings["population"]
    if population is None:
        raise ValueError("population must be given to have members, got None")
    return population


def _check_index(index: int, population: int) -> None:
    if not 0 <= index < population:
        raise ValueError(f"index must lie in 0..{population - 1}, got {index}")


def _build(module: Module, changed: dict[str, Any], weights: dict[str, Any]) -> Module:
    """Build a module like another, without a trace in the global random numbers."""
    with torch.random.fork_rng(devices=[]), next(module.parameters()).device:
        built = type(module)(**{**module.settings, **changed})
    built.to(next(module.parameters()))  # its device and dtype
    built.load_state_dict(weights)
    return built
