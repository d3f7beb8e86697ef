"""Whether the world model in a file is one of the tasks at hand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["fit_tasks"]


def fit_tasks(
    settings: Mapping[str, Any], tasks: Any, path: str | os.PathLike[str]
) -> dict[str, Any]:
    """Compare a world model's settings with tasks, and take the tasks' masks.

    Args:
        settings: arguments of `WorldModel`.
        tasks: a `TaskSet`, or one `Task`; None compares nothing.
        path: where the settings come from, for messages.

    Returns:
        The settings, with `action_dims` of the tasks.

    Raises:
        ValueError: if the number of tasks, a size, an order or a mask differs.
    """
    if tasks is None:
        return dict(settings)
    members = list(tasks) if isinstance(tasks, Iterable) else [tasks]
    count, observation, action = (
        settings[name] for name in ("num_tasks", "observation_dim", "action_dim")
    )
    held = max(count, 1), observation, action
    given = (
        len(members),
        *(
            getattr(tasks, name, max(getattr(task, name) for task in members))
            for name in ("observation_dim", "action_dim")
        ),
    )
    if held != given:
        raise ValueError(f"tasks must be those of {path} ({_sizes(*held)}), got {_sizes(*given)}")
    if count and [task.index for task in members] != list(range(count)):
        indices = [task.index for task in members]
        raise ValueError(f"tasks must have the indices 0 to {count - 1} in order, got {indices}")
    sizes = [task.action_dim for task in members]
    stored = settings.get("action_dims")
    if stored is not None and list(stored) != sizes:
        raise ValueError(f"tasks must have the action sizes {stored} of {path}, got {sizes}")
    return {**settings, "action_dims": sizes if count or sizes != [action] else None}


def _sizes(count: int, observation: int, action: int) -> str:
    """Say how many tasks there are and how large."""
    return f"{count} tasks, observation size {observation}, action size {action}"
