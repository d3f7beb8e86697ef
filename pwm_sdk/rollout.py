"""Unroll a policy in any latent model, differentiably."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk import keys
from pwm_sdk.calls import checked, has, least, or_nothing, shaped
from pwm_sdk.checks import whole
from pwm_sdk.contract.models import (
    LatentModel,
    features,
    is_episodic,
    looked_up,
    padded,
    sees_features,
    step_is_parts,
)
from pwm_sdk.contract.policies import (
    Policy,
    StochasticPolicy,
    action_size,
    given,
    is_stochastic,
)
from pwm_sdk.execution.compiling import compiled
from pwm_sdk.functional.context import Context, with_time
from pwm_sdk.functional.gradients import OneBackward
from pwm_sdk.functional.precision import full


@checked(
    horizon=least(1),
    noise=shaped(..., None),
    restart=has("__call__"),
    latent=shaped(..., None, None),
    action=shaped(..., None),
    model=or_nothing,
)
class LatentRollout:
    """Imagine H steps of a policy and pack them into one TensorDict.

    The loop is plain tensors; the graph runs through actions, rewards and the chain of latents.
    What is imagined is `model.step`. A `FactoredModel`, whose `step` is `next` and `reward`, has
    its rewards (and, if `episodic`, its ends) computed in one batch after the loop; a subclass or
    wrapper with a `step` of its own does not. A model with `context` looks its task up once, and of
    one with `features` policies see these.

    Args:
        model: a `LatentModel`.
        policy: a `StochasticPolicy`, or any callable from latents to actions; one that depends on
            the task has a method `given(context)` that returns such a policy. Actions narrower than
            those of a model of tasks (`num_tasks > 0`) are padded with zeros.
        horizon: H, at least 1.
        detach: let the policy see latents without gradient, as published: d action / d latent is
            then left out, and the policy is differentiated once, for all steps in one batch.
        generator: source of the policy's noise; None: torch's global generator.
        compile: compile one step (never the loop over the horizon); rewards are then part of it.

    Raises:
        ValueError: if the horizon is below 1, latents, tasks or actions do not fit, or there is no
            compiler for a step to compile.

    Source: PWM (arXiv 2407.02466), algorithm 1.
    """

    def __init__(
        self,
        model: LatentModel,
        policy: Policy,
        horizon: int,
        *,
        detach: bool = False,
        generator: torch.Generator | None = None,
        compile: bool = False,
    ) -> None:
        whole(1, horizon=horizon)
        self.model, self.policy, self.horizon = model, policy, horizon
        self.detach, self.generator = detach, generator
        self._compile = compile
        self._compiled = compiled(self._advance) if compile else None

    def __call__(
        self,
        latent: Tensor,
        task: Tensor | None = None,
        noise: Tensor | None = None,
        *,
        restart: Callable[[int, Tensor, Tensor], Tensor] | None = None,
    ) -> TensorDict:
        """Unroll from `latent`.

        Args:
            latent: start latents `[.., B, D]` (population: `[P, B, D]`).
            task: ids `[.., B]`, or None for a model without tasks.
            noise: standard normal `[H, .., B, A]`; None: drawn here. Unused by deterministic
                policies.
            restart: maps step, action `[.., B, A]` and next latent `[.., B, D]` to the latents that
                the next step starts from: where an environment that runs along ended its episode,
                the encoding of its new observation. The caller marks these steps in the result.

        Returns:
            TensorDict `[.., B, H]`: `latent` `[D]`, `action` `[A]`, `loc` `[A]` (stochastic
            policies), `task`, and `next` with `latent`, `reward` `[1]`, `terminated`, `truncated`
            (True at the last step) and `done` `[1]`. For a model with `features`, `latent` is what
            policies and values see, `[F]`, and `state` the model's own latent, `[D]`.
        """
        self._check(latent, task, noise)
        model: Any = self.model  # its optional methods are no part of the protocol
        context = looked_up(model, task)
        policy = given(self.policy, context)
        stochastic = is_stochastic(policy)  # slow to tell: not at every step
        together = not self._compile and step_is_parts(model)
        advance, policy = self._stepper(policy, stochastic)
        latent = self._like_later_ones(latent)
        before, after, visible, locs, actions, rewards, ends = [], [], [], [], [], [], []
        for t in range(self.horizon):
            seen = features(model, latent)
            if stochastic and noise is None:
                noise = self.draw_noise(seen, policy)
            draw = noise[t] if stochastic and noise is not None else None
            inputs = policy, latent, None if seen is latent else seen, draw, context, together
            loc, action, (next_latent, *judged) = advance(*inputs)
            before.append(latent)
            visible.append(seen)
            actions.append(action)
            after.append(next_latent)
            if loc is not None:
                locs.append(loc)
            rewards.extend(judged[:1])
            ends.extend(judged[1:])
            latent = next_latent if restart is None else restart(t, action, next_latent)
        start, action, later = (torch.stack(x, -2) for x in (before, actions, after))
        if together:
            reward, ends = self._judge(start, action, later, with_time(context))
        else:
            reward = torch.stack(rewards, -2)
        seen = torch.stack(visible, -2) if sees_features(model) else start
        packed = self._pack(seen, action, locs, task, later, reward, ends)
        if sees_features(model):
            packed[keys.STATE], packed[keys.NEXT, keys.STATE] = start, later
        return packed

    def draw_noise(self, latent: Tensor, policy: StochasticPolicy | None = None) -> Tensor:
        """Draw the noise of all steps `[H, .., B, A]` for latents `[.., B, D]`, in their dtype."""
        own: Any = self.policy if policy is None else policy
        source = latent.device if self.generator is None else self.generator.device
        if source.type != latent.device.type != "meta":  # which has no generators
            raise ValueError(f"generator must be on {latent.device} as the latents, got {source}")
        shape = (self.horizon, *latent.shape[:-1], own.action_dim)
        return torch.randn(
            shape, dtype=latent.dtype, device=latent.device, generator=self.generator
        )

    def _advance(
        self,
        policy: Policy,
        latent: Tensor,
        seen: Tensor | None,
        noise: Tensor | None,
        context: Context,
        together: bool,
    ) -> tuple[Tensor | None, Tensor, tuple[Tensor, ...]]:
        """Return mean before squashing, action, and the latent; not `together`: reward, end too."""
        model: Any = self.model
        own: Any = policy
        seen = latent if seen is None else seen
        seen, loc = seen.detach() if self.detach else seen, None
        if noise is None:
            action = policy(seen)
        else:
            loc = own.loc(seen)
            action = own.squash(loc, noise)
        action = padded("policy's action", action, model.action_dim, model)
        if together:
            return loc, action, (full(model.next(latent, action, context)),)
        next_latent, reward, *ends = model.step(latent, action, context)
        return loc, action, (full(next_latent), full(reward), *ends)

    def _stepper(self, policy: Policy, stochastic: bool) -> tuple[Callable[..., Any], Any]:
        """Return what makes a step, and the policy that it is given."""
        if self._compiled is not None:
            return self._compiled, policy
        once = self.detach and stochastic
        return self._advance, _differentiated_once(policy) if once else policy

    def _like_later_ones(self, latent: Tensor) -> Tensor:
        """Let a start latent take a gradient as later ones do: one compiled graph for all steps."""
        if self._compiled is None or latent.requires_grad or not torch.is_grad_enabled():
            return latent
        return latent.detach().requires_grad_()

    def _judge(self, start: Tensor, action: Tensor, later: Tensor, context: Context) -> Any:
        """Return rewards, and ends where the model predicts them, of all steps in one batch."""
        model: Any = self.model
        rewards, ends = model.reward(start, action, context), []
        if is_episodic(model):
            ends = list(model.terminated(later, context).unbind(-2))
        return rewards, ends

    def _pack(
        self,
        latent: Tensor,
        action: Tensor,
        locs: list[Tensor],
        task: Tensor | None,
        next_latent: Tensor,
        reward: Tensor,
        ends: list[Tensor],
    ) -> TensorDict:
        terminated = torch.stack(ends, -2) if ends else torch.zeros_like(reward, dtype=torch.bool)
        truncated = torch.zeros_like(terminated)
        truncated[..., -1, :] = True
        batch = latent.shape[:-1]
        after = {
            keys.LATENT: features(self.model, next_latent),
            keys.REWARD: reward,
            keys.TERMINATED: terminated,
            keys.TRUNCATED: truncated,
            keys.DONE: terminated | truncated,
        }
        data = {keys.LATENT: latent, keys.ACTION: action, keys.NEXT: TensorDict(after, batch)}
        if locs:
            data[keys.LOC] = torch.stack(locs, -2)
        if task is not None:
            data[keys.TASK] = task.unsqueeze(-1).expand(batch)
        return TensorDict(data, batch)

    def _check(self, latent: Tensor, task: Tensor | None, noise: Tensor | None) -> None:
        if latent.dim() < 2 or latent.shape[-1] != self.model.latent_dim:
            raise ValueError(
                f"latent must have shape [.., B, {self.model.latent_dim}], got {list(latent.shape)}"
            )
        if not latent.is_floating_point():
            raise ValueError(f"latent must be floating point, got {latent.dtype}")
        if task is not None and task.shape != latent.shape[:-1]:
            raise ValueError(
                f"task must have shape {list(latent.shape[:-1])}, got {list(task.shape)}"
            )
        if task is not None and task.device != latent.device:
            raise ValueError(
                f"task must be on the latent's device {latent.device}, got {task.device}"
            )
        width = action_size(self.policy) or self.model.action_dim
        shape = (self.horizon, *latent.shape[:-1], width)
        if noise is not None and noise.shape != shape:
            raise ValueError(f"noise must have shape {list(shape)}, got {list(noise.shape)}")


def _differentiated_once(policy: Policy) -> Any:
    """The policy with one backward pass for all steps, where its parameters take a gradient."""
    own: Any = policy
    parameters = list(policy.parameters()) if isinstance(policy, nn.Module) else []
    if not torch.is_grad_enabled() or not any(p.requires_grad for p in parameters):
        return policy
    loc = OneBackward(own.loc, parameters)
    return SimpleNamespace(loc=loc, squash=own.squash, action_dim=own.action_dim)
