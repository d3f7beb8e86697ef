"""The tangent space of the positions of a MuJoCo model."""

from __future__ import annotations

import numpy as np

from pwm_sdk.simulators.imports import MjModel


class Tangent:
    """Pulls cotangents between states and the tangent space of their positions.

    A quaternion q has four entries and three directions: dq = q (0, w) / 2 for a rotation vector w
    in the body's frame. Other positions are their own tangents.

    Args:
        model: `mujoco.MjModel`.
    """

    def __init__(self, model: MjModel) -> None:
        self.nq, self.nv = model.nq, model.nv
        self.quaternions: list[tuple[int, int]] = []
        plain_q, plain_v = [], []
        for q, v, kind in zip(model.jnt_qposadr, model.jnt_dofadr, model.jnt_type, strict=True):
            if kind == 0:  # free: three numbers of place, then a quaternion
                plain_q += [q, q + 1, q + 2]
                plain_v += [v, v + 1, v + 2]
                q, v = q + 3, v + 3
            if kind < 2:
                self.quaternions.append((int(q), int(v)))
            else:
                plain_q.append(q)
                plain_v.append(v)
        self.plain_q, self.plain_v = np.array(plain_q, int), np.array(plain_v, int)

    def pull(self, qpos: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Turn gradients by qpos `[B, nq]` into gradients by the tangent, `[B, nv]`."""
        if not self.quaternions:
            return gradient
        result = np.empty((len(qpos), self.nv))
        result[:, self.plain_v] = gradient[:, self.plain_q]
        for q, v in self.quaternions:
            turn = _turn(qpos[:, q : q + 4])
            result[:, v : v + 3] = 0.5 * np.einsum("bij,bi->bj", turn, gradient[:, q : q + 4])
        return result

    def push(self, qpos: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Turn gradients by the tangent `[B, nv]` into those by qpos `[B, nq]` of least norm."""
        if not self.quaternions:
            return gradient
        result = np.empty((len(qpos), self.nq))
        result[:, self.plain_q] = gradient[:, self.plain_v]
        for q, v in self.quaternions:
            turn = _turn(qpos[:, q : q + 4])
            result[:, q : q + 4] = 2.0 * np.einsum("bij,bj->bi", turn, gradient[:, v : v + 3])
        return result


def _turn(quaternion: np.ndarray) -> np.ndarray:
    """Columns q i, q j, q k of unit quaternions `[B, 4]`: `[B, 4, 3]`."""
    w, x, y, z = quaternion.T
    columns = [[-x, -y, -z], [w, -z, y], [z, w, -x], [-y, x, w]]
    return np.stack([np.stack(row, -1) for row in columns], -2)
