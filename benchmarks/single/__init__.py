"""The comparison on single tasks: methods, the job of each, and the report."""

from __future__ import annotations

from single import model_based, model_free  # enter their methods
from single.registry import METHODS, find_method, load_plugins, method, obstacle

__all__ = [
    "METHODS",
    "find_method",
    "load_plugins",
    "method",
    "model_based",
    "model_free",
    "obstacle",
]
