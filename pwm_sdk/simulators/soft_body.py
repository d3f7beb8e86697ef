"""A soft body of actuated tetrahedra that crawls, simulated by newton."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.calls import checked, least
from pwm_sdk.checks import positive, whole
from pwm_sdk.simulators.own_state import OwnState, check_finite
from pwm_sdk.simulators.tape import NewtonContacts, NewtonModel, Substeps, engine

GRAVITY = 9.81  # m/s^2, as newton has it
_KEPT = 8  # batch sizes that stay built


@checked(
    spacing=positive,
    mass=positive,
    stiffness=positive,
    volume_stiffness=positive,
    damping=least(0.0),
    friction=least(0.0),
    ground=positive,
    timestep=positive,
    substeps=least(1),
    episode_length=least(1),
    count=least(1),
)
class SoftBody(OwnState):
    r"""A batch of soft blocks whose every tetrahedron is a muscle; a `SimulatorModel`.

    Cells on a grid are cut into five tetrahedra each, of a Neo-Hookean material with the Lame
    parameters mu and lambda. An action moves the volume that a tetrahedron aims at by up to
    `stroke` of its own: 1 swells it, -1 shrinks it. The ground pushes with

    .. math:: N = k_g \max(-z, 0), \quad
              f = -\frac{v_t}{|v_t|} \min(k_f |v_t|, \mu_g N)

    Newton's semi-implicit solver integrates in `substeps` parts, and warp's tape differentiates
    them. Both are float32, whatever the states are. The reward is the mean forward speed of the
    centre over the step, in m/s.

    A state `[.., D]` holds x and y of all particles relative to their centre, and z, particle by
    particle, then the velocities; it is its own observation and D = O = 6 * particles. Bodies live
    on the device of the states. The first step compiles newton's kernels, which takes a minute;
    warp keeps them for later processes. On a CPU they run in one thread.

    Args:
        cells: along x, y and z; 8 x 2 x 2 cells have 160 tetrahedra and 81 particles.
        spacing: edge of a cell, m.
        mass: of each particle, kg.
        stiffness: mu, Pa.
        volume_stiffness: lambda, Pa.
        damping: of every edge of a tetrahedron, N s/m.
        stroke: largest change of the volume aimed at, as a share, in (0, 1).
        friction: mu_g; the slope k_f is such that it is reached at 0.1 m/s under the body's weight.
        ground: k_g, N/m.
        timestep: s per agent step.
        substeps: parts of an agent step.
        episode_length: agent steps until an episode is truncated.

    Attributes:
        particles: number of particles.

    Raises:
        ValueError: if sizes or the stroke are out of range.
        ImportError: if newton is not installed.

    Source: newton's documentation of `SolverSemiImplicit`.
    """

    creep = 0.1  # m/s: below this speed friction is viscous

    def __init__(
        self,
        cells: tuple[int, int, int] = (8, 2, 2),
        *,
        spacing: float = 0.1,
        mass: float = 0.1,
        stiffness: float = 1e4,
        volume_stiffness: float = 1e4,
        damping: float = 0.5,
        stroke: float = 0.3,
        friction: float = 0.8,
        ground: float = 2000.0,
        timestep: float = 0.016,
        substeps: int = 16,
        episode_length: int = 120,
    ) -> None:
        if len(cells) != 3 or min(cells) < 1:
            raise ValueError(f"cells must be three numbers of at least 1, got {cells}")
        if not 0.0 < stroke < 1.0:
            raise ValueError(f"stroke must lie in (0, 1), got {stroke}")
        whole(1, substeps=substeps)
        self.spacing, self.mass, self.stroke = spacing, mass, stroke
        self.friction, self.ground = friction, ground
        self.timestep, self.substeps, self.episode_length = timestep, substeps, episode_length
        lame = {"k_mu": stiffness, "k_lambda": volume_stiffness}
        self._body = _block(cells, spacing, damping, density=mass / spacing**3, **lame)
        self.particles, self.action_dim = len(self._body.particle_q), self._body.tet_count
        self.latent_dim = self.observation_dim = 6 * self.particles
        self._grid = _centred(torch.from_numpy(np.array(self._body.particle_q, np.float32)))
        self._bottom = (cells[0] + 1) * (cells[1] + 1)
        self._batches: dict[tuple[int, torch.device], Substeps] = {}

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw bodies on the ground, positions off by 2% of the spacing: `[count, D]`.

        They move at about 1 cm/s, as newton's friction has no derivative at rest.
        """
        device = "cpu" if generator is None else generator.device
        shape = (count, 2, self.particles, 3)
        noise = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
        place = _centred(self._grid.to(device) + 0.02 * self.spacing * noise[:, 0])
        state = torch.stack((place, 0.01 * noise[:, 1]), 1).flatten(1)
        return state.to(torch.get_default_dtype())

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Advance one agent step.

        Args:
            latent: states `[.., D]`.
            action: `[.., A]` in [-1, 1], clipped.
            task: unused.

        Returns:
            Next states `[.., D]` and rewards `[.., 1]`, m/s.

        Raises:
            ValueError: if a state does not stay finite.
        """
        place, speed = latent.reshape(-1, 2, self.particles, 3).float().unbind(1)
        state = torch.stack((_centred(place), speed)).flatten(1, 2)
        active = -self.stroke * action.float().clamp(-1.0, 1.0).flatten()
        next_state = self._batch(len(place), latent.device)(state, active)
        check_finite(next_state)
        place, speed = next_state.view(2, -1, self.particles, 3)
        reward = place[..., 0].mean(-1, keepdim=True) / self.timestep
        next_state = torch.stack((_centred(place), speed), 1).view(latent.shape)
        return next_state.to(latent), reward.view(*latent.shape[:-1], 1).to(latent)

    def _batch(self, count: int, device: torch.device) -> Substeps:
        """Return the substeps of `count` bodies."""
        key = count, device
        if key not in self._batches:
            if len(self._batches) == _KEPT:
                del self._batches[next(iter(self._batches))]
            model = self._model(count, device)
            part = self.timestep / self.substeps
            self._batches[key] = Substeps(model, _on_ground(model), self.substeps, part)
        return self._batches[key]

    def _model(self, count: int, device: torch.device) -> Any:
        newton, wp = engine()
        grip = self.friction * GRAVITY * self.mass * self.particles / self._bottom / self.creep
        material = {"ke": self.ground, "kd": 0.0, "kf": grip, "mu": self.friction}
        builder = newton.ModelBuilder()
        builder.replicate(self._body, count)
        builder.add_ground_plane(cfg=builder.ShapeConfig(**material))
        model = builder.finalize(device=wp.device_from_torch(device))
        for name, value in material.items():  # newton takes the mean of particle and ground
            setattr(model, f"soft_contact_{name}", value)
        model.particle_grid = None  # particles do not collide: newton's gradient would be wrong
        model.tri_count = 0  # the surface has no stiffness
        return model


def _block(cells: tuple[int, int, int], spacing: float, damping: float, **material: float) -> Any:
    """A newton builder that holds one body, its lowest particles at a height of 0.

    Springs without stiffness damp it along the edges: newton's damping of a tetrahedron depends on
    how fast it moves as a whole.
    """
    newton, wp = engine()
    builder = newton.ModelBuilder()
    builder.add_soft_grid(
        pos=wp.vec3(),
        rot=wp.quat_identity(),
        vel=wp.vec3(),
        **dict(zip(("dim_x", "dim_y", "dim_z"), cells, strict=True)),
        **dict.fromkeys(("cell_x", "cell_y", "cell_z"), spacing),
        **material,
        k_damp=0.0,
        add_surface_mesh_edges=False,
        particle_radius=0.0,
    )
    edges = {tuple(sorted(pair)) for tet in builder.tet_indices for pair in combinations(tet, 2)}
    for first, second in sorted(edges):
        builder.add_spring(first, second, ke=0.0, kd=damping, control=0.0)
    return builder


def _centred(place: Tensor) -> Tensor:
    """Positions `[.., P, 3]` with x and y relative to their means."""
    return torch.cat((place[..., :2] - place[..., :2].mean(-2, keepdim=True), place[..., 2:]), -1)


def _on_ground(model: NewtonModel) -> NewtonContacts:
    """Contacts of every particle with the ground, which hold wherever it is: no search is needed.

    The solver leaves out those whose particle is above the ground.
    """
    count = model.particle_count
    contacts = engine()[0].Contacts(0, count, device=model.device)
    contacts.soft_contact_count.fill_(count)
    contacts.soft_contact_particle.assign(np.arange(count, dtype=np.int32))
    contacts.soft_contact_shape.fill_(0)
    contacts.soft_contact_normal.fill_((0.0, 0.0, 1.0))
    return contacts
