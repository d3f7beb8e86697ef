"""Building blocks shared by the models: SimNorm, normed layers and stacks of parallel networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pwm_sdk.calls import checked
from pwm_sdk.checks import widths as check_widths
from pwm_sdk.contract.models import embeddings_of
from pwm_sdk.functional.activations import mish
from pwm_sdk.functional.precision import exact, full


class Mish(nn.Module):
    """`x tanh(softplus(x))`, as `torch.nn.Mish` and about three times cheaper on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..]` to `[..]`."""
        return mish(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "mish": Mish,
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


def make_activation(name: str) -> nn.Module:
    """Return the activation called `name`, or say which names exist."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


class SimNorm(nn.Module):
    """Simplicial normalisation: a softmax inside each group of `size` neighbouring latents.

    Args:
        size: group size V; the last axis must be divisible by it.

    Source: TD-MPC2 (arXiv 2310.16828), eq. 5; Lavoie et al. (arXiv 2204.00616).
    """

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Map `[.., D]` to `[.., D]`; every group is non-negative and sums to 1."""
        # A softmax over the outer of two axes runs over whole vectors: four times as fast on a CPU.
        groups = x.unflatten(-1, (-1, self.size)).transpose(-1, -2).contiguous()
        return groups.softmax(-2).transpose(-1, -2).flatten(-2)

    def extra_repr(self) -> str:
        """Show the group size when printed."""
        return f"size={self.size}"


class NormedLinear(nn.Linear):
    """Linear, then LayerNorm, then an activation: the hidden block of a TD-MPC2 world model.

    Args:
        in_dim: input size.
        out_dim: output size.
        activation: a module applied last.

    Attributes:
        half_weights: names of the weights that an autocast casts for the product.
    """

    half_weights: ClassVar = ("weight", "bias")

    def __init__(self, in_dim: int, out_dim: int, activation: nn.Module) -> None:
        super().__init__(in_dim, out_dim)
        self.ln = nn.LayerNorm(out_dim)
        self.act = activation
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[.., in_dim]` to `[.., out_dim]`."""
        return self.act(self.ln(full(super().forward(x))))


def world_model_mlp(
    in_dim: int, hidden: Sequence[int], out_dim: int, activation: str, last: nn.Module | None = None
) -> nn.Sequential:
    """Normed blocks of widths `hidden`, then a plain Linear or a block that ends in `last`.

    Source: TD-MPC2, appendix; weights truncated normal with std 0.02, biases 0.
    """
    check_widths(hidden=hidden, ends=(in_dim, out_dim))
    widths = [in_dim, *hidden]
    layers: list[nn.Module] = [
        NormedLinear(a, b, make_activation(activation)) for a, b in pairwise(widths)
    ]
    if last is not None:
        layers.append(NormedLinear(widths[-1], out_dim, last))
    else:
        head = nn.Linear(widths[-1], out_dim)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        layers.append(head)
    return nn.Sequential(*layers)


def latent_mlp(
    in_dim: int,
    hidden: Sequence[int],
    latent_dim: int,
    activation: str,
    simnorm_size: int,
    spectral_norm: bool = False,
) -> nn.Sequential:
    """Return normed blocks whose outputs are latents.

    Args:
        in_dim: input size.
        hidden: hidden widths.
        latent_dim: D.
        activation: name in `ACTIVATIONS`.
        simnorm_size: group size of the SimNorm after the last LayerNorm; 0: LayerNorm alone.
        spectral_norm: a Linear of spectral norm 1 in place of both.

    Source: TD-MPC2 (SimNorm); PWM's program, its ablations (LayerNorm alone, spectral norm).
    """
    if not spectral_norm:
        last = SimNorm(simnorm_size) if simnorm_size else nn.Identity()
        return world_model_mlp(in_dim, hidden, latent_dim, activation, last)
    network = world_model_mlp(in_dim, hidden, latent_dim, activation)
    nn.utils.parametrizations.spectral_norm(network[-1])
    return network


@checked()
def init_fan_in(module: nn.Module) -> nn.Module:
    """Redraw the weight of every Linear in `module` from N(0, 1/fan_in) and return the module.

    A `task_embedding` `[K, E]` is redrawn from N(0, 1/E), rows of about unit length, so that the
    tasks are apart from the first update on. Larger than TD-MPC2's fixed 0.02 in narrow networks;
    heads that start at zero stay zero.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and (layer.weight.is_meta or bool(layer.weight.any())):
            nn.init.trunc_normal_(layer.weight, std=1.0 / math.sqrt(layer.in_features))
        embedding = embeddings_of(layer)
        if isinstance(embedding, nn.Parameter):
            nn.init.normal_(embedding, std=1.0 / math.sqrt(embedding.shape[-1]))
    return module


