"""Masses, springs and ground over one agent step, with the adjoint written out.

An agent step is some hundred small operations. Differentiated as one it needs six tenths of the
time that autograd takes operation by operation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

GRAVITY = 9.81  # m/s^2


class Springs(NamedTuple):
    """What a step depends on beside state and rest lengths; see `MassSpring` for the law.

    Attributes:
        joins: `[M, A]`, -1 and 1 where a spring begins and ends.
        mass: of each mass, kg.
        stiffness: N/m.
        damping: N s/m.
        friction: of the ground.
        ground: its stiffness, N/m.
        softness: m, how far its push reaches.
        creep: m/s, below this speed friction is viscous.
        part: s, of one substep.
        substeps: their number.
    """

    joins: Tensor
    mass: float
    stiffness: float
    damping: float
    friction: float
    ground: float
    softness: float
    creep: float
    part: float
    substeps: int

    def advance(self, state: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Integrate one agent step; differentiable once, in both arguments.

        Args:
            state: place and velocity of the masses `[N, 2, 2, M]`.
            length: rest lengths `[N, A]`, m.

        Returns:
            The next state, and how far the centre went along x `[N, 1]`, m.
        """
        next_state, travelled = _Advance.apply(state, length, self)  # pyright: ignore
        return next_state, travelled

    def force(self, state: Tensor, length: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return forces `[N, 2, M]`, N, and what `pull` needs to differentiate them."""
        along, rate = (state @ self.joins).unbind(1)
        now = _dot(along, along).add_(1e-12).sqrt_()
        way = along / now.unsqueeze(1)
        pace = _dot(rate, way)
        tension = (now - length).mul_(self.stiffness).add_(pace, alpha=self.damping)
        force = (tension.unsqueeze(1) * way) @ self.joins.mT.neg()
        depth = state[:, 0, 1] / -self.softness
        push = F.softplus(depth).mul_(self.ground * self.softness)
        slip = torch.tanh(state[:, 1, 0] / self.creep)
        force[:, 0].addcmul_(push, slip, value=-self.friction)
        force[:, 1].add_(push).sub_(self.mass * GRAVITY)
        return force, (rate, now, way, pace, tension, depth, push, slip)

    def pull(self, given: Tensor, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Map the gradient by the forces `[N, 2, M]` to those by state and rest lengths."""
        rate, now, way, pace, tension, depth, push, slip = kept
        seen = given @ -self.joins
        by_tension = _dot(seen, way)
        damped = self.damping * by_tension
        straight = self.stiffness * by_tension - (tension * by_tension + damped * pace) / now
        by_along = (tension / now).unsqueeze(1) * seen
        by_along += (damped / now).unsqueeze(1) * rate
        by_along += straight.unsqueeze(1) * way
        by_state = torch.stack((by_along, damped.unsqueeze(1) * way), 1) @ self.joins.mT
        by_push = given[:, 1] - self.friction * slip * given[:, 0]
        by_state[:, 0, 1].addcmul_(by_push, torch.sigmoid(depth), value=-self.ground)
        steep = (1.0 - slip * slip).mul_(push).mul_(-self.friction / self.creep)
        by_state[:, 1, 0].addcmul_(steep, given[:, 0])
        return by_state, -self.stiffness * by_tension


class _Advance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, length: Tensor, springs: Springs) -> tuple[Tensor, Tensor]:
        ctx.springs, ctx.kept = springs, []
        need = any(ctx.needs_input_grad)
        state, travelled = state.clone(), torch.zeros_like(length[:, :1])
        place, speed = state.unbind(1)
        for _ in range(springs.substeps):
            force, kept = springs.force(state, length)
            speed.add_(force, alpha=springs.part / springs.mass)
            place.add_(speed, alpha=springs.part)
            travelled.add_(speed[:, 0].mean(-1, keepdim=True), alpha=springs.part)
            if need:
                ctx.kept.append(kept)
        return state, travelled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        springs, (given, by_travel) = ctx.springs, gradients
        given = given.clone()
        by_place, by_speed = given.unbind(1)
        share = by_travel * (springs.part / by_place.shape[-1])
        by_length: Any = 0.0
        for kept in reversed(ctx.kept):
            by_speed.add_(by_place, alpha=springs.part)
            by_speed[:, 0].add_(share)
            by_state, by_rest = springs.pull(by_speed * (springs.part / springs.mass), kept)
            given.add_(by_state)
            by_length = by_length + by_rest
        return given, by_length, None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products `[N, A]` of planar vectors `[N, 2, A]`; a sum over two entries is slower."""
    return (a[:, 0] * b[:, 0]).addcmul_(a[:, 1], b[:, 1])
