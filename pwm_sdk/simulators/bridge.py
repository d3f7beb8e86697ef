"""Batched MuJoCo steps as numpy arrays, with finite-difference Jacobians, spread over threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

_QUIET = 2  # count of warnings before any


def engine() -> Any:
    """Import mujoco.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import mujoco
    except ImportError as error:
        raise ImportError('mujoco must be installed: pip install "pwm-sdk[bench]"') from error
    return mujoco


class Layout(NamedTuple):
    """Sizes of the parts of a state `[qpos, qvel, act, warmstart, sensors]`.

    The warm start is the acceleration from which MuJoCo's solver begins: with it a step depends on
    the state alone, and equals a step of an unbroken simulation to the bit. Sensors are read as
    `mj_step` leaves them.
    """

    qpos: int
    qvel: int
    act: int
    sensors: int

    @property
    def size(self) -> int:
        """Size of a state."""
        return self.qpos + 2 * self.qvel + self.act + self.sensors

    @property
    def moving(self) -> int:
        """Size of `[qpos, qvel, act]`, which determines the future."""
        return self.qpos + self.qvel + self.act

    @property
    def tangent(self) -> int:
        """Size of the tangent space of `[qpos, qvel, act]`."""
        return 2 * self.qvel + self.act

    @property
    def parts(self) -> list[int]:
        """Sizes in order, for a split."""
        return [self.qpos, self.qvel, self.act, self.qvel, self.sensors]

    @classmethod
    def of(cls, model: Any, sensors: bool) -> Layout:
        """Return the layout of a `mujoco.MjModel`, with or without its sensors."""
        return cls(model.nq, model.nv, model.na, model.nsensordata if sensors else 0)


class Jacobians(NamedTuple):
    """Derivatives of a step in tangent space: `[B, n + sensors, n]` and `[B, n + sensors, A]`."""

    state: np.ndarray
    control: np.ndarray


class Bridge:
    """Steps B rows, each from its own state, in W threads with their own `mujoco.MjData`.

    Args:
        model: `mujoco.MjModel`; its options are read at every step.
        layout: of the states.
        substeps: simulator steps per call, with the control held.
        threads: W; MuJoCo releases the interpreter lock.

    Attributes:
        eps: size of the differences.
        centred: two-sided differences: twice the cost, error of order eps^2.
    """

    def __init__(self, model: Any, layout: Layout, substeps: int, threads: int) -> None:
        self.mujoco, self.model, self.layout = engine(), model, layout
        self.substeps, self.eps, self.centred = substeps, 1e-6, True
        self._data = [self._worker() for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def roll(
        self, states: np.ndarray, controls: np.ndarray, need: bool
    ) -> tuple[np.ndarray, Jacobians | None]:
        """Step every row.

        Args:
            states: `[B, size]` float64.
            controls: `[B, A]` float64, in the units of the actuators.
            need: compute Jacobians.

        Returns:
            Next states `[B, size]`, and Jacobians or None.

        Raises:
            ValueError: for a state or an acceleration that MuJoCo finds NaN, infinite or huge.
        """
        layout, count = self.layout, len(states)
        following = np.empty_like(states)
        rows = layout.tangent + layout.sensors
        jacobians = None
        if need:
            jacobians = Jacobians(
                np.empty((count, rows, layout.tangent)), np.empty((count, rows, self.model.nu))
            )
        parts = np.array_split(np.arange(count), len(self._data))

        def work(data: Any, part: np.ndarray) -> None:
            for i in part:
                self._load(data, states[i])
                data.ctrl[:] = controls[i]
                derivatives = self._advance(data, need)
                if any(data.warning[kind].number != _QUIET for kind in self._bad):
                    self._forget_warnings(data)
                    raise ValueError(
                        f"latent must stay finite, got a state in row {i} that MuJoCo finds NaN, "
                        f"infinite or huge: {states[i]}"
                    )
                self.store(data, following[i])
                if jacobians is not None and derivatives is not None:
                    jacobians.state[i], jacobians.control[i] = derivatives

        if self._pool is None:
            work(self._data[0], parts[0])
        else:
            list(self._pool.map(work, self._data, parts))
        return following, jacobians

    def start(self, moving: np.ndarray) -> np.ndarray:
        """Complete `[B, qpos + qvel + act]` to states: no warm start, sensors without control."""
        states = np.zeros((len(moving), self.layout.size))
        states[:, : self.layout.moving] = moving
        data = self._data[0]
        for state in states:
            self._load(data, state)
            data.ctrl[:] = 0.0
            self.mujoco.mj_forward(self.model, data)
            self.store(data, state)
            warm = self.layout.moving
            state[warm : warm + self.layout.qvel] = 0.0
        return states

    def store(self, data: Any, state: np.ndarray) -> None:
        """Write the state of a `mujoco.MjData` into `state` `[size]`."""
        parts = np.split(state, np.cumsum(self.layout.parts)[:-1])
        parts[0][:], parts[1][:], parts[2][:] = data.qpos, data.qvel, data.act
        parts[3][:] = data.qacc_warmstart
        parts[4][:] = data.sensordata[: self.layout.sensors]

    @property
    def _bad(self) -> tuple[int, ...]:
        kinds = self.mujoco.mjtWarning
        return int(kinds.mjWARN_BADQPOS), int(kinds.mjWARN_BADQVEL), int(kinds.mjWARN_BADQACC)

    def _worker(self) -> Any:
        data = self.mujoco.MjData(self.model)
        self._forget_warnings(data)
        return data

    def _forget_warnings(self, data: Any) -> None:
        """Set the counts to `_QUIET`.

        At a count of 0 MuJoCo would write to a log file. It then resets the data, after which the
        count is 1.
        """
        self.mujoco.mj_resetData(self.model, data)
        for kind in self._bad:
            data.warning[kind].number = _QUIET

    def _load(self, data: Any, state: np.ndarray) -> None:
        parts = np.split(state, np.cumsum(self.layout.parts)[:-1])
        data.qpos[:], data.qvel[:], data.act[:], data.qacc_warmstart[:] = parts[:4]

    def _advance(self, data: Any, need: bool) -> tuple[np.ndarray, np.ndarray] | None:
        """Take the substeps; chain their Jacobians."""
        model, layout = self.model, self.layout
        if not need:
            self.mujoco.mj_step(model, data, self.substeps)
            return None
        n, sensors = layout.tangent, layout.sensors
        a, b = np.empty((n, n)), np.empty((n, model.nu))
        c = np.empty((sensors, n)) if sensors else None
        d = np.empty((sensors, model.nu)) if sensors else None
        whole, control = np.eye(n), np.zeros((n, model.nu))
        shown, shown_control = np.zeros((sensors, n)), np.zeros((sensors, model.nu))
        for _ in range(self.substeps):
            self.mujoco.mjd_transitionFD(model, data, self.eps, self.centred, a, b, c, d)
            if c is not None and d is not None:
                shown, shown_control = c @ whole, c @ control + d
            whole, control = a @ whole, a @ control + b
            self.mujoco.mj_step(model, data)
        return np.vstack((whole, shown)), np.vstack((control, shown_control))


class Tangent:
    """Pulls cotangents between states and the tangent space of their positions.

    A quaternion q has four entries and three directions: dq = q (0, w) / 2 for a rotation vector w
    in the body's frame. Other positions are their own tangents.

    Args:
        model: `mujoco.MjModel`.
    """

    def __init__(self, model: Any) -> None:
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
