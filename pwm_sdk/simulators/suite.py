"""Control tasks as simulators, with the rewards and observations of their environments."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.functional.rewards import tolerance
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.mass_spring import MassSpring
from pwm_sdk.simulators.mujoco import MuJoCoModel, Reward, load_model

_STAND = {"hopper": 0.6, "walker": 1.2}  # m
Start = Callable[[Any, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def make_simulator(
    name: str,
    *,
    margin: float = 0.0,
    threads: int | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Return a task's own dynamics as a `SimulatorModel`.

    Actions, observations, rewards, start states and episode lengths are those of `make_env(name)`:

    - `cartpole-balance`, `cartpole-swingup` (1 action), `hopper-stand`, `hopper-hop` (4),
      `walker-stand`, `walker-walk`, `walker-run` (6): tasks of the dm_control suite with an action
      repeat of 2. Differs: the cart-pole is integrated by implicitfast, as RK4 has no derivatives;
      its environment keeps RK4.
    - `hopper-forward` (4): the same hopper, started on its foot; the reward is half the speed in
      m/s plus half the upright share of the torso, and the episode ends when it falls.
    - `mass-spring` (159): `MassSpring()`.

    Rewards of the hopper count only above a height of 0.6 m, which is a step with no gradient.

    Args:
        name: one of the above.
        margin: lets that step fall off over so many metres; 0: the environment's reward.
        threads: see `MuJoCoModel`.
        dtype: of rewards and features, see `MuJoCoModel`.

    Raises:
        ValueError: for an unknown task, or one whose reward has no gradient.
        ImportError: if mujoco or dm_control is not installed.
    """
    if name == "mass-spring":
        return MassSpring()
    if name in _FLAT:
        raise ValueError(f"task must have a differentiable reward, got {name!r}, which is flat")
    if name not in _TASKS:
        raise ValueError(f"task must be one of {[*_TASKS, 'mass-spring']}, got {name!r}")
    domain, _, goal = name.partition("-")
    spec = _TASKS[name]
    model = load_model(_suite_file(f"{domain}.xml"), spec.integrator)
    return MuJoCoModel(
        model,
        spec.reward(goal, margin),
        features=spec.features,
        terminated=spec.terminated,
        start=lambda rng: spec.start(model, rng),
        substeps=spec.substeps,
        action_repeat=spec.action_repeat,
        episode_length=spec.episode_length,
        sensors=domain == "hopper",
        threads=threads,
        dtype=dtype,
    )


@dataclass(frozen=True)
class _Spec:
    """What a task adds to its MJCF."""

    reward: Callable[[str, float], Reward]
    features: Callable[[BodyState], Tensor]
    start: Start
    substeps: int
    action_repeat: int = 2
    episode_length: int = 500
    integrator: str | None = None
    terminated: Callable[[BodyState], Tensor] | None = None


def _suite_file(name: str) -> Path:
    """Find a file of the suite without importing it, as that looks for a display."""
    found = importlib.util.find_spec("dm_control")
    if found is None or not found.submodule_search_locations:
        raise ImportError('dm_control must be installed: pip install "pwm-sdk[bench]"')
    return Path(found.submodule_search_locations[0]) / "suite" / name


