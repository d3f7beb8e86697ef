"""Where the bodies of a MuJoCo model are and how they move, as torch functions of its state."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_FREE, _BALL, _SLIDE = 0, 1, 2  # mujoco.mjtJoint; 3 is a hinge
_AXES = {"x": 0, "y": 1, "z": 2}


class Frame(NamedTuple):
    """A body's frame: place, axes in columns, velocity of the origin, rate of turning (world)."""

    place: Tensor
    turn: Tensor
    velocity: Tensor
    rate: Tensor


class Bodies:
    """The kinematic tree of a `mujoco.MjModel`: frames of all bodies from qpos and qvel.

    Follows `mj_kinematics` and `mj_comVel`, for all joint types, with exact gradients.

    Args:
        model: `mujoco.MjModel`.
    """

    def __init__(self, model: Any) -> None:
        self.names = {model.body(i).name: i for i in range(model.nbody)}
        self.sensors = {
            model.sensor(i).name: (int(model.sensor_adr[i]), int(model.sensor_dim[i]))
            for i in range(model.nsensor)
        }
        self._constants: dict[str, Tensor] = {
            "pos": torch.tensor(model.body_pos),
            "ipos": torch.tensor(model.body_ipos),
            "turn": _matrix(torch.tensor(model.body_quat)),
            "mass": torch.tensor(model.body_mass),
            "anchor": torch.tensor(model.jnt_pos),
            "axis": torch.tensor(model.jnt_axis),
            "cross": torch.tensor(np.stack([_cross(axis) for axis in model.jnt_axis])),
        }
        self._parents = model.body_parentid.tolist()
        self._joints = [
            list(range(first, first + count))
            for first, count in zip(model.body_jntadr, model.body_jntnum, strict=True)
        ]
        self._kinds = model.jnt_type.tolist()
        self._qadr, self._vadr = model.jnt_qposadr.tolist(), model.jnt_dofadr.tolist()
        self._qpos0 = model.qpos0.tolist()

    def frames(self, qpos: Tensor, qvel: Tensor) -> list[Frame]:
        """Return the frames of all bodies, the world first.

        Args:
            qpos: `[.., nq]`.
            qvel: `[.., nv]`.

        Returns:
            Per body `[.., 3]`, `[.., 3, 3]`, `[.., 3]` and `[.., 3]`; m, m/s and rad/s.
        """
        still = torch.zeros_like(qpos[..., :1]).expand(*qpos.shape[:-1], 3)
        eye = torch.eye(3, dtype=qpos.dtype, device=qpos.device).expand(*qpos.shape[:-1], 3, 3)
        result = [Frame(still, eye, still, still)]
        fixed = self.on(qpos)
        for body in range(1, len(self._parents)):
            parent = result[self._parents[body]]
            offset = _apply(parent.turn, fixed["pos"][body])
            frame = Frame(
                parent.place + offset,
                parent.turn @ fixed["turn"][body],
                parent.velocity + torch.linalg.cross(parent.rate, offset),
                parent.rate,
            )
            for joint in self._joints[body]:
                frame = self._move(frame, joint, qpos, qvel, fixed)
            result.append(frame)
        return result

    def on(self, like: Tensor) -> dict[str, Tensor]:
        """Return the model's constants on the device of `like`, in float64."""
        if self._constants["pos"].device != like.device:
            self._constants = {k: v.to(like.device) for k, v in self._constants.items()}
        return self._constants

    def _move(
        self, frame: Frame, joint: int, qpos: Tensor, qvel: Tensor, fixed: dict[str, Tensor]
    ) -> Frame:
        """Return the frame behind a joint."""
        q, v, kind = self._qadr[joint], self._vadr[joint], self._kinds[joint]
        if kind == _FREE:
            turn = _matrix(qpos[..., q + 3 : q + 7])
            rate = _apply(turn, qvel[..., v + 3 : v + 6])
            return Frame(qpos[..., q : q + 3], turn, qvel[..., v : v + 3], rate)
        if kind == _SLIDE:
            axis = _apply(frame.turn, fixed["axis"][joint])
            shift = axis * (qpos[..., q : q + 1] - self._qpos0[q])
            velocity = frame.velocity + torch.linalg.cross(frame.rate, shift)
            return frame._replace(
                place=frame.place + shift, velocity=velocity + axis * qvel[..., v : v + 1]
            )
        arm = _apply(frame.turn, fixed["anchor"][joint])
        anchor_velocity = frame.velocity + torch.linalg.cross(frame.rate, arm)
        if kind == _BALL:
            turn = frame.turn @ _matrix(qpos[..., q : q + 4])
            rate = frame.rate + _apply(turn, qvel[..., v : v + 3])
        else:
            angle = (qpos[..., q] - self._qpos0[q])[..., None, None]
            cross = fixed["cross"][joint]
            eye = torch.eye(3, dtype=qpos.dtype, device=qpos.device)
            local = eye + angle.sin() * cross + (1.0 - angle.cos()) * (cross @ cross)
            turn = frame.turn @ local
            rate = frame.rate + _apply(turn, fixed["axis"][joint]) * qvel[..., v : v + 1]
        back = -_apply(turn, fixed["anchor"][joint])
        velocity = anchor_velocity + torch.linalg.cross(rate, back)
        return Frame(frame.place + arm + back, turn, velocity, rate)


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
    def frames(self) -> list[Frame]:
        """Frames of all bodies, computed when they are first asked for."""
        return self.bodies.frames(self.qpos, self.qvel)

    def frame(self, body: str) -> Frame:
        """Return the frame of a body.

        Raises:
            ValueError: for a name that the model does not have.
        """
        if body not in self.bodies.names:
            raise ValueError(f"body must be one of {sorted(self.bodies.names)}, got {body!r}")
        return self.frames[self.bodies.names[body]]

    def position(self, body: str) -> Tensor:
        """Return the origin of a body, `[.., 3]`, m: MuJoCo's xpos."""
        return self.frame(body).place

    def centre(self, body: str) -> Tensor:
        """Return the centre of mass of a body, `[.., 3]`, m: MuJoCo's xipos."""
        frame = self.frame(body)
        offset = self.bodies.on(self.qpos)["ipos"][self.bodies.names[body]]
        return frame.place + _apply(frame.turn, offset)

    def axis(self, body: str, name: str) -> Tensor:
        """Return a body's "x", "y" or "z" axis in the world, `[.., 3]`: a column of xmat."""
        return self.frame(body).turn[..., _AXES[name]]

    def velocity(self) -> Tensor:
        """Return the velocity of the centre of all mass, `[.., 3]`, m/s."""
        fixed = self.bodies.on(self.qpos)
        total = torch.zeros_like(self.frames[0].place)
        for frame, offset, mass in zip(self.frames, fixed["ipos"], fixed["mass"], strict=True):
            arm = _apply(frame.turn, offset)
            total = total + mass * (frame.velocity + torch.linalg.cross(frame.rate, arm))
        return total / fixed["mass"].sum()

    def sensor(self, name: str) -> Tensor:
        """Return what a sensor showed in the last substep, `[.., n]`.

        Raises:
            ValueError: for a sensor that states do not carry.
        """
        if name not in self.bodies.sensors or not self.sensors.shape[-1]:
            known = sorted(self.bodies.sensors) if self.sensors.shape[-1] else "none (sensors=True)"
            raise ValueError(f"sensor must be carried by the states: {known}, got {name!r}")
        first, size = self.bodies.sensors[name]
        return self.sensors[..., first : first + size]


def _apply(turn: Tensor, vector: Tensor) -> Tensor:
    return (turn @ vector.unsqueeze(-1)).squeeze(-1)


def _matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices `[.., 3, 3]` of quaternions `[.., 4]`, normalised here."""
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), -1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), -1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), -1),
    )
    return torch.stack(rows, -2)


def _cross(axis: np.ndarray) -> np.ndarray:
    """Matrix of the cross product with an axis."""
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
