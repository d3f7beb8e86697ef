"""What a task adds to its MJCF, and what the files of the dm_control suite bring."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.bridge import engine
from pwm_sdk.simulators.imports import MjElement, MjModel, MjSpec, absent
from pwm_sdk.simulators.mujoco import MuJoCoModel, Reward

Start = Callable[[MjModel, np.random.Generator], tuple[np.ndarray, ...]]
"""Draws qpos, qvel and, where actuators have states, act of a `mujoco.MjModel`."""


@dataclass(frozen=True)
class Spec:
    """A task of a body.

    Attributes:
        model: a `mujoco.MjModel` or `mujoco.MjSpec`.
        reward: see `MuJoCoModel`, as are the others.
        start: draws a start state of the model.
    """

    model: MjModel
    reward: Reward
    features: Callable[[BodyState], Tensor]
    start: Start
    substeps: int
    action_repeat: int = 2
    episode_length: int = 500
    integrator: str | None = None
    sensors: bool = False
    terminated: Callable[[BodyState], Tensor] | None = None

    def build(self, threads: int | None, dtype: torch.dtype | None) -> MuJoCoModel:
        """Return the task as a simulator."""
        model = self.model.compile() if hasattr(self.model, "compile") else self.model
        return MuJoCoModel(
            model,
            self.reward,
            features=self.features,
            terminated=self.terminated,
            start=partial(self.start, model),
            substeps=self.substeps,
            action_repeat=self.action_repeat,
            episode_length=self.episode_length,
            sensors=self.sensors,
            integrator=self.integrator,
            threads=threads,
            dtype=dtype,
        )


def suite_body(name: str) -> Any:
    """Read a body of the suite as a `mujoco.MjSpec`, without importing dm_control.

    The import would look for a display.

    Raises:
        ImportError: if mujoco or dm_control is not installed.
    """
    mujoco = engine()
    found = importlib.util.find_spec("dm_control")
    if found is None or not found.submodule_search_locations:
        raise ImportError(absent("dm_control"))
    folder = Path(found.submodule_search_locations[0]) / "suite"
    return mujoco.MjSpec.from_file(str(folder / f"{name}.xml"))


def remove(spec: MjSpec, part: MjElement) -> None:
    """Take a body, a geom or another part out of a `mujoco.MjSpec`.

    mujoco 3.3.0 has one method for bodies and one of the part itself, later versions one for all.
    """
    if "delete" in dir(spec):
        spec.delete(part)
    elif isinstance(part, engine().MjsBody):
        spec.detach_body(part)
    else:
        part.delete()


def random_joints(model: MjModel, rng: np.random.Generator) -> np.ndarray:
    """Draw qpos `[nq]`: limited joints in their range, free hinges at any angle.

    Free bodies stay in place, turned by quaternions of positive entries, as in the suite.
    """
    qpos = model.qpos0.copy()
    for joint, (kind, first) in enumerate(zip(model.jnt_type, model.jnt_qposadr, strict=True)):
        if kind == 0:
            turn = rng.uniform(size=4)
            qpos[first + 3 : first + 7] = turn / np.linalg.norm(turn)
        elif model.jnt_limited[joint]:
            qpos[first] = rng.uniform(*model.jnt_range[joint])
        elif kind == 3:
            qpos[first] = rng.uniform(-np.pi, np.pi)
    return qpos


def random_start(model: MjModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `random_joints` at rest."""
    return random_joints(model, rng), np.zeros(model.nv)


def contacts(model: MjModel, qpos: np.ndarray) -> int:
    """Return how many contacts a body has in a pose."""
    data = engine().MjData(model)
    data.qpos[:] = qpos
    engine().mj_fwdPosition(model, data)
    return int(data.ncon)


def forward_reward(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
    """Pay half the speed along x in m/s and half the upright share of the torso, per agent step."""
    return (after.velocity()[..., :1] + after.axis("torso", "z")[..., 2:]) / 2
