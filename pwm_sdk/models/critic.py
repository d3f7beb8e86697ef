"""An ensemble of value functions on latents, alone or as a population."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from pwm_sdk.calls import checked, least, shaped
from pwm_sdk.checkpoints.pwm import pwm_critic
from pwm_sdk.checks import positive, whole
from pwm_sdk.models.files import Checkpointed, constructor_arguments
from pwm_sdk.models.layers import StackedMLP
from pwm_sdk.models.members import cut_member, stack_members, take_members


@checked(scale=positive, output_gain=least(0.0), value=shaped(..., 1))
class Critic(Checkpointed):
    """E independent values V(z), read as their mean or minimum.

    The defaults are the settings that were measured to learn (docs/experiments.md);
    `Critic.published(latent_dim)` has those of PWM's program.

    Args:
        latent_dim: D.
        hidden: widths; each hidden layer is Linear, LayerNorm and activation, see `norm`.
        ensemble: E.
        population: P critics of P policies with stacked parameters; latents are then `[P, .., D]`.
        reduce: "mean" or "min" (published) over the ensemble.
        scale: unit of the output, one number or one per policy; `0.1 / (1 - gamma)` keeps raw
            outputs near 1 where rewards are, and is 10 for the discount 0.99. Published: 1.
        activation: name of the activation.
        norm: LayerNorm "pre_activation" or "post_activation" (published), or "none", which is less
            sensitive to the other settings on raw states (docs/experiments.md).
        output_gain: scale of the last layer's initial weights.

    Raises:
        ValueError: if settings are out of range or do not fit together.

    Source: PWM (arXiv 2407.02466), section 4.2 and appendix. Differs: weights start from N(0,
    1/fan_in), not orthogonal.
    """

    foreign: ClassVar = {"PWM": pwm_critic}
    published_settings: ClassVar = {
        "reduce": "min",
        "scale": 1.0,
        "activation": "mish",
        "norm": "post_activation",
        "output_gain": 1.0,
    }
    renamed: ClassVar = {"norm": {"before": "pre_activation", "after": "post_activation"}}
    value_scale: Tensor

    def __init__(
        self,
        latent_dim: int,
        hidden: Sequence[int] = (128, 128),
        ensemble: int = 2,
        *,
        population: int | None = None,
        reduce: str = "mean",
        scale: float | Sequence[float] = 10.0,
        activation: str = "silu",
        norm: str = "pre_activation",
        output_gain: float = 0.01,
    ) -> None:
        settings = constructor_arguments(locals())
        super().__init__()
        self.settings = settings
        if reduce not in ("min", "mean"):
            raise ValueError(f"reduce must be 'min' or 'mean', got {reduce!r}")
        whole(1, latent_dim=latent_dim, ensemble=ensemble, population=population)
        positive(scale=scale)
        stack = (ensemble,) if population is None else (population, ensemble)
        self.latent_dim, self.ensemble, self.population, self.reduce = (
            latent_dim,
            ensemble,
            population,
            reduce,
        )
        self.net = StackedMLP(latent_dim, hidden, 1, stack, activation, norm, output_gain)
        unit = torch.as_tensor(scale, dtype=torch.get_default_dtype())
        if unit.dim() and len(unit) != (population or 1):
            raise ValueError(
                f"scale must be one number or {population or 1} numbers, got {len(unit)}"
            )
        self.register_buffer(
            "value_scale", unit if population is None else unit.expand(population).clone()
        )

    @classmethod
    def published(
        cls,
        latent_dim: int,
        hidden: Sequence[int] = (400, 200),
        ensemble: int = 3,
        **settings: object,
    ) -> Self:
        """Build a critic with the settings of PWM's program.

        The minimum of three values in raw units, Mish, LayerNorm after it.

        Args:
            latent_dim: D.
            hidden: widths.
            ensemble: E.
            settings: further arguments of the constructor, or others in place of these.

        Source: PWM (arXiv 2407.02466), its program; see docs/differences.md. Its first weights are
        those of `init_orthogonal`.
        """
        arguments: dict[str, Any] = {**cls.published_settings, **settings}
        return cls(latent_dim, hidden, ensemble, **arguments)

    def unit(self, value: Tensor) -> Tensor:
        """View the unit of the output to broadcast against values `[.., 1]` (or `[P, .., 1]`)."""
        return (
            self.value_scale
            if self.population is None
            else self.value_scale.view(-1, *[1] * (value.dim() - 1))
        )

    def values(self, latent: Tensor) -> Tensor:
        """Return all heads, `[E, .., 1]`, for latents `[.., D]`.

        Population: `[E, P, .., 1]` for `[P, .., D]`.
        """
        if latent.shape[-1] != self.latent_dim:
            raise ValueError(f"latent must have size {self.latent_dim}, got {list(latent.shape)}")
        if self.population is None:
            flat = latent.reshape(1, -1, self.latent_dim).expand(self.ensemble, -1, -1)
            value = self.net(flat).reshape(self.ensemble, *latent.shape[:-1], 1)
            return value * self.value_scale
        if latent.shape[0] != self.population:
            raise ValueError(
                f"latent must have shape [{self.population}, .., D], got {list(latent.shape)}"
            )
        flat = latent.reshape(self.population, 1, -1, self.latent_dim).expand(
            -1, self.ensemble, -1, -1
        )
        value = self.net(flat).transpose(0, 1).reshape(self.ensemble, *latent.shape[:-1], 1)
        return value * self.unit(value[0])

    def forward(self, latent: Tensor) -> Tensor:
        """Return the value `[.., 1]` of latents `[.., D]`."""
        values = self.values(latent)
        return values.amin(0) if self.reduce == "min" else values.mean(0)

    def member(self, index: int) -> Critic:
        """Return critic `index` of a population alone, with copied weights and equal values."""
        return cut_member(self, index, lambda: {"scale": float(self.value_scale[index])})

    def take(self, members: Sequence[int]) -> Critic:
        """Return the population of some critics of this one, in the order given.

        A copy; this population stays as it is.
        """
        return take_members(
            self, members, lambda: {"scale": self.value_scale[list(members)].tolist()}
        )

    @classmethod
    def stack(cls, critics: Sequence[Self]) -> Self:
        """Return the population of single critics, or of populations, copied.

        Raises:
            ValueError: if there are no critics, or settings other than `scale` differ.
        """
        if not critics:
            raise ValueError("networks must not be empty, got no critics")
        scales = [unit for critic in critics for unit in critic.value_scale.reshape(-1).tolist()]
        return stack_members(critics, {"scale": scales})
