"""P policies learned at once that go on, end and are kept one by one."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.calls import checked, least, some
from pwm_sdk.checks import at_least
from pwm_sdk.contract.models import LatentModel
from pwm_sdk.contract.parts import PolicyPopulation, Scale, ValuePopulation
from pwm_sdk.contract.policies import StochasticPolicy
from pwm_sdk.execution.settings import Execution
from pwm_sdk.generators import Generators
from pwm_sdk.rollout import LatentRollout

SHARED = ("generator",)  # entries of a state that all members have in common


@checked(index=least(0), members=least(0), states=some)
class Population(PWM):
    """PWM for P policies that share nothing but the model.

    Member i learns what it would learn alone with the same seed, starts and settings, whatever the
    others do, up to the rounding of batched products. Its task and mask come with the batch and
    the actor, its discount with the settings.

    Args:
        model: a `LatentModel`, shared and left as it is.
        actor: a population of P policies.
        critic: a population of P critics.
        config: settings.
        seeds: of each member's imagined noise; a `PWM` alone draws the same numbers from a
            `torch.Generator` of that seed where it does not shuffle.
        rates: factors of both learning rates, one per member; None: all 1.
        return_scale: as for `PWM`; a module whose buffers have one entry per policy, or none.
        generator: source of the order of minibatches, which members have in common, on any device;
            None: one of its own, seeded with 0.
        execution: as for `PWM`.

    Raises:
        ValueError: if networks have no population, or there are not P seeds or rates.

    Source: PWM (arXiv 2407.02466), algorithm 1, for many policies at once.
    """

    def __init__(
        self,
        model: LatentModel,
        actor: PolicyPopulation,
        critic: ValuePopulation,
        config: PWMConfig | None = None,
        *,
        seeds: Sequence[int],
        rates: Sequence[float] | None = None,
        return_scale: Scale | None = None,
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
    ) -> None:
        super().__init__(
            model,
            actor,
            critic,
            config,
            return_scale=return_scale,
            generator=generator,
            execution=execution,
        )
        if self.population is None:
            raise ValueError("population must be given by the actor, got None")
        self.rates = [1.0] * self.population if rates is None else [float(r) for r in rates]
        for name, given in (("seeds", seeds), ("rates", self.rates)):
            if len(given) != self.population:
                raise ValueError(
                    f"{name} must have one entry per policy ({self.population}), got {len(given)}"
                )
        at_least(0, rates=self.rates)
        self._seeds = list(seeds)
        self.streams = Generators(seeds, next(actor.parameters()).device)
        self.rollout = _MemberRollout(
            self.imagined,
            actor,
            self.config.horizon,
            self.streams,
            detach=self.config.detach,
            compile=self.execution.compile,
        )
        self._scale_steps()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give a copy its rates: hooks of an optimizer are not copied with it."""
        self.__dict__.update(state)
        self._scale_steps()

    def _scale_steps(self) -> None:
        if any(rate != 1.0 for rate in self.rates):
            scale_steps(self.actor_optimizer, self.rates)
            scale_steps(self.critic_optimizer, self.rates)

    def _source(self, generator: torch.Generator | None) -> torch.Generator:
        """Return the source of the order of minibatches, which may be on any device."""
        return torch.Generator().manual_seed(0) if generator is None else generator

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some members alone; the others end here.

        In place; `take` of a `FirstOrderActor` or `Critic` returns a copy. `actor`, `critic`,
        `target`, `average`, `return_scale` and the optimizers of this object are replaced by
        smaller ones with the state of the members that stay, and its random streams go on. What
        was read from it before (`population.actor` in a variable, an optimizer handed to a
        scheduler) is then no longer trained: read it again.

        Args:
            members: 0-based, each once, in their new order.
        """
        state = take_members(self.state_dict(), members)
        actor, critic = self.actor.take(members), self.critic.take(members)
        config, gamma = self.config, self.config.gamma
        if not isinstance(gamma, (int, float)):
            config = replace(config, gamma=[gamma[i] for i in members])
        self.__init__(
            self.model,
            actor,
            critic,
            config,
            seeds=[self._seeds[i] for i in members],
            rates=[self.rates[i] for i in members],
            return_scale=_take_scale(self.return_scale, members),
            generator=self.generator,
            execution=self.execution,
        )
        self.load_state_dict(state)

    def member_state(self, index: int) -> dict[str, Any]:
        """Return everything that `update` changes of one member, a population of one."""
        return take_members(self.state_dict(), [index])

    def load_members(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore a `member_state` for each member, of equally many updates."""
        if len(states) != self.population:
            raise ValueError(
                f"states must have one entry per policy ({self.population}), got {len(states)}"
            )
        self.load_state_dict(join_members(states))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        state = super().state_dict()
        updates = state.pop("updates")  # first: the message if members differ in it
        return {"updates": updates, **state, "streams": self.streams.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict` of as many members."""
        super().load_state_dict(state)
        self.streams.set_state(state["streams"])


class _MemberRollout(LatentRollout):
    """A rollout whose noise comes from one stream per policy."""

    def __init__(
        self,
        model: LatentModel,
        policy: StochasticPolicy,
        horizon: int,
        streams: Generators,
        *,
        detach: bool,
        compile: bool,
    ) -> None:
        super().__init__(model, policy, horizon, detach=detach, compile=compile)
        self.streams = streams

    def draw_noise(self, latent: Tensor, policy: StochasticPolicy | None = None) -> Tensor:
        """Draw the noise of all steps `[H, P, B, A]`, of each policy from its own stream."""
        own: Any = self.policy if policy is None else policy
        shape = (self.horizon, *latent.shape[1:-1], own.action_dim)
        kind: dict[str, Any] = {"dtype": latent.dtype, "device": latent.device}
        return self.streams.draw(lambda one: torch.randn(shape, **kind, generator=one), axis=1)


def scale_steps(optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> None:
    """Multiply every step of an optimizer by a factor for each policy: learning rates of their own.

    Args:
        optimizer: all its parameters have the policies as their leading axis.
        rates: P factors.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    factors = [
        torch.tensor(list(rates), dtype=p.dtype, device=p.device).view(-1, *[1] * (p.dim() - 1))
        for p in parameters
    ]
    before: list[Tensor] = []

    def remember(*_: object) -> None:
        before[:] = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def rescale(*_: object) -> None:
        for parameter, old, factor in zip(parameters, before, factors, strict=True):
            parameter.copy_(torch.lerp(old, parameter, factor))

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(rescale)


def take_members(state: object, members: Sequence[int]) -> Any:
    """Cut members out of a state: of tensors with axes, the leading one is that of the members."""
    if isinstance(state, Tensor):
        return state[list(members)] if state.dim() else state.clone()
    if isinstance(state, Mapping):
        return {k: v if k in SHARED else take_members(v, members) for k, v in state.items()}
    return state


def join_members(states: Sequence[Any], name: str = "state") -> Any:
    """Join states into that of all their members.

    Args:
        states: of one kind, in the order of the members.
        name: what they are, for messages.

    Raises:
        ValueError: if states differ in what members share, such as the number of updates.
    """
    first = states[0]
    if isinstance(first, Mapping):
        return {key: join_members([s[key] for s in states], str(key)) for key in first}
    if isinstance(first, Tensor) and first.dim() and name not in SHARED:
        return torch.cat(list(states))
    same = torch.equal if isinstance(first, Tensor) else operator.eq
    if not all(same(first, other) for other in states[1:]):
        raise ValueError(f"{name} must be equal in the states of all members, got {list(states)}")
    return first


def _take_scale(scale: object, members: Sequence[int]) -> Any:
    """Copy a return scale for fewer members."""
    if scale is None:
        return None
    if not isinstance(scale, nn.Module):
        raise ValueError(f"return_scale must be a module to keep members, got {type(scale)}")
    kept = copy.deepcopy(scale)
    for module in kept.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.dim():
                setattr(module, name, buffer[list(members)])
    return kept
