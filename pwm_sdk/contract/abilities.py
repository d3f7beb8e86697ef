"""Which abilities an object has, and where its methods come from."""

from __future__ import annotations

from typing import Any

from pwm_sdk.calls.abilities import members


def lacks(part: object, *protocols: type) -> list[str]:
    """Return the names of protocols that a part does not have, also those set in its instance."""
    names = {name for protocol in protocols for name in members(protocol)}
    return sorted(name for name in names if not hasattr(part, name))


def origin(part: object, whole: str, *names: str) -> tuple[Any, type | None]:
    """Return the object and the class that a method comes from.

    Args:
        part: the object that is asked for it.
        whole: name of the method.
        names: of others, which must come from the same object.

    Returns:
        The object, `part` or one whose methods a wrapper forwards, and the class that defines the
        method; None for that where it is no method of a class, or comes without the others.
    """
    methods = [getattr(part, name, None) for name in (whole, *names)]
    source = getattr(methods[0], "__self__", part)
    if not all(callable(method) for method in methods) or isinstance(source, type):
        return part, None
    if source is not part:
        same = all(getattr(method, "__self__", None) is source for method in methods)
        return origin(source, whole, *names) if same else (part, None)
    if whole in getattr(part, "__dict__", {}):
        return part, None
    return part, next((kind for kind in type(part).__mro__ if whole in vars(kind)), None)
