"""Names for what rewards and features need to know of a MuJoCo state."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from pwm_sdk.simulators.kinematics import Bodies, Frame, at_body, rotated

_AXES = {"x": 0, "y": 1, "z": 2}


class BodyState:
    """Names for the parts of states, for rewards and features.

    Attributes:
        qpos: `[.., nq]`.
        qvel: `[.., nv]`.
        act: `[.., na]`, actuator states.
        sensors: `[.., nsensordata]`, empty where states carry none.
    """

    def __init__(
        self, bodies: Bodies, qpos: Tensor, qvel: Tensor, act: Tensor, sensors: Tensor
    ) -> None:
        self.bodies, self.qpos, self.qvel, self.act = bodies, qpos, qvel, act
        self.sensors = sensors

    @cached_property
    def frames(self) -> Frame:
        """Frames of all bodies, `[.., nbody, ..]`, computed when they are first asked for."""
        return self.bodies.frames(self.qpos, self.qvel)

    def frame(self, body: str) -> Frame:
        """Return the frame of a body.

        Raises:
            ValueError: if the model has no such name.
        """
        return at_body(self.frames, _find("body", body, self.bodies.names))

    def site(self, name: str) -> Frame:
        """Return the frame of a site.

        Raises:
            ValueError: if the model has no such name.
        """
        return self.bodies.site(self.frames, _find("site", name, self.bodies.sites))

    def position(self, body: str) -> Tensor:
        """Return the origin of a body, `[.., 3]`, m: MuJoCo's xpos."""
        return self.frame(body).place

    def centre(self, body: str) -> Tensor:
        """Return the centre of mass of a body, `[.., 3]`, m: MuJoCo's xipos."""
        frame = self.frame(body)
        offset = self.bodies.on(self.qpos)["ipos"][self.bodies.names[body]]
        return frame.place + rotated(frame.turn, offset)

    def axis(self, body: str, name: str) -> Tensor:
        """Return a body's "x", "y" or "z" axis in the world, `[.., 3]`: a column of xmat."""
        return self.frame(body).turn[..., _AXES[name]]

    def velocity(self) -> Tensor:
        """Return the velocity of the centre of all mass, `[.., 3]`, m/s."""
        fixed, frames = self.bodies.on(self.qpos), self.frames
        arm = rotated(frames.turn, fixed["ipos"])
        velocity = frames.velocity + torch.linalg.cross(frames.rate, arm, dim=-1)
        return fixed["mass"] @ velocity / fixed["mass"].sum()

    def sensor(self, name: str) -> Tensor:
        """Return what a sensor showed in the last substep, `[.., n]`.

        Raises:
            ValueError: if states do not carry the sensor.
        """
        if name not in self.bodies.sensors or not self.sensors.shape[-1]:
            known = sorted(self.bodies.sensors) if self.sensors.shape[-1] else "none (sensors=True)"
            raise ValueError(f"sensor must be carried by the states: {known}, got {name!r}")
        first, size = self.bodies.sensors[name]
        return self.sensors[..., first : first + size]


def _find(kind: str, name: str, known: dict[str, int]) -> int:
    if name not in known:
        raise ValueError(f"{kind} must be one of {sorted(known)}, got {name!r}")
    return known[name]
