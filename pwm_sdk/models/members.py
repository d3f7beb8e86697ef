"""Cutting one member out of a population."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pwm_sdk.models.files import Checkpointed

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
    population = module.settings["population"]
    if population is None:
        raise ValueError("population must be given to have members, got None")
    if not 0 <= index < population:
        raise ValueError(f"index must lie in 0..{population - 1}, got {index}")
    alone = type(module)(**{**module.settings, "population": None, **own()})
    alone.to(next(module.parameters()))  # its device and dtype
    alone.load_state_dict({name: value[index] for name, value in module.state_dict().items()})
    return alone
