"""The first-order actor: a squashed Gaussian policy on latents, alone or as a population."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked, least
from pwm_sdk.checkpoints.pwm import pwm_actor
from pwm_sdk.checks import positive, whole
from pwm_sdk.functional.gaussian import gaussian_log_prob
from pwm_sdk.models.files import Checkpointed, constructor_arguments
from pwm_sdk.models.layers import StackedMLP
from pwm_sdk.models.members import cut_member, stack_members, take_members


@checked(std=positive, min_std=positive, output_gain=least(0.0))
class FirstOrderActor(Checkpointed):
    """Policy `a = clip(tanh(m(z)) + std * eps)`, reparametrised, for gradients through the model.

    The clip is straight-through: the noise's size in action space does not depend on `m`. With
    `noise="pre_tanh"` the noise is squashed too, `a = tanh(m(z) + std * eps)`.

    The defaults are the settings that were measured to learn (docs/experiments.md);
    `FirstOrderActor.published(latent_dim, action_dim)` has those of PWM's program.

    Args:
        latent_dim: D.
        action_dim: A, padded size where tasks differ.
        hidden: widths; each hidden layer is Linear, LayerNorm and activation, see `norm`.
        population: P policies with stacked parameters; latents are then `[P, .., D]`. None: one
            policy.
        action_dims: real action sizes of the P policies (or of the one); further entries are zero.
            None: all.
        std: initial standard deviation of the noise.
        min_std: lower bound of a learned std.
        learn_std: learn one state-independent std per action dimension, as published; otherwise it
            is set by `set_std`.
        noise: added "post_tanh", or "pre_tanh" (published).
        activation: name of the activation.
        norm: LayerNorm "pre_activation" or "post_activation" (published), or "none", which is less
            sensitive to the other settings on raw states (docs/experiments.md).
        output_gain: scale of the last layer's initial weights; small values start near zero
            actions.

    Raises:
        ValueError: if settings are out of range or do not fit together.

    Source: PWM (arXiv 2407.02466), appendix; SHAC (arXiv 2204.07137) for the state-independent std.
    """

    foreign: ClassVar = {"PWM": pwm_actor}
    published_settings: ClassVar = {
        "std": 0.3679,
        "min_std": 0.24,
        "learn_std": True,
        "noise": "pre_tanh",
        "activation": "mish",
        "norm": "post_activation",
        "output_gain": 1.0,
    }
    renamed: ClassVar = {
        "noise": {"before": "pre_tanh", "after": "post_tanh"},
        "norm": {"before": "pre_activation", "after": "post_activation"},
    }

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (128, 128),
        *,
        population: int | None = None,
        action_dims: Sequence[int] | None = None,
        std: float = 0.1,
        min_std: float = 0.05,
        learn_std: bool = False,
        noise: str = "post_tanh",
        activation: str = "silu",
        norm: str = "pre_activation",
        output_gain: float = 0.1,
    ) -> None:
        settings = constructor_arguments(locals())
        super().__init__()
        self.settings = settings
        if noise not in ("pre_tanh", "post_tanh"):
            raise ValueError(f"noise must be 'pre_tanh' or 'post_tanh', got {noise!r}")
        whole(1, latent_dim=latent_dim, action_dim=action_dim, population=population)
        positive(std=std, min_std=min_std)
        stack = () if population is None else (population,)
        self.latent_dim, self.action_dim, self.population = latent_dim, action_dim, population
        self.noise_after, self.min_std, self.learn_std = noise == "post_tanh", min_std, learn_std
        self.net = StackedMLP(latent_dim, hidden, action_dim, stack, activation, norm, output_gain)
        log_std = torch.as_tensor(std).log().expand(*stack, 1, action_dim).clone()
        if learn_std:
            self.log_std = nn.Parameter(log_std)
        else:
            self.register_buffer("log_std", log_std)
        self.action_mask: Tensor | None
        self.register_buffer(
            "action_mask", _mask(action_dims, population, action_dim), persistent=False
        )

    @classmethod
    def published(
        cls,
        latent_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (400, 200, 100),
        **settings: object,
    ) -> Self:
        """Build an actor with the settings of PWM's program.

        Noise before the tanh, a learned std of at least 0.24, Mish, LayerNorm after it.

        Args:
            latent_dim: D.
            action_dim: A.
            hidden: widths.
            settings: further arguments of the constructor, or others in place of these.

        Source: PWM (arXiv 2407.02466), its program; see docs/differences.md. Its first weights are
        those of `init_uniform`.
        """
        arguments: dict[str, Any] = {**cls.published_settings, **settings}
        return cls(latent_dim, action_dim, hidden, **arguments)

    @property
    def std(self) -> Tensor:
        """Standard deviation of the noise, `[1, A]` or `[P, 1, A]`."""
        log_std = self.log_std
        if self.learn_std:
            log_std = log_std.clamp_min(math.log(self.min_std))
        return log_std.exp()

    @torch.no_grad()
    def set_std(self, std: float | Tensor) -> None:
        """Set the std of the noise; a tensor must broadcast to `[P, 1, A]` or `[1, A]`."""
        given = torch.as_tensor(std, dtype=self.log_std.dtype, device=self.log_std.device)
        self.log_std.copy_(given.log().expand_as(self.log_std))

    @torch.no_grad()
    def clamp_std_(self) -> None:
        """Bring a learned std that fell below `min_std` back to it.

        Below the floor there is no gradient, so a std that is left there could never grow again.
        """
        if self.learn_std:
            self.log_std.clamp_min_(math.log(self.min_std))

    def loc(self, latent: Tensor) -> Tensor:
        """Return the mean before the tanh, `[.., A]`, of latents `[.., D]` (or `[P, .., D]`)."""
        if latent.shape[-1] != self.latent_dim:
            raise ValueError(f"latent must have size {self.latent_dim}, got {list(latent.shape)}")
        if self.population is None:
            return self.net(latent)
        if latent.shape[0] != self.population or latent.dim() < 3:
            raise ValueError(
                f"latent must have shape [{self.population}, .., B, D], got {list(latent.shape)}"
            )
        return self.net(latent.flatten(1, -2)).unflatten(1, latent.shape[1:-1])

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return actions in [-1, 1], `[.., A]`, of means `loc` and standard-normal `noise`.

        Without noise, the mean action.
        """
        if noise is None:
            action = torch.tanh(loc)
        else:
            scaled = noise * self._spread(self.std, loc)
            if self.noise_after:
                action = torch.tanh(loc) + scaled
                action = action + (action.clamp(-1.0, 1.0) - action).detach()
            else:
                action = torch.tanh(loc + scaled)
        return action if self.action_mask is None else action * self._spread(self.action_mask, loc)

    def log_prob(self, loc: Tensor, noise: Tensor) -> Tensor:
        r"""Return the log-density of what `noise` drew, as a function of the parameters.

        .. math:: \ln N(x; \mu, \sigma^2) + const, \quad x = sg(\mu + \sigma \epsilon)

        with mu the mean after the tanh, or before it with `noise="pre_tanh"`. The volume of the
        tanh is left out: it depends on the action alone.

        Args:
            loc: means before the tanh, `[.., A]`.
            noise: standard normal `[.., A]`.

        Returns:
            `[.., 1]`.
        """
        std, mean = self._spread(self.std, loc), torch.tanh(loc) if self.noise_after else loc
        noise, log_std = ((mean + std * noise).detach() - mean) / std, std.log()
        if self.action_mask is not None:
            mask = self._spread(self.action_mask, loc)
            noise, log_std = noise * mask, log_std * mask
        return gaussian_log_prob(noise, log_std)

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return actions `[.., A]`; without standard-normal `noise` `[.., A]` the mean ones."""
        return self.squash(self.loc(latent), noise)

    def member(self, index: int) -> FirstOrderActor:
        """Return policy `index` of a population alone, with copied weights and equal actions."""
        dims = self.settings["action_dims"]
        return cut_member(self, index, lambda: {"action_dims": dims and [dims[index]]})

    def take(self, members: Sequence[int]) -> FirstOrderActor:
        """Return the population of some policies of this one, in the order given.

        A copy; this population stays as it is.
        """
        dims = self.settings["action_dims"]
        return take_members(
            self, members, lambda: {"action_dims": dims and [dims[i] for i in members]}
        )

    @classmethod
    def stack(cls, actors: Sequence[Self]) -> Self:
        """Return the population of single policies, or of populations, copied.

        Raises:
            ValueError: if there are no policies, or settings differ other than `action_dims` and
                `std`.
        """
        if not actors:
            raise ValueError("networks must not be empty, got no actors")
        given = [actor.settings["action_dims"] for actor in actors]
        sizes = [
            dims or [actor.action_dim] * (actor.population or 1)
            for dims, actor in zip(given, actors, strict=True)
        ]
        dims = [size for part in sizes for size in part] if any(given) else None
        return stack_members(actors, {"action_dims": dims}, ["std"])

    def _spread(self, value: Tensor, like: Tensor) -> Tensor:
        """View `[1, A]` or `[P, 1, A]` so that it broadcasts against `[.., A]` or `[P, .., A]`."""
        if self.population is None and like.dim() == 1:
            return value.squeeze(0)
        if self.population is None or like.dim() <= 3:
            return value
        return value.reshape(self.population, *([1] * (like.dim() - 2)), self.action_dim)


def _mask(
    action_dims: Sequence[int] | None, population: int | None, action_dim: int
) -> Tensor | None:
    if action_dims is None:
        return None
    if len(action_dims) != (population or 1) or not all(
        1 <= size <= action_dim for size in action_dims
    ):
        raise ValueError(
            f"action_dims must have {population or 1} entries in 1..{action_dim}, "
            f"got {list(action_dims)}"
        )
    mask = (torch.arange(action_dim) < torch.as_tensor(list(action_dims)).unsqueeze(-1)).float()
    return mask if population is None else mask.unsqueeze(1)
