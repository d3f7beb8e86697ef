"""States of parts by the names that they have uncompiled, so that they fit compiled or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

__all__ = ["Stateful", "load_state", "state_of", "uncompiled"]

_ADDED = "_orig_mod."  # by torch.compile, to the names of what a module holds


class Stateful(Protocol):
    """What has a state: a module, an optimizer, an agent."""

    def state_dict(self) -> Any:
        """Return the state."""
        ...

    def load_state_dict(self, state: Any, /) -> object:
        """Restore a `state_dict`."""
        ...


def state_of(part: Stateful) -> Any:
    """Return `part.state_dict()`, of a module without what `torch.compile` adds to names."""
    state = part.state_dict()
    if not isinstance(part, nn.Module) or not any(_ADDED in name for name in state):
        return state
    return {name.replace(_ADDED, ""): value for name, value in state.items()}


def load_state(part: Stateful, state: Mapping[str, Any]) -> None:
    """Load what `state_of` or `state_dict` returned, of a compiled module or not, into either."""
    if isinstance(part, nn.Module):
        own = part.state_dict()
        if any(_ADDED in name for name in (*own, *state)):
            names = {name.replace(_ADDED, ""): name for name in own}
            plain = {name.replace(_ADDED, ""): value for name, value in state.items()}
            state = {names.get(name, name): value for name, value in plain.items()}
    part.load_state_dict(state)


def uncompiled(part: object) -> Any:
    """Return the module that `torch.compile` wraps, of any other part itself."""
    if not isinstance(part, nn.Module):
        return part
    # not by `getattr`, which some modules, as TorchRL's batched environments, hand on to others
    return vars(part).get("_modules", {}).get("_orig_mod", part)
