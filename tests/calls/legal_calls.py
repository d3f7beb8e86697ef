"""A smallest legal call of every public callable, by its name: what wrong calls are made from."""

from __future__ import annotations

import functools

from legal_constructors import constructors
from legal_functions import functions
from legal_methods import methods
from legal_parts import FOREIGN, Call

__all__ = ["FOREIGN", "constructors", "every_call", "functions", "methods"]


@functools.cache
def every_call() -> dict[str, Call]:
    """All of them."""
    return {**constructors(), **functions(), **methods()}
