"""Compiling a function, or saying what that needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable)

COMPILERS = ("g++", "clang++", "cl")


def compiled(function: Function) -> Function:
    """Return `torch.compile(function)`; the first call with new shapes takes many seconds.

    Raises:
        ValueError: if there is no C++ compiler to build the result with.
    """
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    if not any(shutil.which(name) for name in names):
        raise ValueError(
            "compile=True must find a C++ compiler, got none: install g++, or name one in the "
            f"environment variable CXX (looked for {', '.join(names)})"
        )
    result: Any = torch.compile(function)
    return result
