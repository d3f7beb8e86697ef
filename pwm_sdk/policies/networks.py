"""Small networks that policies of some algorithms are made of."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from pwm_sdk.calls import checked, one_of
from pwm_sdk.functional.precision import exact, full


class Normalizer(Protocol):
    """Moments that standardise observations, as a `RunningMeanStd`."""

    def normalize(self, values: Tensor) -> Tensor:
        """Return `[.., O]` in units of the standard deviation around the mean."""
        ...


@checked()
class Normalized(nn.Module):
    """Running moments as what encodes: actors see observations normalised by them.

    Args:
        moments: for example a `RunningMeanStd`.
    """

    def __init__(self, moments: Normalizer) -> None:
        super().__init__()
        self.moments = moments

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return normalised observations `[.., O]`, of the same type."""
        return self.moments.normalize(observation).to(observation.dtype)


class LastLayer(nn.Linear):
    """A last layer whose product stays in the precision of its weights, also in an autocast."""

    @classmethod
    def of(cls, layer: nn.Linear) -> LastLayer:
        """Return one that shares the weights of `layer`; none are drawn."""
        last = cls.__new__(cls)
        nn.Module.__init__(last)
        last.in_features, last.out_features = layer.in_features, layer.out_features
        last.weight, last.bias = layer.weight, layer.bias
        return last

    def forward(self, input: Tensor) -> Tensor:
        """Map `[.., I]` to `[.., O]`."""
        return exact(super().forward, full(input))


@checked(squash=one_of("tanh", "clip"))
class MeanActor(nn.Module):
    """The mean action of a Gaussian policy.

    Args:
        net: maps observations `[.., O]` to means `[.., A]`.
        squash: "tanh" of the means, or "clip" to [-1, 1].
        halves: the net returns `[.., 2 A]`, of which the first half are means.
    """

    def __init__(self, net: nn.Module, squash: str, *, halves: bool = False) -> None:
        super().__init__()
        self.net, self.squash, self.halves = net, squash, halves

    def forward(self, observation: Tensor) -> Tensor:
        """Return actions `[.., A]` in [-1, 1]."""
        out = self.net(observation)
        mean = out.chunk(2, -1)[0] if self.halves else out
        return mean.tanh() if self.squash == "tanh" else mean.clamp(-1.0, 1.0)
