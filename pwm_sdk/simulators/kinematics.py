"""The frames of all bodies of a MuJoCo model, as torch functions of positions and velocities."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.simulators.imports import MjModel

_FREE, _BALL, _SLIDE = 0, 1, 2  # mujoco.mjtJoint; 3 is a hinge


class Frame(NamedTuple):
    """The frame of a body, or of all, in the world.

    Attributes:
        place: `[.., 3]`, m.
        turn: axes in columns, `[.., 3, 3]`.
        velocity: of the origin, `[.., 3]`, m/s.
        rate: of turning, `[.., 3]`, rad/s.
    """

    place: Tensor
    turn: Tensor
    velocity: Tensor
    rate: Tensor

    def local(self, vector: Tensor) -> Tensor:
        """Return a vector of the world `[.., 3]` in this frame."""
        return (vector.unsqueeze(-2) @ self.turn).squeeze(-2)


class Bodies:
    """The kinematic tree of a `mujoco.MjModel`: frames of all bodies from qpos and qvel.

    Follows `mj_kinematics` and `mj_comVel`, for all joint types, with exact gradients: one 4 x 4
    product per body, everything else for all joints at once.

    Args:
        model: `mujoco.MjModel`.
    """

    def __init__(self, model: MjModel) -> None:
        self.names = {model.body(i).name: i for i in range(model.nbody)}
        self.sites = {model.site(i).name: i for i in range(model.nsite)}
        self.sensors = {
            model.sensor(i).name: (int(model.sensor_adr[i]), int(model.sensor_dim[i]))
            for i in range(model.nsensor)
        }
        self._parents = model.body_parentid.tolist()
        self._kinds = [np.flatnonzero(model.jnt_type == kind) for kind in range(4)]
        self._constants = {
            "ipos": _constant(model.body_ipos),
            "mass": _constant(model.body_mass),
            "rest": _affine(_matrix(_constant(model.body_quat)), _constant(model.body_pos)),
            "anchor": _constant(model.jnt_pos),
            "axis": _constant(model.jnt_axis),
            "cross": _constant(np.stack([_cross(axis) for axis in model.jnt_axis])),
            "qpos0": _constant(model.qpos0),
            "qadr": _constant(model.jnt_qposadr).long(),
            "by_kind": _constant(np.argsort(np.concatenate(self._kinds))),
            "site_body": _constant(model.site_bodyid).long(),
            "site": _affine(_matrix(_constant(model.site_quat)), _constant(model.site_pos)),
            **_dofs(model),
        }
        for body in model.jnt_bodyid[model.jnt_type == _FREE]:  # its place is in qpos
            self._constants["rest"][body] = torch.eye(4, dtype=torch.float64, device="cpu")
        self._slots = _slots(model)

    def frames(self, qpos: Tensor, qvel: Tensor) -> Frame:
        """Return the frames of all bodies, `[.., nbody, ..]`, the world first.

        Args:
            qpos: `[.., nq]`.
            qvel: `[.., nv]`.
        """
        fixed = self.on(qpos)
        ahead, world = self._chain(self._moved(qpos, fixed), fixed)
        joints = world[..., fixed["joint_parent"], :, :] @ ahead
        joint = fixed["dof_joint"]
        turn, unit = joints[..., joint, :3, :3], fixed["dof_axis"]
        way = torch.where(fixed["dof_fixed"], unit, rotated(turn, unit)) * qvel.unsqueeze(-1)
        point = rotated(turn, fixed["anchor"][joint]) + joints[..., joint, :3, 3]
        drift = torch.where(fixed["dof_turns"], torch.linalg.cross(point, way, dim=-1), way)
        rate = fixed["moves"] @ (way * fixed["dof_turns"])
        place = world[..., :3, 3]
        velocity = fixed["moves"] @ drift + torch.linalg.cross(rate, place, dim=-1)
        return Frame(place, world[..., :3, :3], velocity, rate)

    def site(self, frames: Frame, site: int) -> Frame:
        """Return the frame of a site, given those of all bodies."""
        fixed = self.on(frames.place)
        body, offset = int(fixed["site_body"][site]), fixed["site"][site]
        frame = at_body(frames, body)
        arm = rotated(frame.turn, offset[:3, 3])
        return Frame(
            frame.place + arm,
            frame.turn @ offset[:3, :3],
            frame.velocity + torch.linalg.cross(frame.rate, arm, dim=-1),
            frame.rate,
        )

    def on(self, like: Tensor) -> dict[str, Tensor]:
        """Return the model's constants on the device of `like`, in float64."""
        if self._constants["ipos"].device != like.device:
            self._constants = {k: v.to(like.device) for k, v in self._constants.items()}
        return self._constants

    def _moved(self, qpos: Tensor, fixed: dict[str, Tensor]) -> Tensor:
        """Return what each joint does to its body, `[.., joints, 4, 4]`."""
        parts = []
        for kind, joints in enumerate(self._kinds):
            if not len(joints):
                continue
            first, anchor = fixed["qadr"][joints], fixed["anchor"][joints]
            if kind in (_FREE, _BALL):
                quaternion = first + (3 if kind == _FREE else 0)
                turn = _matrix(qpos[..., quaternion.unsqueeze(-1) + _range(4, qpos)])
                if kind == _FREE:
                    shift = qpos[..., first.unsqueeze(-1) + _range(3, qpos)]
                else:
                    shift = anchor - rotated(turn, anchor)
            else:
                travel = (qpos[..., first] - fixed["qpos0"][first]).unsqueeze(-1)
                eye = torch.eye(3, dtype=qpos.dtype, device=qpos.device)
                if kind == _SLIDE:
                    shift = fixed["axis"][joints] * travel
                    turn = eye.expand(*shift.shape, 3)
                else:
                    cross, angle = fixed["cross"][joints], travel.unsqueeze(-1)
                    turn = eye + angle.sin() * cross + (1.0 - angle.cos()) * (cross @ cross)
                    shift = anchor - rotated(turn, anchor)
            parts.append(_affine(turn, shift))
        return torch.cat(parts, -3)[..., fixed["by_kind"], :, :]

    def _chain(self, moved: Tensor, fixed: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return joints in their parent bodies and bodies in the world, `[.., n, 4, 4]`."""
        parts: list[Tensor] = []
        for joints, before in self._slots.parts:
            start = parts[-1][..., before, :, :] if parts else fixed["rest"][before]
            parts.append(start @ moved[..., joints, :, :])
        ahead = torch.cat(parts, -3)[..., self._slots.order, :, :]
        rest = fixed["rest"].expand(*ahead.shape[:-3], -1, -1, -1)
        relative = torch.cat((ahead, rest), -3)[..., self._slots.last, :, :].unbind(-3)
        world = [relative[0]]
        for parent, offset in zip(self._parents[1:], relative[1:], strict=True):
            world.append(world[parent] @ offset if parent else offset)
        return ahead, torch.stack(world, -3)


def at_body(frames: Frame, body: int) -> Frame:
    """Return one of the frames of all bodies."""
    place, turn, velocity, rate = frames
    return Frame(place[..., body, :], turn[..., body, :, :], velocity[..., body, :],
                 rate[..., body, :])  # fmt: skip


class _Slots(NamedTuple):
    """How the joints of a body follow each other.

    Attributes:
        parts: first joints of bodies with the bodies, then second joints with their place among
            the first, and so on.
        order: from the joints in that order to the model's.
        last: of each body, its last joint, or after all joints the body itself.
    """

    parts: list[tuple[Any, Any]]
    order: Any
    last: Any


def _slots(model: MjModel) -> _Slots:
    parts: list[tuple[Any, Any]] = []
    previous: list[int] = []
    for slot in range(int(model.body_jntnum.max(initial=0))):
        bodies = np.flatnonzero(model.body_jntnum > slot)
        joints = (model.body_jntadr[bodies] + slot).tolist()
        before = bodies.tolist() if not slot else [previous.index(j - 1) for j in joints]
        parts.append((joints, before))
        previous = joints
    order = np.argsort([j for joints, _ in parts for j in joints]).tolist()
    some = model.body_jntnum > 0
    last = np.where(
        some, model.body_jntadr + model.body_jntnum - 1, model.njnt + np.arange(model.nbody)
    )
    return _Slots(parts, order, last.tolist())


def _dofs(model: MjModel) -> dict[str, Tensor]:
    """Describe the degrees of freedom: joint, axis, and which bodies they move."""
    axis, turns = np.zeros((model.nv, 3)), np.zeros((model.nv, 1), bool)
    fixed = np.zeros((model.nv, 1), bool)
    for kind, first, own in zip(model.jnt_type, model.jnt_dofadr, model.jnt_axis, strict=True):
        if kind == _FREE:
            axis[first : first + 6] = np.tile(np.eye(3), (2, 1))
            fixed[first : first + 3], turns[first + 3 : first + 6] = True, True
        elif kind == _BALL:
            axis[first : first + 3], turns[first : first + 3] = np.eye(3), True
        else:
            axis[first], turns[first] = own, kind != _SLIDE
    moves = np.zeros((model.nbody, model.nv))
    for body in range(1, model.nbody):
        first, count = model.body_dofadr[body], model.body_dofnum[body]
        moves[body] = moves[model.body_parentid[body]]
        moves[body, first : first + count] = 1.0
    return {
        "dof_joint": _constant(model.dof_jntid).long(),
        "dof_axis": _constant(axis),
        "dof_turns": _constant(turns),
        "dof_fixed": _constant(fixed),
        "joint_parent": _constant(model.body_parentid[model.jnt_bodyid]).long(),
        "moves": _constant(moves),
    }


def _constant(value: np.ndarray) -> Tensor:
    """Return a copy on the CPU, whatever torch's default device; `Bodies.on` moves it."""
    return torch.tensor(value, device="cpu")


def _range(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device)


def rotated(turn: Tensor, vector: Tensor) -> Tensor:
    """Return vectors `[.., 3]` turned by matrices `[.., 3, 3]`."""
    return (turn @ vector.unsqueeze(-1)).squeeze(-1)


def _affine(turn: Tensor, shift: Tensor) -> Tensor:
    """Join turns `[.., 3, 3]` and shifts `[.., 3]` to `[.., 4, 4]`."""
    top = torch.cat((turn, shift.unsqueeze(-1)), -1)
    below = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat((top, below), -2)


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
