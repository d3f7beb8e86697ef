"""Compiling a function, or saying what that needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

COMPILERS = ("g++", "clang++", "cl")


class Compiled:
    """A compiled function that can be copied and pickled with the object whose method it is.

    What `torch.compile` returns stays that of the first object; a copy is compiled again.

    Args:
        function: the function, or a bound method.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._run: Any = torch.compile(function)

    def __call__(self, *arguments: object) -> Any:
        """Call it."""
        return self._run(*arguments)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is left of it in another process: the function itself."""
        return {"function": self.function}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compile it again, where it is called."""
        self.__init__(**state)


def compiled(function: Callable[..., Any]) -> Compiled:
    """Return a function compiled; the first call with new shapes takes many seconds.

    Raises:
        ValueError: if there is no C++ compiler to build the result with.
    """
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    if not any(shutil.which(name) for name in names):
        raise ValueError(
            "compile=True must find a C++ compiler, got none: install g++, or name one in the "
            f"environment variable CXX (looked for {', '.join(names)})"
        )
    return Compiled(function)
