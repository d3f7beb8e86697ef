"""What algorithms over TorchRL's losses share: device, random numbers, finite steps, copies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.modules import MLP

from pwm_sdk.execution.finite import FiniteWatch
from pwm_sdk.execution.runner import Runner
from pwm_sdk.execution.settings import Execution
from pwm_sdk.generators import following, own_generator
from pwm_sdk.optim import adam, optimize, scale_learning_rates
from pwm_sdk.policies.networks import LastLayer


class OverTorchRL(ABC):
    """Networks inside a TorchRL loss, their optimizer, and a source of random numbers beside them.

    All of it follows `loss.to(device)`. It is copied and pickled by building it again: a deep copy
    of such a loss holds parameters that no optimizer steps, and some cannot be pickled. A subclass
    sets `_arguments` first, by `arguments_of`, and `_made` last.

    Args:
        loss: TorchRL's.
        lr: Adam's rate.
        device: of the networks.
        generator: source of all that is drawn, on that device; None: one of its own, seeded by
            torch's global one.
        execution: how updates are run, in which precision; None: eager, in fp32.
        **settings: further arguments of Adam.

    Raises:
        ValueError: if the generator is on another device.
    """

    _arguments: dict[str, Any]
    _made: frozenset[str] = frozenset()  # attributes that the constructor sets

    def __init__(
        self,
        loss: nn.Module,
        lr: float,
        device: torch.device | str,
        generator: torch.Generator | None,
        execution: Execution | None,
        **settings: object,
    ) -> None:
        self.loss: Any = loss.to(device)
        self.optimizer = adam(self.loss.parameters(), lr, **settings)
        self._generator = own_generator(self.device, generator)
        self._wanted, self.updates = execution, 0
        self._runner = Runner(execution, self.device, ["loss"])

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.loss.parameters()).device

    @property
    def generator(self) -> torch.Generator:
        """Source of all that is drawn, on the networks' device."""
        self._generator = following(self._generator, self.device)
        return self._generator

    @property
    def finite(self) -> FiniteWatch:
        """Notes on the networks' device whether losses and gradients were finite."""
        return self.runner.finite

    @property
    def runner(self) -> Runner:
        """What runs the updates on the networks' device."""
        if self._runner.device != self.device:
            self._runner = Runner(self._wanted, self.device, ["loss"])
        return self._runner

    @property
    def execution(self) -> Execution:
        """How updates are run on the networks' device."""
        return self.runner.settings

    def check_finite(self) -> None:
        """Wait for the device; raise ValueError if a loss was not finite since the last time."""
        self.finite.read()

    def set_learning_rates(self, factor: float) -> None:
        """Set the learning rate to `factor` times its start."""
        scale_learning_rates(self.optimizer, factor)

    def _minimize(self, loss: Tensor, max_norm: float | None = None) -> Tensor:
        """Step the optimizer, where the loss is finite; returns the norm of the gradient."""
        return optimize(loss, self.optimizer, max_norm, watch=self.finite, name="loss")

    def _count(self) -> None:
        """Note that an update is done, and read now and then whether its numbers were finite."""
        self.updates += 1
        self.runner.read(self.updates)

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how a copy is made: from the constructor's arguments and the state.

        What a subclass or a user added is copied as it is.
        """
        parameters = list(self.loss.parameters())
        place = {"device": parameters[0].device, "dtype": parameters[0].dtype}
        wanted = [p.requires_grad for p in parameters]
        lineage = type(self).__mro__
        base = lineage[lineage.index(OverTorchRL) - 1]
        added = {k: v for k, v in vars(self).items() if k not in self._made and k != "_made"}
        kinds = type(self), base
        return _rebuild, (kinds, self._arguments, self.state_dict(), place, wanted, added)

    def _as_weights(self, values: Tensor | TensorDictBase) -> Any:
        """Return a tensor, or the tensors of a batch, with floating-point numbers as the weights'.

        Raises no error for what is on another device: that stays the caller's.
        """
        dtype = next(self.loss.parameters()).dtype
        if isinstance(values, TensorDictBase):
            return values.apply(lambda x: _as(x, dtype))
        return _as(values, dtype)


def exact_last(net: nn.Module) -> nn.Module:
    """Replace the last linear layer of a network, in place, by one of the same weights."""
    name, last = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)][-1]
    place, _, child = name.rpartition(".")
    setattr(net.get_submodule(place), child, LastLayer.of(last))
    return net


def mlp(inputs: int, outputs: int, hidden: tuple[int, ...], activation: type[nn.Module]) -> Any:
    """Return TorchRL's network, its last layer exact in an autocast."""
    sizes: dict[str, Any] = {"in_features": inputs, "out_features": outputs, "num_cells": hidden}
    return exact_last(MLP(**sizes, activation_class=activation))


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
