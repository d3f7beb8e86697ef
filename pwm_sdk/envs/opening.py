"""Opens what a pool is given: environments of any kind, and functions that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

import gymnasium

from pwm_sdk.envs.gate import GateError
from pwm_sdk.envs.layers import layers, name_of
from pwm_sdk.envs.member import GymMember, Limits, Member

__all__ = ["is_maker", "member_of", "members_of"]


def members_of(envs: Sequence[Any], limits: Limits, first: int = 0) -> Iterator[Member]:
    """Yield environments, or what functions make, as members of a pool.

    Args:
        envs: environments and functions without arguments.
        limits: of their episodes and steps.
        first: index of the first in the pool.

    Raises:
        ValueError: if an environment cannot be made, is batched, is of no use for policies that act
            in [-1, 1], or is given twice.
        TypeError: if an environment is of another kind.
    """
    bases: dict[int, str] = {}
    for index, env in enumerate(envs, first):
        member = member_of(env, index, limits)
        *_, base = layers(member.env)
        if id(base) in bases:
            raise GateError(
                f"envs must be different objects, got {bases[id(base)]} again as "
                f"{member.gate.where}; functions such as partial(make_gym, ..) make one each"
            )
        bases[id(base)] = member.gate.where
        yield member


def member_of(env: object, index: int = 0, limits: Limits | None = None) -> Member:
    """Return an environment, or what a function without arguments makes, as a member of a pool.

    Args:
        env: gymnasium or TorchRL environment, or a function or class that makes one.
        index: its place in the pool.
        limits: of its episodes and steps.

    Raises:
        ValueError: if `members_of` would refuse it.
        TypeError: if the environment is of another kind.
    """
    if is_maker(env):
        try:
            env = env()
        except ImportError:  # says what to install
            raise
        except Exception as error:
            raise GateError(
                f"environment {index} must be made by its function, "
                f"got {type(error).__name__}: {error}"
            ) from error
    limits = Limits() if limits is None else limits
    if isinstance(env, gymnasium.Env):
        return GymMember(env, f"environment {index} ({name_of(env)})", limits)
    from pwm_sdk.envs.tensordict_member import tensordict_member  # keeps torch out of workers

    return tensordict_member(env, index, limits)


def is_maker(env: object) -> TypeGuard[Callable[[], Any]]:
    """Tell a function or class that makes an environment from one; modules are callable too."""
    return isinstance(env, type) or (isinstance(env, Callable) and not hasattr(env, "step"))
