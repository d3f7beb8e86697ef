"""Control tasks as simulators, by name, with the rewards and observations of their environments."""

from __future__ import annotations

import difflib
from functools import partial
from typing import Any

import torch

from pwm_sdk.calls import checked, least
from pwm_sdk.simulators.domains import cartpole, dog, hopper, humanoid, quadruped, walker
from pwm_sdk.simulators.domains import muscles as muscles
from pwm_sdk.simulators.domains import swimmer as swimmer
from pwm_sdk.simulators.mass_spring import MassSpring
from pwm_sdk.simulators.soft_body import SoftBody
from pwm_sdk.tasks import BUILT_IN

_TASKS = {
    f"{body.__name__.rpartition('.')[2]}-{goal}": partial(body.task, goal)
    for body in (cartpole, hopper, walker, quadruped, humanoid, dog)
    for goal in body.GOALS
}
_NAMES = (*_TASKS, "muscle-humanoid", "mass-spring", "soft-body", "swimmer-N")
_FLAT = ("cartpole-balance-sparse", "cartpole-swingup-sparse", "reacher-easy", "reacher-hard",
         "reacher-three-easy", "reacher-three-hard", "pendulum-swingup", "cup-catch", "finger-spin",
         "finger-turn-easy", "finger-turn-hard")  # fmt: skip
_MOCAP = "Meta-World moves its hand by mocap"


@checked(margin=least(0.0), threads=least(1))
def make_simulator(
    name: str,
    *,
    margin: float = 0.0,
    threads: int | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Return a task's own dynamics as a `SimulatorModel`.

    Actions, observations, rewards, start states and episode lengths are those of `make_env(name)`:

    - Tasks of the dm_control suite with an action repeat of 2: `cartpole-balance`,
      `cartpole-swingup` (1 action), `hopper-stand`, `hopper-hop` (4), `walker-stand`,
      `walker-walk`, `walker-run` (6), `quadruped-walk`, `quadruped-run` (12), `humanoid-stand`,
      `humanoid-walk`, `humanoid-run` (21), `dog-stand`, `dog-walk`, `dog-trot`, `dog-run` (38).
      Differs: the cart-pole is integrated by implicitfast, as RK4 has no derivatives; its
      environment keeps RK4.
    - `hopper-forward`, `humanoid-forward`, `muscle-humanoid` (168 muscles): started on the feet;
      the reward is half the speed in m/s plus half the upright share of the torso, and the episode
      ends when the body falls.
    - `swimmer-N`: the suite's chain with N joints, N at least 1; the reward is its speed ahead, in
      links per second.
    - `mass-spring` (159): `MassSpring()`.
    - `soft-body` (160): `SoftBody()`.

    Rewards of `hopper-stand` and `hopper-hop` count only above a height of 0.6 m, which is a step
    with no gradient.

    Args:
        name: one of the above.
        margin: lets that step fall off over so many metres; 0: the environment's reward.
        threads: see `MuJoCoModel`.
        dtype: of rewards and features, see `MuJoCoModel`.

    Raises:
        ValueError: if the task is unknown, is one of Meta-World's, its reward has no gradient, or
            no simulator was written for it.
        ImportError: if mujoco, dm_control or newton is not installed but needed.
    """
    if name == "mass-spring":
        return MassSpring()
    if name == "soft-body":
        return SoftBody()
    if name == "muscle-humanoid":
        return muscles.task().build(threads, dtype)
    domain, _, count = name.partition("-")
    if domain == "swimmer" and count.isdecimal():
        return swimmer.task(int(count)).build(threads, dtype)
    if name not in _TASKS:
        raise ValueError(_refusal(name))
    return _TASKS[name](margin).build(threads, dtype)


def _refusal(name: str) -> str:
    if name in _FLAT:
        return f"task must have a differentiable reward, got {name!r}, which is flat"
    if name.startswith("mw-"):
        return f"task must move by its control, got {name!r}: {_MOCAP}"
    if f"mw-{name}" in BUILT_IN:
        return f"task must move by its control, got {name!r}, which is 'mw-{name}': {_MOCAP}"
    if name in BUILT_IN:
        return f"task must have a simulator, got {name!r}, for which none was written"
    nearest = difflib.get_close_matches(name, _NAMES, n=3, cutoff=0.5) or _NAMES
    return f"task must be a known name, got {name!r}; nearest: {', '.join(nearest)}"
