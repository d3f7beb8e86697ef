"""A sheet of masses and actuated springs that walks, in plain torch with exact gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pwm_sdk.calls import checked, least
from pwm_sdk.checks import positive, whole
from pwm_sdk.simulators.own_state import OwnState, check_finite
from pwm_sdk.simulators.springs import Springs


@checked(
    spacing=positive,
    mass=positive,
    stiffness=positive,
    damping=least(0.0),
    friction=least(0.0),
    ground=positive,
    timestep=positive,
    substeps=least(1),
    episode_length=least(1),
    count=least(1),
)
class MassSpring(OwnState):
    r"""A batch of planar lattices whose springs are muscles; a `SimulatorModel`.

    Masses on a grid are joined by springs along rows, columns and both diagonals, and every spring
    changes its rest length by up to `stroke`. Forces on a mass, integrated with a semi-implicit
    Euler step in `substeps` parts:

    .. math:: f = \sum_{springs} (k (l - l_0 (1 + stroke \cdot a)) + c \dot l) e
              + N (e_y - \mu \tanh(v_x / v_0) e_x) - m g e_y

    with the ground's push `N = k_g s softplus(-y / s)`. All of it is smooth; gradients are exact,
    of first order only. The reward is the mean forward speed of the centre over the step, in m/s.

    A state `[.., D]` holds x of all masses relative to their centre, y, and the two velocities, so
    it is its own observation and D = O = 4 * masses. Devices and dtypes follow the states.

    Args:
        columns: masses along the body, at least 2; 13 x 4 masses have 159 springs.
        rows: masses across it, at least 2.
        spacing: m.
        mass: of each, kg.
        stiffness: k, N/m.
        damping: c, N s/m.
        stroke: largest change of a rest length, in (0, 1).
        friction: mu.
        ground: k_g, N/m.
        timestep: s per agent step.
        substeps: parts of an agent step.
        episode_length: agent steps until an episode is truncated.

    Attributes:
        masses: number of masses.
        springs: `[A, 2]` int64, the masses that each joins.
    """

    softness = 0.005  # s, m: how far the ground's push reaches
    creep = 0.1  # v_0, m/s: below this speed friction is viscous

    def __init__(
        self,
        columns: int = 13,
        rows: int = 4,
        *,
        spacing: float = 0.1,
        mass: float = 0.1,
        stiffness: float = 300.0,
        damping: float = 0.5,
        stroke: float = 0.3,
        friction: float = 0.8,
        ground: float = 2000.0,
        timestep: float = 0.016,
        substeps: int = 16,
        episode_length: int = 120,
    ) -> None:
        whole(2, columns=columns, rows=rows)
        if not 0.0 < stroke < 1.0:
            raise ValueError(f"stroke must lie in (0, 1), got {stroke}")
        whole(1, substeps=substeps)
        self.spacing, self.mass, self.stiffness, self.damping = spacing, mass, stiffness, damping
        self.stroke, self.friction, self.ground = stroke, friction, ground
        self.timestep, self.substeps, self.episode_length = timestep, substeps, episode_length
        self.masses, self.springs = columns * rows, _lattice(columns, rows)
        self.latent_dim = self.observation_dim = 4 * self.masses
        self.action_dim = len(self.springs)
        index = torch.arange(self.masses, device="cpu")
        x, y = index // rows * spacing, index % rows * spacing
        self._grid = torch.stack((x - x.mean(), y)).double()
        self._rest = (self._grid[:, self.springs[:, 1]] - self._grid[:, self.springs[:, 0]]).norm(
            dim=0
        )
        ends = F.one_hot(self.springs, self.masses).double()
        self._joins = (ends[:, 1] - ends[:, 0]).T.contiguous()  # [masses, A]
        self._moved: dict[tuple[torch.dtype, torch.device], tuple[Springs, Tensor]] = {}

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw bodies at rest on the ground, positions off by 2% of the spacing: `[count, D]`."""
        shape = (count, 2, self.masses)
        device = "cpu" if generator is None else generator.device
        noise = torch.randn(shape, generator=generator, device=device)
        place = self._grid.to(noise) + 0.02 * self.spacing * noise
        return self._pack(place, torch.zeros_like(place))

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
        springs, rest = self._constants(latent)
        length = rest * (1.0 + self.stroke * action.to(latent.dtype).clamp(-1.0, 1.0))
        state = latent.reshape(-1, 2, 2, self.masses)
        lead = latent.shape[:-1]
        state, travelled = springs.advance(state, length.expand(*lead, -1).flatten(0, -2))
        next_state = self._pack(*state.view(*lead, 2, 2, self.masses).unbind(-3))
        check_finite(next_state)
        return next_state, travelled.view(*lead, 1) / self.timestep

    def _pack(self, place: Tensor, speed: Tensor) -> Tensor:
        x, y = place.unbind(-2)
        centred = torch.stack((x - x.mean(-1, keepdim=True), y), -2)
        return torch.stack((centred, speed), -3).flatten(-3)

    def _constants(self, like: Tensor) -> tuple[Springs, Tensor]:
        key = like.dtype, like.device
        if key not in self._moved:
            springs = Springs(
                self._joins.to(like),
                self.mass,
                self.stiffness,
                self.damping,
                self.friction,
                self.ground,
                self.softness,
                self.creep,
                self.timestep / self.substeps,
                self.substeps,
            )
            self._moved[key] = springs, self._rest.to(like)
        return self._moved[key]


def _lattice(columns: int, rows: int) -> Tensor:
    """Pairs of masses, numbered column by column: along rows, columns and both diagonals."""
    pairs = []
    for i in range(columns):
        for j in range(rows):
            for di, dj in ((1, 0), (0, 1), (1, 1), (1, -1)):
                if i + di < columns and 0 <= j + dj < rows:
                    pairs.append((i * rows + j, (i + di) * rows + j + dj))
    return torch.tensor(pairs, device="cpu")
