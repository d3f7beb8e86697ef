"""The names that a protocol asks for."""

from __future__ import annotations


def members(protocol: type) -> list[str]:
    """Return the names that a protocol asks for, `__call__` where it asks for no other."""
    kinds = [k for k in reversed(protocol.__mro__) if getattr(k, "_is_protocol", False)]
    scopes = [(*vars(k).get("__annotations__", {}), *vars(k)) for k in kinds]
    named = dict.fromkeys(name for scope in scopes for name in scope if not name.startswith("_"))
    return list(named) or ["__call__"]