class StackedLinear(nn.Module):
    """Parallel Linear layers of one shape: weight `[*stack, in, out]`, one batched product for all.

    Args:
        in_dim: input size.
        out_dim: output size.
        stack: leading sizes, for example (P,), (E,) or (P, E); () is an ordinary Linear.
        gain: weights are drawn from N(0, gain^2 / in_dim), biases are zero.
    """

    def __init__(
        self, in_dim: int, out_dim: int, stack: tuple[int, ...] = (), gain: float = 1.0
    ) -> None:
        super().__init__()
        self.stack = stack
        self.weight = nn.Parameter(torch.empty(*stack, in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(*stack, 1, out_dim))
        nn.init.trunc_normal_(self.weight, std=gain / math.sqrt(in_dim))

    def forward(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Map `[*stack, N, in]` to `[*stack, N, out]`.

        Args:
            x: the input.
            scale: with `shift`, both `[*stack, 1, in]`: the input is `x scale + shift`, which is
                never built; the weights take it in, and so do the sums over N of its gradients.
            shift: see `scale`.
        """
        weight, bias = self.weight, self.bias
        if scale is not None and shift is not None:
            bias = bias + (shift.mT * weight).sum(-2, keepdim=True)
            weight = scale.mT * weight
        if not self.stack:
            return F.linear(x, weight.mT, bias.squeeze(0))
        flat = torch.baddbmm(bias.flatten(0, -3), x.flatten(0, -3), weight.flatten(0, -3))
        return flat.unflatten(0, self.stack)


class StackedMLP(nn.Module):
    """A stack of parallel MLPs with LayerNorm before or after each activation, or without.

    Args:
        in_dim: input size.
        hidden: hidden widths.
        out_dim: output size.
        stack: leading sizes of all parameters.
        activation: name in `ACTIVATIONS`.
        norm: LayerNorm "pre_activation", or "post_activation" as in PWM's actor and critic, or
            "none".
        output_gain: scale of the last layer's initial weights.

    Source: PWM's actor and critic are Linear, Mish, LayerNorm blocks.
    """

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        stack: tuple[int, ...] = (),
        activation: str = "mish",
        norm: str = "post_activation",
        output_gain: float = 1.0,
    ) -> None:
        super().__init__()
        if norm not in (known := ("pre_activation", "post_activation", "none")):
            raise ValueError(f"norm must be one of {known}, got {norm!r}")
        check_widths(hidden=hidden, ends=(in_dim, out_dim))
        self.norm_first = norm == "pre_activation"
        widths = [in_dim, *hidden]
        self.layers = nn.ModuleList(StackedLinear(a, b, stack) for a, b in pairwise(widths))
        normed = () if norm == "none" else hidden
        self.scales = nn.ParameterList(torch.ones(*stack, 1, b) for b in normed)
        self.shifts = nn.ParameterList(torch.zeros(*stack, 1, b) for b in normed)
        self.head = StackedLinear(widths[-1], out_dim, stack, output_gain)
        self._outputs = (*hidden, out_dim)[1:]  # of the layer after each LayerNorm
        self.activation = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[*stack, N, in]` to `[*stack, N, out]`; no stack: `[.., in]` to `[.., out]`."""
        if not self.scales:  # no LayerNorm
            for layer in self.layers:
                x = self.activation(full(layer(x)))
            return exact(self.head, x)
        left: tuple[Tensor, ...] = ()  # scale and shift that the next layer takes in
        for i, (scale, shift) in enumerate(zip(self.scales, self.shifts, strict=True)):
            x = full(self.layers[i](x, *left))
            left = ()
            if self.norm_first:
                x = self.activation(_layer_norm(x, scale, shift))
            elif torch.compiler.is_exporting() or x.numel() <= shift.numel() * self._outputs[i]:
                x = _layer_norm(self.activation(x), scale, shift)
            else:  # more rows than outputs: cheaper to scale the weights
                x = _layer_norm(self.activation(x))
                left = (scale, shift)
        return exact(self.head, x, *left)


def _layer_norm(x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """LayerNorm over the last axis, with scale and shift `[*stack, 1, D]`, or neither."""
    if scale is None or shift is None:
        return F.layer_norm(x, x.shape[-1:])
    if scale.dim() > 2:
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), scale)
    return F.layer_norm(x, x.shape[-1:], scale.squeeze(0), shift.squeeze(0))