def _cartpole_reward(goal: str, margin: float) -> Reward:
    def reward(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
        upright = (after.qpos[..., 1:].cos() + 1) / 2
        centred = (1 + tolerance(after.qpos[..., :1], margin=2)) / 2
        effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic")
        calm = (1 + tolerance(after.qvel[..., 1:], margin=5)) / 2
        return upright * (4 + effort) / 5 * calm * centred

    return reward


def _cartpole_features(state: BodyState) -> Tensor:
    place, angle = state.qpos[..., :1], state.qpos[..., 1:]
    return torch.cat((place, angle.cos(), angle.sin(), state.qvel), -1)


def _cartpole_start(model: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.array([0.0, np.pi]) + 0.01 * rng.normal(size=2), 0.01 * rng.normal(size=2)


def _balance_start(model: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-1, 1, 2) * [0.1, 0.034], 0.01 * rng.normal(size=2)


def _hopper_reward(goal: str, margin: float) -> Reward:
    def reward(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
        height = (after.centre("torso") - after.centre("foot"))[..., 2:]
        standing = tolerance(height, (_STAND["hopper"], 2.0), margin)
        if goal == "hop":
            speed = after.velocity()[..., :1]
            return standing * tolerance(speed, (2.0, math.inf), 1.0, "linear", 0.5)
        effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic")
        return standing * (effort.mean(-1, keepdim=True) + 4) / 5

    return reward


def _forward_reward(goal: str, margin: float) -> Reward:
    def reward(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
        return (after.velocity()[..., :1] + after.axis("torso", "z")[..., 2:]) / 2

    return reward


def _hopper_features(state: BodyState) -> Tensor:
    touch = torch.cat((state.sensor("touch_toe"), state.sensor("touch_heel")), -1)
    return torch.cat((state.qpos[..., 1:], state.qvel, torch.log1p(touch)), -1)


def _fallen(state: BodyState) -> Tensor:
    low = (state.centre("torso") - state.centre("foot"))[..., 2:] < 0.45
    return low | (state.axis("torso", "z")[..., 2:] < 0.5)


def _upright_start(model: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    pose = np.array([0.0, -0.1, 0.0, 0.0, -0.4, 0.8, -0.4])  # x, z, tilt, waist, hip, knee, ankle
    noise = 0.02 * rng.normal(size=7) * [0, 0, 1, 1, 1, 1, 1]
    return pose + noise, 0.02 * rng.normal(size=7)


def _walker_reward(goal: str, margin: float) -> Reward:
    target = {"stand": 0.0, "walk": 1.0, "run": 8.0}[goal]

    def reward(before: BodyState, action: Tensor, after: BodyState) -> Tensor:
        height = after.position("torso")[..., 2:]
        standing = tolerance(height, (_STAND["walker"], math.inf), _STAND["walker"] / 2)
        upright = (1 + after.axis("torso", "z")[..., 2:]) / 2
        stand = (3 * standing + upright) / 4
        if target == 0.0:
            return stand
        speed = after.velocity()[..., :1]
        move = tolerance(speed, (target, math.inf), target / 2, "linear", 0.5)
        return stand * (5 * move + 1) / 6

    return reward


def _walker_features(state: BodyState) -> Tensor:
    turns = torch.stack([frame.turn[..., 0, ::2] for frame in state.frames[1:]], -2)
    height = state.position("torso")[..., 2:]
    return torch.cat((turns.flatten(-2), height, state.qvel), -1)


def _random_start(model: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Limited joints anywhere in their range, free hinges at any angle, slides as they are."""
    qpos = model.qpos0.copy()
    for joint in range(model.njnt):
        if model.jnt_limited[joint]:
            qpos[joint] = rng.uniform(*model.jnt_range[joint])
        elif model.jnt_type[joint] == 3:
            qpos[joint] = rng.uniform(-np.pi, np.pi)
    return qpos, np.zeros(model.nv)


_CARTPOLE = {"substeps": 1, "integrator": "implicitfast"}
_TASKS = {
    "cartpole-balance": _Spec(_cartpole_reward, _cartpole_features, _balance_start, **_CARTPOLE),
    "cartpole-swingup": _Spec(_cartpole_reward, _cartpole_features, _cartpole_start, **_CARTPOLE),
    "hopper-stand": _Spec(_hopper_reward, _hopper_features, _random_start, 4),
    "hopper-hop": _Spec(_hopper_reward, _hopper_features, _random_start, 4),
    "hopper-forward": _Spec(
        _forward_reward, _hopper_features, _upright_start, 4, 1, 250, terminated=_fallen
    ),
    "walker-stand": _Spec(_walker_reward, _walker_features, _random_start, 10),
    "walker-walk": _Spec(_walker_reward, _walker_features, _random_start, 10),
    "walker-run": _Spec(_walker_reward, _walker_features, _random_start, 10),
}
_FLAT = ("cartpole-balance-sparse", "cartpole-swingup-sparse", "reacher-easy", "reacher-hard",
         "pendulum-swingup", "cup-catch", "finger-spin", "finger-turn-easy",
         "finger-turn-hard")  # fmt: skip
