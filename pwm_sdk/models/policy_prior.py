"""TD-MPC2's policy prior: a squashed Gaussian policy that knows the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from pwm_sdk.calls import checked, least
from pwm_sdk.checkpoints.tdmpc2 import tdmpc2_policy_prior
from pwm_sdk.contract.parts import SizedModel
from pwm_sdk.functional.gaussian import bounded_log_std
from pwm_sdk.functional.precision import full
from pwm_sdk.models.conditioning import TaskContext, join
from pwm_sdk.models.files import Checkpointed, constructor_arguments
from pwm_sdk.models.layers import world_model_mlp


@checked(
    latent_dim=least(1),
    action_dim=least(1),
    task_dim=least(0),
)
class PolicyPrior(Checkpointed):
    """Policy `a = tanh(m(z, e) + std(z, e) * eps)` of many tasks, with e the task's embedding.

    Args:
        latent_dim: D.
        action_dim: A, padded size where tasks differ.
        task_dim: size of the task embedding; 0 without tasks.
        hidden: widths.
        log_std: smallest and largest log-std.
        activation: name of the activation.

    Source: TD-MPC2 (arXiv 2310.16828), section 3.2.
    """

    foreign: ClassVar = {"TD-MPC2": tdmpc2_policy_prior}

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        task_dim: int = 0,
        hidden: Sequence[int] = (512, 512),
        log_std: Sequence[float] = (-10.0, 2.0),
        activation: str = "mish",
    ) -> None:
        settings = constructor_arguments(locals())
        super().__init__()
        self.settings = settings
        if len(log_std) != 2 or not log_std[0] < log_std[1]:
            raise ValueError(f"log_std must be (smallest, largest), got {tuple(log_std)}")
        self.latent_dim, self.action_dim, self.log_std = latent_dim, action_dim, tuple(log_std)
        self.net = world_model_mlp(latent_dim + task_dim, hidden, 2 * action_dim, activation)

    @classmethod
    def for_model(cls, model: SizedModel, **overrides: object) -> Self:
        """Build a prior on the latents of a `WorldModel`, with its widths.

        Args:
            model: the world model.
            overrides: arguments of the constructor that replace those of the model.
        """
        arguments: dict[str, Any] = {**model_widths(model), **overrides}
        return cls(**arguments)

    def distribution(
        self, latent: Tensor, context: TaskContext | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean before the tanh and log-std.

        Args:
            latent: `[.., D]`.
            context: what `WorldModel.context` looked up; None without tasks.

        Returns:
            Both `[.., A]`, zero for actions that the task does not have.
        """
        if latent.shape[-1] != self.latent_dim:
            raise ValueError(f"latent must have size {self.latent_dim}, got {list(latent.shape)}")
        context = TaskContext(None, None) if context is None else context
        embedding, mask = context.embedding, context.action_mask
        mean, raw = full(self.net(join(latent, embedding))).chunk(2, -1)
        low, high = self.log_std
        log_std = bounded_log_std(raw, low, high)
        return (mean, log_std) if mask is None else (mean * mask, log_std * mask)

    def forward(
        self, latent: Tensor, context: TaskContext | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """Return actions in [-1, 1].

        Args:
            latent: `[.., D]`.
            context: see `distribution`.
            noise: standard normal `[.., A]`; None: the mean action.

        Returns:
            `[.., A]`, zero for actions that the task does not have.
        """
        mean, log_std = self.distribution(latent, context)
        if noise is None:
            return torch.tanh(mean)
        if context is not None and context.action_mask is not None:
            noise = noise * context.action_mask
        return torch.tanh(mean + noise * log_std.exp())

    def given(self, context: TaskContext) -> GivenPrior:
        """Return the policy of looked-up tasks, a callable on latents."""
        return GivenPrior(self, context)


class GivenPrior:
    """A `PolicyPrior` of tasks that were looked up: a `Policy`.

    Args:
        prior: the prior.
        context: what `WorldModel.context` looked up.
    """

    def __init__(self, prior: PolicyPrior, context: TaskContext) -> None:
        self.prior, self.context, self.action_dim = prior, context, prior.action_dim

    def __call__(self, latent: Tensor) -> Tensor:
        """Return mean actions `[.., A]` of latents `[.., D]`."""
        return self.prior(latent, self.context)

    def sample(self, latent: Tensor, noise: Tensor) -> Tensor:
        """Return actions `[.., A]` of latents `[.., D]` and standard-normal noise `[.., A]`."""
        return self.prior(latent, self.context, noise)


def model_widths(model: SizedModel) -> dict[str, Any]:
    """Return the arguments that networks on a `WorldModel`'s latents share with it."""
    embedding = model.task_embedding
    return {
        "latent_dim": model.latent_dim,
        "action_dim": model.action_dim,
        "task_dim": 0 if embedding is None else embedding.shape[1],
        "hidden": model.settings["hidden"],
        "activation": model.settings["activation"],
    }
