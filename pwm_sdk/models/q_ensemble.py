"""TD-MPC2's ensemble of Q functions, with stacked parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pwm_sdk.calls import checked, least, shaped
from pwm_sdk.checkpoints.foreign import is_pickled
from pwm_sdk.checkpoints.tdmpc2 import tdmpc2_q_ensemble
from pwm_sdk.contract.parts import BinnedModel
from pwm_sdk.functional.losses import two_hot_loss
from pwm_sdk.functional.precision import full
from pwm_sdk.functional.twohot import two_hot_decode
from pwm_sdk.models.conditioning import TaskContext, join
from pwm_sdk.models.files import Checkpointed, constructor_arguments
from pwm_sdk.models.inputs import check_bins
from pwm_sdk.models.layers import make_activation
from pwm_sdk.models.policy_prior import model_widths


class Stacked(nn.Module):
    """Parameters of E layers: `weight` and `bias` with a leading axis.

    Args:
        weight: first weights, `[E, ..]`.
        bias: first biases, `[E, out]`.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, heads: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the chosen heads `[N]` (None: of all)."""
        return (self.weight, self.bias) if heads is None else (self.weight[heads], self.bias[heads])


@checked(
    latent_dim=least(1),
    action_dim=least(1),
    task_dim=least(0),
    hidden=least(1),
    heads=(shaped(None), least(0)),
    target=shaped(..., 1),
)
class QEnsemble(Checkpointed):
    """E independent Q functions Q(z, e, a) as two-hot distributions over symlog bins.

    Args:
        latent_dim: D.
        action_dim: A, padded size where tasks differ.
        task_dim: size of the task embedding; 0 without tasks.
        hidden: widths; each hidden layer is Linear, LayerNorm, activation.
        ensemble: E.
        num_bins: bins of a head, or 0 for a scalar value in raw units.
        dropout: share of the first layer's outputs dropped in training.
        activation: name of the activation.

    Raises:
        ValueError: if settings are out of range.

    Source: TD-MPC2 (arXiv 2310.16828), section 3 and appendix. Differs: dropout is off in `eval()`;
    in the first release it never was.
    """

    foreign: ClassVar = {"TD-MPC2": tdmpc2_q_ensemble}

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        task_dim: int = 0,
        hidden: Sequence[int] = (512, 512),
        ensemble: int = 5,
        num_bins: int = 101,
        dropout: float = 0.01,
        activation: str = "mish",
    ) -> None:
        settings = constructor_arguments(locals())
        super().__init__()
        self.settings = settings
        if ensemble < 1 or not hidden:
            raise ValueError(
                f"ensemble and hidden must hold something, got {ensemble} and {tuple(hidden)}"
            )
        if num_bins == 1 or num_bins < 0:
            raise ValueError(f"num_bins must be 0 (scalar) or at least 2, got {num_bins}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.latent_dim, self.action_dim, self.ensemble = latent_dim, action_dim, ensemble
        self.num_bins, self.dropout = num_bins, dropout
        widths, out = [latent_dim + task_dim + action_dim, *hidden], max(num_bins, 1)
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for before, after in pairwise(widths):
            weight = nn.init.trunc_normal_(torch.empty(ensemble, after, before), std=0.02)
            zeros = torch.zeros(ensemble, after)
            self.layers.append(Stacked(weight, zeros))
            self.norms.append(Stacked(torch.ones(ensemble, after), zeros.clone()))
        head = torch.zeros(ensemble, out, widths[-1])  # all values start at zero
        self.head = Stacked(head, torch.zeros(ensemble, out))
        self.activation = make_activation(activation)

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], target: bool = False) -> Self:
        """Build Q functions from a file of `save` or of TD-MPC2, on the CPU.

        Args:
            path: the file.
            target: read the target Q functions, which TD-MPC2's files hold beside the others.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, would run code or holds no such Q functions, as those of
                `save` hold no target ones, or if a weight is missing, unknown or does not fit.
        """
        if not target:
            return super().from_checkpoint(path)
        if not is_pickled(path):
            raise ValueError(f"path must be a file of TD-MPC2 for target Q functions, got {path}")
        targets = partial(tdmpc2_q_ensemble, target=True)
        return cls._build(*cls._read(path, {"TD-MPC2": targets}), path)

    @classmethod
    def for_model(cls, model: BinnedModel, **overrides: object) -> Self:
        """Build Q functions on the latents of a `WorldModel`, with its widths and bins.

        Args:
            model: the world model.
            overrides: arguments of the constructor that replace those of the model.
        """
        own = {**model_widths(model), "num_bins": model.num_bins}
        arguments: dict[str, Any] = {**own, **overrides}
        return cls(**arguments)

    def logits(
        self,
        latent: Tensor,
        action: Tensor,
        context: TaskContext | None = None,
        heads: Tensor | None = None,
    ) -> Tensor:
        """Return raw outputs.

        Args:
            latent: `[.., D]`.
            action: `[.., A]`; entries that the task does not have are taken as zero.
            context: what `WorldModel.context` looked up; None without tasks.
            heads: which of the E heads, `[N]` int64; None: all.

        Returns:
            `[N, .., num_bins]` (scalar heads: `[N, .., 1]`).
        """
        if latent.shape[-1] != self.latent_dim or action.shape[-1] != self.action_dim:
            raise ValueError(
                f"latent and action must have sizes {self.latent_dim} and {self.action_dim}, "
                f"got {list(latent.shape)} and {list(action.shape)}"
            )
        context = TaskContext(None, None) if context is None else context
        embedding, mask = context.embedding, context.action_mask
        joint = join(latent, embedding, action if mask is None else action * mask)
        try:
            weight, bias = self.layers[0](heads)
        except IndexError as error:
            raise ValueError(f"heads must lie in 0..{self.ensemble - 1}, got {heads}") from error
        # All heads read the same input: one product with their weights side by side.
        x = F.linear(joint.flatten(0, -2), weight.flatten(0, 1), bias.flatten())
        x = x.unflatten(-1, bias.shape).transpose(0, 1)  # [N, rows, hidden]
        for i, norm in enumerate(self.norms):
            if i:
                x = _linear(x, *self.layers[i](heads))
            elif self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            scale, shift = norm(heads)
            x = F.layer_norm(x, x.shape[-1:]) * scale.unsqueeze(1) + shift.unsqueeze(1)
            x = self.activation(x)
        return full(_linear(x, *self.head(heads))).unflatten(1, joint.shape[:-1])

    def decode(self, logits: Tensor) -> Tensor:
        """Turn outputs into values `[.., 1]`."""
        check_bins(logits, self.num_bins)
        return two_hot_decode(logits) if self.num_bins else logits

    def error(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of outputs against `[.., 1]`: two-hot cross entropy, or squared error (scalar)."""
        check_bins(logits, self.num_bins)
        if target.shape[-2:-1] != logits.shape[-2:-1] or target.dim() > logits.dim():
            raise ValueError(
                f"target must have shape [.., 1] of logits {list(logits.shape)}, "
                f"got {list(target.shape)}"
            )
        if not self.num_bins:
            return (logits - target).square()
        return two_hot_loss(logits, target.expand(*logits.shape[:-1], 1))

    def draw_heads(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw two different heads (one, if there is no other), `[2]` int64."""
        device = self.head.bias.device
        source = device if generator is None else generator.device
        order = torch.randperm(self.ensemble, generator=generator, device=source)
        return order[:2].to(device, non_blocking=True)

    def value(
        self,
        latent: Tensor,
        action: Tensor,
        context: TaskContext | None = None,
        *,
        reduce: str = "min",
        heads: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return values read from a few heads.

        Args:
            latent: `[.., D]`.
            action: `[.., A]`.
            context: see `logits`.
            reduce: "min" (targets) or "mean" (planning, policy loss) over the heads.
            heads: `[N]` int64; None: two that are drawn here.
            generator: source of the draw.

        Returns:
            `[.., 1]`.
        """
        if reduce not in ("min", "mean"):
            raise ValueError(f"reduce must be 'min' or 'mean', got {reduce!r}")
        heads = self.draw_heads(generator) if heads is None else heads
        values = self.decode(self.logits(latent, action, context, heads))
        return values.amin(0) if reduce == "min" else values.mean(0)

    def given(
        self, context: TaskContext | None, generator: torch.Generator | None = None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return Q of looked-up tasks: latents and actions to the mean of two heads `[.., 1]`.

        Args:
            context: see `logits`.
            generator: decides on the two heads, again in each call; None: torch's global one.
        """
        return partial(self.value, context=context, reduce="mean", generator=generator)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
