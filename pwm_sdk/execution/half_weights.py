"""bfloat16 copies of a frozen model's weights, made once for many products."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn


class HalfWeights:
    """Puts bfloat16 copies in the place of modules' weights while it is entered.

    An autocast keeps its copies of weights that take a gradient, and casts the others again for
    every product: those of a frozen world model once for each imagined step. Entering takes
    the copies again, always into the same memory; leaving brings the weights back, as they are.

    Args:
        modules: layers inside that name weights in an attribute `half_weights`, as `NormedLinear`,
            are given copies; the rest is left alone. To be entered where an autocast casts their
            inputs.
    """

    def __init__(self, *modules: object) -> None:
        inside = [m for part in modules if isinstance(part, nn.Module) for m in part.modules()]
        self._places = [
            (layer, name) for layer in inside for name in getattr(layer, "half_weights", ())
        ]
        self._copies = [
            nn.Parameter(getattr(layer, name).detach().bfloat16(), requires_grad=False)
            for layer, name in self._places
        ]
        self._weights: list[nn.Parameter] = []  # of the module, while the copies are in it

    @torch.no_grad()
    def __enter__(self) -> None:
        """Copy the weights and put the copies in their place."""
        self._weights = [getattr(layer, name) for layer, name in self._places]
        if self._copies:
            torch._foreach_copy_(list[Tensor](self._copies), list[Tensor](self._weights))
        self._put(self._copies)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Bring the weights back."""
        self._put(self._weights)

    def _put(self, parameters: list[nn.Parameter]) -> None:
        for (layer, name), parameter in zip(self._places, parameters, strict=True):
            setattr(layer, name, parameter)
