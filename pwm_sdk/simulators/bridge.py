"""Batched MuJoCo steps as numpy arrays, with finite-difference Jacobians, spread over threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pwm_sdk.simulators import forces
from pwm_sdk.simulators.imports import MjModel, load

_QUIET = 2  # count of warnings before any


def engine() -> Any:
    """Import mujoco.

    Raises:
        ImportError: if it is not installed, or does not load.
    """
    return sys.modules.get("mujoco") or load("mujoco", _mujoco)


def _mujoco() -> Any:
    import mujoco

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
    def of(cls, model: MjModel, sensors: bool) -> Layout:
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

    def __init__(self, model: MjModel, layout: Layout, substeps: int, threads: int) -> None:
        self.model, self.layout, self.threads = model, layout, threads
        self.substeps, self.eps, self.centred = substeps, 1e-6, True
        self._start_workers()

    def _start_workers(self) -> None:
        self._workers = [_Worker(self.model, self.layout) for _ in range(self.threads)]
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    def spread(self, threads: int) -> None:
        """Step the rows in so many threads from now on."""
        self.threads = threads
        self._start_workers()

    def __getstate__(self) -> dict[str, Any]:
        """Drop the workers, which hold nothing from one call to the next."""
        return {k: v for k, v in vars(self).items() if k not in ("_workers", "_pool")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give a copy workers of its own."""
        vars(self).update(state)
        self._start_workers()

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
            ValueError: if MuJoCo finds a state or an acceleration NaN, infinite or huge.
        """
        layout, count = self.layout, len(states)
        next_state = np.empty_like(states)
        rows = layout.tangent + layout.sensors
        jacobians = None
        if need:
            jacobians = Jacobians(
                np.empty((count, rows, layout.tangent)), np.empty((count, rows, self.model.nu))
            )

        def work(worker: _Worker, part: range) -> None:
            for i in part:
                worker.load(states[i], controls[i])
                if jacobians is None:
                    worker.step(self.substeps)
                else:
                    out = jacobians.state[i], jacobians.control[i]
                    worker.differentiate(self.substeps, self.eps, self.centred, *out)
                if worker.failed():
                    raise ValueError(
                        f"latent must stay finite, got a state in row {i} that MuJoCo finds NaN, "
                        f"infinite or huge: {states[i]}"
                    )
                worker.store(next_state[i])

        bounds = np.linspace(0, count, len(self._workers) + 1).astype(int).tolist()
        parts = [range(low, high) for low, high in pairwise(bounds)]
        if self._pool is None:
            work(self._workers[0], parts[0])
        else:
            futures = [
                self._pool.submit(work, *pair) for pair in zip(self._workers, parts, strict=True)
            ]
            wait(futures)  # no worker may be at it when an error of another leaves
            for future in futures:
                future.result()
        return next_state, jacobians

    def start(self, moving: np.ndarray) -> np.ndarray:
        """Complete `[B, qpos + qvel + act]` to states: no warm start, sensors without actuation.

        So does the suite when an episode starts.
        """
        layout, worker = self.layout, self._workers[0]
        off = int(worker.mujoco.mjtDisableBit.mjDSBL_ACTUATION)
        flags = self.model.opt.disableflags
        self.model.opt.disableflags = flags | off
        states = np.zeros((len(moving), layout.size))
        states[:, : layout.moving] = moving
        for state in states:
            worker.load(state, 0.0)
            worker.mujoco.mj_forward(self.model, worker.data)
            worker.store(state)
        self.model.opt.disableflags = flags
        states[:, layout.moving : layout.moving + layout.qvel] = 0.0
        return states


class _Worker:
    """One `mujoco.MjData` with room for the Jacobians of one substep."""

    def __init__(self, model: MjModel, layout: Layout) -> None:
        self.mujoco, self.model, self.layout = engine(), model, layout
        self.data = self.mujoco.MjData(model)
        self.cuts = tuple(np.cumsum(layout.parts).tolist())
        kinds = self.mujoco.mjtWarning
        bad = (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC)
        self.bad = tuple(int(kind) for kind in bad)
        n, sensors = layout.tangent, layout.sensors
        self.a, self.b = np.zeros((n, n)), np.zeros((n, model.nu))
        self.c = np.zeros((sensors, n)) if sensors else None
        self.d = np.zeros((sensors, model.nu)) if sensors else None
        self.chain = None
        if forces.applies(model, bool(sensors)):
            self.chain = forces.ForceChain(self.mujoco, model, self.data)
        self._forget_warnings()

    def load(self, state: np.ndarray, control: np.ndarray | float) -> None:
        """Continue from a state `[size]` with a control `[A]`."""
        data, (q, v, a, w, _) = self.data, self.cuts
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:] = state[:q], state[q:v], state[a:w]
        data.ctrl[:] = control
        if a > v:
            data.act[:] = state[v:a]

    def store(self, state: np.ndarray) -> None:
        """Write where the data is into `state` `[size]`."""
        data, (q, v, a, w, end) = self.data, self.cuts
        state[:q], state[q:v], state[a:w] = data.qpos, data.qvel, data.qacc_warmstart
        if a > v:
            state[v:a] = data.act
        if end > w:
            state[w:] = data.sensordata

    def step(self, substeps: int) -> None:
        """Advance."""
        self.mujoco.mj_step(self.model, self.data, substeps)

    def differentiate(
        self, substeps: int, eps: float, centred: bool, state: np.ndarray, control: np.ndarray
    ) -> None:
        """Advance and write the Jacobians `[n + sensors, n]` and `[n + sensors, A]`."""
        n = self.layout.tangent
        for substep in range(substeps):
            if self.chain is not None:
                self.chain.differentiate(eps, centred, self.a, self.b)
            else:
                self.mujoco.mjd_transitionFD(
                    self.model, self.data, eps, centred, self.a, self.b, self.c, self.d
                )
            self.mujoco.mj_step(self.model, self.data)
            first = substep == 0
            whole, pushed = state[:n].copy(), control[:n].copy()
            if self.c is not None and self.d is not None:
                state[n:] = self.c if first else self.c @ whole
                control[n:] = self.d if first else self.c @ pushed + self.d
            state[:n] = self.a if first else self.a @ whole
            control[:n] = self.b if first else self.a @ pushed + self.b

    def failed(self) -> bool:
        """Tell whether MuJoCo gave up on the state, and forget it."""
        warning = self.data.warning
        if all(warning[kind].number == _QUIET for kind in self.bad):
            return False
        self._forget_warnings()
        return True

    def _forget_warnings(self) -> None:
        """Set the counts to `_QUIET`.

        At a count of 0 MuJoCo would write to a log file. It then resets the data, after which the
        count is 1.
        """
        self.mujoco.mj_resetData(self.model, self.data)
        for kind in self.bad:
            self.data.warning[kind].number = _QUIET
