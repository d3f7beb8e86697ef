"""The registry of the methods that the single-task comparison knows."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pwm_sdk import Task

if TYPE_CHECKING:
    from single.jobs import Job

Method = Callable[["Job"], None]
Obstacle = Callable[[Task], str | None]
METHODS: dict[str, Method] = {}
OBSTACLES: dict[str, Obstacle] = {}


def method(name: str, obstacle: Obstacle | None = None) -> Callable[[Method], Method]:
    """Enter a function under `name`; it trains until its `Job` no longer `goes_on`.

    A method of your own, in a file handed to `--plugin`:

        from single import method

        @method("mine")
        def mine(job):
            agent = MyAgent(job.task.observation_dim, job.task.action_dim)
            for batch in job.stream(agent):
                agent.update(batch)

    Args:
        name: what the command line calls it.
        obstacle: says why a task cannot be learned, None where it can; such jobs are not run and
            the report lists them. None: every task can.
    """

    def enter(function: Method) -> Method:
        METHODS[name] = function
        if obstacle is not None:
            OBSTACLES[name] = obstacle
        return function

    return enter


def find_method(name: str) -> Method:
    """Return the method of a name.

    Raises:
        ValueError: for an unknown one; the message has the nearest.
    """
    if name not in METHODS:
        nearest = difflib.get_close_matches(name, METHODS, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(nearest)}; " if nearest else ""
        raise ValueError(f"method must be known, got {name!r}; {hint}known: {', '.join(METHODS)}")
    return METHODS[name]


def obstacle(name: str, task: Task) -> str | None:
    """Say why a method cannot learn a task; None where it can."""
    return OBSTACLES[name](task) if name in OBSTACLES else None


def load_plugins(files: Iterable[Path]) -> None:
    """Run the user's files, which enter methods (`@method`) and tasks (`register_task`).

    Raises:
        ValueError: if there is no such file.
    """
    for file in files:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        if not file.is_file() or spec is None or spec.loader is None:
            raise ValueError(f"plugin must be a python file, got {file}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
