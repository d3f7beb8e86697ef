"""First weights of actors and critics, other than our own."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

from pwm_sdk.calls import checked
from pwm_sdk.checks import positive
from pwm_sdk.models.layers import StackedLinear

Module = TypeVar("Module", bound=nn.Module)


@checked()
@torch.no_grad()
def init_uniform(module: Module) -> Module:
    """Redraw the layers of an actor or critic from U(-b, b), b = 1 / sqrt(fan_in), biases included.

    Args:
        module: a `FirstOrderActor` or `Critic`, one or a population.

    Returns:
        The module.

    Source: PyTorch's default for Linear, with which the published actor starts.
    """
    for layer in module.modules():
        if isinstance(layer, StackedLinear):
            bound = 1.0 / math.sqrt(layer.weight.shape[-2])
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)
    return module


@checked(gain=positive)
@torch.no_grad()
def init_orthogonal(module: Module, gain: float = math.sqrt(2.0)) -> Module:
    """Redraw the weights of an actor or critic as orthogonal matrices times `gain`, biases 0.

    Args:
        module: a `FirstOrderActor` or `Critic`, one or a population.
        gain: scale of the weights.

    Returns:
        The module.

    Source: the published critic starts so, its last layer included.
    """
    for layer in module.modules():
        if isinstance(layer, StackedLinear):
            for matrix in layer.weight.view(-1, *layer.weight.shape[-2:]):
                nn.init.orthogonal_(matrix, gain)
            nn.init.zeros_(layer.bias)
    return module
