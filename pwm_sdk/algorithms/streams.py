"""Simulated environments that run on from one training window to the next."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from pwm_sdk.checks import whole
from pwm_sdk.contract.models import features
from pwm_sdk.contract.parts import Moments, StartingModel
from pwm_sdk.functional.gradients import clip_cotangent
from pwm_sdk.functional.precision import exact


class Streams:
    """B environments of a simulator, seen by a `LatentRollout` as its model.

    A window starts where the last one ended. Where an episode ends inside a window, by itself or
    by the time limit, `restart` puts a new start state into the row, without gradient to the old.
    The first episodes are cut at times that are spread over the rows, so that windows hold all
    phases of an episode.

    Args:
        model: a `SimulatorModel`; `features` may be missing.
        count: B.
        normalizer: normalises what policies and values see, for example a `RunningMeanStd`; None:
            as it is.
        limit: clips the cotangent of each state in the backward pass (see `clip_cotangent`);
            None: not.
        generator: source of the start states.
        device: of the states; None: as the simulator draws them.

    Attributes:
        state: `[B, D]`, where the next window starts.
        age: `[B, 1]` int64, steps since the last start.
        finished: returns of the whole episodes that ended in the last window, environment units.

    Raises:
        ValueError: if there is not at least one environment.
    """

    def __init__(
        self,
        model: StartingModel,
        count: int,
        *,
        normalizer: Moments | None = None,
        limit: float | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> None:
        whole(1, environments=count)
        self.model: Any = model
        self.normalizer, self.limit = normalizer, limit
        self.generator = generator
        self.latent_dim, self.action_dim = model.latent_dim, model.action_dim
        state: Tensor = model.reset(count, generator)
        self.state = state if device is None else state.to(device)
        device = self.state.device
        spread = torch.arange(count, device=device) * model.episode_length // count
        self.age = spread.unsqueeze(-1)
        self.total = torch.zeros(count, 1, dtype=torch.float64, device=device)
        self.total[spread > 0] = float("nan")  # of an episode that will not be whole
        self.finished: list[Tensor] = []
        self._reward = self._terminated = torch.zeros(0)
        self._cuts: list[Tensor] = []
        self._clipped: list[Tensor] = []

    def begin(self) -> Tensor:
        """Start a window: forget the marks of the last one and return the states `[B, D]`."""
        self.finished, self._cuts, self._clipped = [], [], []
        return self.state

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the model's states of observations."""
        return self.model.encode(observation, task)

    def features(self, latent: Tensor) -> Tensor:
        """Return what policies and values see, normalised: `[.., D]` to `[.., O]`."""
        seen = exact(partial(features, self.model), latent)
        return seen if self.normalizer is None else self.normalizer.normalize(seen)

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Advance all environments one step; returns next states, rewards and terminations."""
        next_latent, reward, *ends = exact(self.model.step, latent, action, task)
        self._terminated = ends[0] if ends else torch.zeros_like(reward, dtype=torch.bool)
        self._reward = reward.detach()
        return next_latent, reward, self._terminated

    def restart(self, t: int, action: Tensor, latent: Tensor) -> Tensor:
        """Begin new episodes where they ended; for `LatentRollout(..)(.., restart=)`.

        Args:
            t: step of the window, counted by the rollout.
            action: `[B, A]`, unused.
            latent: next states `[B, D]`.

        Returns:
            States `[B, D]` from which the next step starts.
        """
        self.age, self.total = self.age + 1, self.total + self._reward
        cut = (self.age >= self.model.episode_length) & ~self._terminated
        self._cuts.append(cut)
        if self.limit is not None:
            latent = clip_cotangent(latent, self.limit, self._clipped.append)
        over = (cut | self._terminated).squeeze(-1)
        if not over.is_meta and bool(over.any()):
            totals = self.total[over, 0]
            self.finished.append(totals[~totals.isnan()])
            fresh = latent.detach().clone()
            fresh[over] = self.model.reset(int(over.sum()), self.generator).to(latent)
            latent = torch.where(over.unsqueeze(-1), fresh, latent)
            self.age, self.total = self.age.clone(), self.total.clone()
            self.age[over], self.total[over] = 0, 0.0
        self.state = latent.detach()
        return latent

    def truncated(self) -> Tensor:
        """Marks of the window's steps that ended an episode by its time limit, `[B, H, 1]`."""
        return torch.stack(self._cuts, -2)

    def clipped_share(self) -> Tensor:
        """Share of the window's states whose cotangent was clipped, a scalar."""
        if not self._clipped:
            return torch.zeros((), device=self.state.device)
        return torch.stack(self._clipped).float().mean()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the running episodes."""
        return {"where": self.state, "age": self.age, "total": self.total}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a `state_dict`, of any device."""
        device = self.state.device
        found = (state[name].to(device) for name in ("where", "age", "total"))
        self.state, self.age, self.total = found
