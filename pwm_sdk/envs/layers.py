"""What an environment, or one that it wraps, says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import gymnasium

__all__ = ["layers", "name_of", "task_of"]


def layers(env: object) -> Iterator[Any]:
    """Yield an environment and, one after the other, those that it wraps."""
    seen: set[int] = set()
    while env is not None and id(env) not in seen:
        yield env
        seen.add(id(env))
        wrapped = (_attribute(env, name) for name in ("base_env", "env", "_env"))
        env = next((inner for inner in wrapped if _is_environment(inner)), None)


def task_of(env: object) -> int | None:
    """Return the index of the task that an environment, or one that it wraps, shows; or None."""
    for layer in layers(env):
        index = getattr(_attribute(layer, "task"), "index", None)
        if isinstance(index, Integral) and not isinstance(index, bool) and int(index) >= 0:
            return int(index)
    return None


def name_of(env: object) -> str:
    """Return the name of the task that an environment shows, or that of its spec or class."""
    every = list(layers(env))
    for layer in every:
        name = getattr(_attribute(layer, "task"), "name", None)
        if isinstance(name, str):
            return name
    spec = _attribute(every[-1], "spec")
    known = getattr(spec, "id", None)
    return known if isinstance(known, str) else type(every[-1]).__name__


def _attribute(env: object, name: str) -> Any:
    """Return an attribute of an environment, whose property may fail in any way; or None."""
    try:
        return getattr(env, name, None)
    except Exception:
        return None


def _is_environment(value: object) -> bool:
    return isinstance(value, gymnasium.Env) or hasattr(value, "action_spec")
