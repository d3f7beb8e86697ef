"""The substeps of newton bodies as one torch operation, differentiated by warp's tape."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pwm_sdk.simulators.imports import load

# of newton, which is imported when needed
NewtonContacts: TypeAlias = Any
NewtonModel: TypeAlias = Any


def engine() -> tuple[Any, Any]:
    """Import newton and warp, on which it runs.

    Raises:
        ImportError: if one is not installed, or does not load.
    """
    return load("newton", _newton, "newton"), load("warp", _warp, "newton")


def _newton() -> Any:
    import newton  # pyright: ignore[reportMissingImports]

    return newton


def _warp() -> Any:
    import warp  # pyright: ignore[reportMissingImports]

    return warp


class Substeps:
    """Advances the N particles of a newton model by some substeps, with constant activations.

    Warp records the substeps once, over memory that torch sees as well; a call fills this memory
    and runs them forward or back. N and T count the particles and tetrahedra of all bodies.

    Args:
        model: a `newton.Model` of particles and tetrahedra.
        contacts: its `newton.Contacts`, the same in every substep.
        count: substeps.
        part: s, of each.
    """

    def __init__(
        self, model: NewtonModel, contacts: NewtonContacts, count: int, part: float
    ) -> None:
        newton, wp = engine()

        def shared(value: Tensor, slope: Tensor, dtype: object) -> Any:
            return wp.from_torch(value, dtype, requires_grad=True, grad=wp.from_torch(slope, dtype))

        self._warp, self._contacts, self._part = wp, contacts, part
        self._device = torch.device(wp.device_to_torch(model.device))
        self._solver = newton.solvers.SolverSemiImplicit(model, enable_tri_contact=False)
        # positions, velocities and forces of each substep
        shape = count + 1, 3, model.particle_count, 3
        self._values = torch.zeros(shape, dtype=torch.float32, device=self._device)
        self._slopes = torch.zeros_like(self._values)
        self._active = self._values.new_zeros(model.tet_count)
        self._active_slopes = torch.zeros_like(self._active)
        self._states = [model.state() for _ in self._values]
        for state, value, slope in zip(self._states, self._values, self._slopes, strict=True):
            state.particle_q, state.particle_qd, state.particle_f = (
                shared(v, s, wp.vec3) for v, s in zip(value, slope, strict=True)
            )
        self._control = model.control()
        self._control.tet_activations = shared(self._active, self._active_slopes, wp.float32)
        self._tape = wp.Tape()
        with self._tape:
            self._run()

    def __call__(self, state: Tensor, active: Tensor) -> Tensor:
        """Return positions and velocities `[2, N, 3]` after the substeps.

        Args:
            state: positions and velocities before, `[2, N, 3]` float32.
            active: activations `[T]` float32.
        """
        return _Advance.apply(state, active, self)

    def forward(self, state: Tensor, active: Tensor) -> Tensor:
        """Fill the memory with a run from `state` and return the last one."""
        self._values[0, :2] = state
        self._values[:, 2] = 0.0
        self._active.copy_(active)
        with self._stream():
            self._run()
        return self._values[-1, :2].clone()

    def backward(self, run: Tensor, active: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slopes `[2, N, 3]` and `[T]` of a run whose last state has `slope`."""
        self._values.copy_(run)
        self._active.copy_(active)
        self._slopes.zero_()
        self._active_slopes.zero_()
        self._slopes[-1, :2] = slope
        with self._stream():
            self._tape.backward()
        return self._slopes[0, :2].clone(), self._active_slopes.clone()

    def recorded(self) -> Tensor:
        """Return what `backward` needs of the run that the memory holds."""
        return self._values.clone()

    def _run(self) -> None:
        for before, after in zip(self._states, self._states[1:], strict=False):
            self._solver.step(before, after, self._control, self._contacts, self._part)

    def _stream(self) -> AbstractContextManager:
        """Let warp queue its kernels after torch's."""
        if self._device.type != "cuda":
            return nullcontext()
        return self._warp.ScopedStream(self._warp.stream_from_torch(self._device))


class _Advance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, active: Tensor, substeps: Substeps) -> Tensor:
        next_state = substeps.forward(state, active)
        if any(ctx.needs_input_grad):
            ctx.substeps = substeps
            ctx.save_for_backward(substeps.recorded(), active)
        return next_state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        run, active = ctx.saved_tensors
        return *ctx.substeps.backward(run, active, slopes[0]), None
