"""A policy with parameters of its own for every row of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from pwm_sdk.contract.policies import is_stochastic


def copies_of(policy: nn.Module, rows: int) -> Any:
    """Return a policy that acts as `policy` in each of so many rows."""
    kind = StochasticCopies if is_stochastic(policy) else Copies
    return kind(policy, rows)


class _Method(nn.Module):
    """One method of a policy as a module, for `functional_call`."""

    def __init__(self, policy: nn.Module, method: Callable[..., Tensor]) -> None:
        super().__init__()
        self.policy, self.method = policy, method

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.method(self.policy, *inputs)


class Copies:
    """A deterministic policy that has parameters of its own for every row of a batch.

    Rows are independent, so one backward pass gives each row's own gradient.

    Args:
        policy: the policy, left as it is.
        rows: B.

    Raises:
        ValueError: if the policy has no parameters.
    """

    def __init__(self, policy: nn.Module, rows: int) -> None:
        self._policy = policy
        self._parameters = {
            f"policy.{name}": value.detach().repeat(rows, *[1] * value.dim()).requires_grad_()
            for name, value in policy.named_parameters()
        }
        if not self._parameters:
            raise ValueError(f"policy must have parameters, got {type(policy).__name__}")
        self._rows = rows

    def __call__(self, latent: Tensor) -> Tensor:
        """Return actions."""
        return self._each(lambda own, z: own(z), latent)

    def gradient(self, values: Tensor) -> Tensor:
        """Return the gradient `[B, N]` of each row's value `[B]` by the row's parameters."""
        parts = torch.autograd.grad(
            values.sum(),
            list(self._parameters.values()),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([part.reshape(self._rows, -1) for part in parts], 1)

    def _each(self, call: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Call a method on inputs `[B, X]` or `[B, H, X]`, each row with its own parameters."""
        method = _Method(self._policy, call)
        rows = [x.reshape(self._rows, -1, x.shape[-1]) for x in inputs]
        result = vmap(lambda mine, *x: functional_call(method, mine, x))(self._parameters, *rows)
        return result.reshape(*inputs[0].shape[:-1], -1)


class StochasticCopies(Copies):
    """The same of a stochastic policy."""

    @property
    def action_dim(self) -> int:
        """Size of an action."""
        policy: Any = self._policy
        return policy.action_dim

    def loc(self, latent: Tensor) -> Tensor:
        """Return means before squashing."""
        return self._each(lambda own, z: own.loc(z), latent)

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return actions."""
        return self._each(
            lambda own, *x: own.squash(*x), *((loc,) if noise is None else (loc, noise))
        )

    def log_prob(self, loc: Tensor, noise: Tensor) -> Tensor:
        """Return the log-density of the actions that noise led to, `[.., 1]`."""
        return self._each(lambda own, *x: own.log_prob(*x), loc, noise)
