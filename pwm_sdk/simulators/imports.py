"""Imports simulators when they are needed, without side effects on the process."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

__all__ = ["MjData", "MjElement", "MjModel", "MjSpec", "MjStage", "absent", "load"]

# of mujoco, which is imported when needed and declares no types
MjData: TypeAlias = Any
MjElement: TypeAlias = Any
MjModel: TypeAlias = Any
MjSpec: TypeAlias = Any
MjStage: TypeAlias = Any

_BACKEND = "MUJOCO_GL"
_NO_BACKEND = {"", "disable", "disabled", "off", "false", "0"}
_PYTHON = sys.version_info[:2]
# package -> what it needs that has no wheels for a Python beyond 3.12
_UP_TO_3_12 = {"dm_control": "labmaze", "metaworld": "mujoco 3.3.0"}


def absent(package: str, extra: str = "") -> str:
    """Say that a package must be installed and how, or which Python has it.

    Args:
        package: that is not installed.
        extra: of this project, which brings it; none where the project itself does.
    """
    if package in _UP_TO_3_12 and _PYTHON > (3, 12):
        return (
            f"{package} must be installed, got Python {_PYTHON[0]}.{_PYTHON[1]}: "
            f"{_UP_TO_3_12[package]}, which it needs, has wheels for Python 3.11 and 3.12 only"
        )
    return f'{package} must be installed: pip install "pwm-sdk{extra and f"[{extra}]"}"'


def load(
    package: str,
    do: Callable[[], Any],
    extra: str = "",
    *,
    missing: type[ImportError] = ImportError,
    headless: bool = False,
) -> Any:
    """Import a package; leave environment variables, warnings and logging as they were.

    Only that the package itself is not found means that it is not installed. A backend of OpenGL
    that `MUJOCO_GL` names and that does not load is warned of and done without: no observation
    needs one.

    Args:
        package: what is imported, a dot and what follows left out.
        do: imports it.
        extra: of this project, which brings it; none where the project itself does.
        missing: what is raised where it is not installed.
        headless: look for no renderer where `MUJOCO_GL` names none.

    Returns:
        What `do` returns.

    Raises:
        ImportError: if the package is not installed, or does not load.
    """
    backend = os.environ.get(_BACKEND)
    try:
        with _unchanged({_BACKEND: "disable"} if headless and not backend else {}):
            return do()
    except Exception as error:
        unknown = isinstance(error, ModuleNotFoundError) and error.name is not None
        if unknown and error.name.partition(".")[0] == package:  # pyright: ignore
            raise missing(absent(package, extra)) from error
        if (backend or "").strip().lower() in _NO_BACKEND:
            fault = f"{type(error).__name__}: {error}"
            hint = f'; pip install "pwm-sdk[{extra}]" brings what it needs' if absent else ""
            raise ImportError(f"{package} must load, got {fault}{hint}") from error
        cause = error
    with _unchanged({_BACKEND: "disable"}):
        try:
            result = do()
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            raise ImportError(f"{package} must load without {_BACKEND}, got {fault}") from error
    warnings.warn(
        f"{_BACKEND} must name a backend of OpenGL that loads, got {backend!r} "
        f"({type(cause).__name__}: {cause}); there is no rendering in this process, which "
        f"observations do not need. {_BACKEND}=disable says so without this warning",
        RuntimeWarning,
        stacklevel=3,
    )
    return result


@contextmanager
def _unchanged(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while; leave these, warnings and logging as they were.

    dm_control probes for a display while it is imported, which warns on a machine without one;
    absl, which it logs through, installs a handler on the root logger; scipy adds a filter of
    warnings; a backend of OpenGL sets a variable.
    """
    handlers, environ = logging.root.handlers[:], dict(os.environ)
    os.environ.update(variables)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.root.handlers[:] = handlers
        if dict(os.environ) != environ:
            for name in set(os.environ) - set(environ):
                del os.environ[name]
            os.environ.update(environ)
