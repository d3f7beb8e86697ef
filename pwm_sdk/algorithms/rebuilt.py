"""Copies of algorithms over TorchRL's losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor


class Rebuilt:
    """An algorithm over one of TorchRL's losses, which is copied and pickled by building it anew.

    A deep copy of such a loss holds parameters that no optimizer steps, and some cannot be pickled.

    Attributes:
        loss: TorchRL's loss, which holds all networks.
    """

    loss: Any
    _arguments: dict[str, Any]
    _made: frozenset[str] = frozenset()  # attributes that the constructor sets

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how a copy is made: from the constructor's arguments and the state.

        What a subclass or a user added is copied as it is.
        """
        parameters = list(self.loss.parameters())
        place = {"device": parameters[0].device, "dtype": parameters[0].dtype}
        wanted = [p.requires_grad for p in parameters]
        lineage = type(self).__mro__
        base = lineage[lineage.index(Rebuilt) - 1]
        added = {k: v for k, v in vars(self).items() if k not in self._made and k != "_made"}
        kinds = type(self), base
        return _rebuild, (kinds, self._arguments, self.state_dict(), place, wanted, added)

    def _as_weights(self, values: Any) -> Any:
        """Return a tensor, or the tensors of a batch, with floating-point numbers as the weights'.

        Raises no error for what is on another device: that stays the caller's.
        """
        dtype = next(self.loss.parameters()).dtype
        if isinstance(values, TensorDictBase):
            return values.apply(lambda x: _as(x, dtype))
        return _as(values, dtype)


def _as(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) if x.is_floating_point() else x


def arguments_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the arguments out of `locals()`; call it first in `__init__`."""
    return {name: value for name, value in scope.items() if name not in ("self", "__class__")}


def _rebuild(
    kinds: tuple[Any, Any],
    arguments: dict[str, Any],
    state: dict[str, Any],
    place: dict[str, Any],
    wanted: list[bool],
    added: dict[str, Any],
) -> Any:
    kind, base = kinds
    built = kind.__new__(kind)
    # The first weights are replaced by the state.
    with torch.random.fork_rng(devices=[]), place["device"]:
        base.__init__(built, **arguments)
    built.loss.to(**place)
    built.load_state_dict(state)
    for parameter, own in zip(built.loss.parameters(), wanted, strict=True):
        parameter.requires_grad_(own)
    vars(built).update(added)
    return built
