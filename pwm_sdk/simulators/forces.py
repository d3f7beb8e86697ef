"""Jacobians of a MuJoCo step through generalised forces, for bodies with many actuators."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from pwm_sdk.simulators.imports import MjData, MjModel, MjStage


def applies(model: MjModel, sensors: bool) -> bool:
    """Tell whether `ForceChain` is exact for a `mujoco.MjModel`, and cheaper than plain columns.

    The integrators that linearise actuators, limits on the force at a joint, and sensors bypass
    the chain.
    """
    euler = model.opt.integrator == 0  # mujoco.mjtIntegrator.mjINT_EULER
    limited = bool(model.jnt_actfrclimited.any()) or bool((model.actuator_actnum > 1).any())
    return euler and not sensors and not limited and model.na + model.nu > model.nv


class ForceChain:
    r"""Differentiates a step with respect to actuators by way of the force that they exert.

    Actuator i with state a, control u and moment arms m_i pushes the joints by `m_i f_i(a_i, u_i)`
    at given positions and velocities. With F, the Jacobian of the next positions and velocities by
    a generalised force,

    .. math:: \partial x' / \partial a_i = F m_i \, \partial f_i / \partial a_i

    and the same for the control; the next a_i depends on a_i and u_i alone. All slopes of f and of
    the next a come from two steps with every entry moved at once, so that 3 nv columns of finite
    differences remain of 2 nv + na + nu.

    Args:
        mujoco: the module.
        model: `mujoco.MjModel` for which it `applies`.
        data: the `mujoco.MjData` to differentiate; it is left as it was.
    """

    def __init__(self, mujoco: ModuleType, model: MjModel, data: MjData) -> None:
        self.mujoco, self.model, self.data = mujoco, model, data
        weight = float(np.linalg.norm(model.opt.gravity) * model.body_mass.sum())
        self.scale = max(weight, 1.0)  # N: forces differ by eps of it
        self.owner = np.flatnonzero(model.actuator_actadr >= 0)
        self.owner = self.owner[np.argsort(model.actuator_actadr[self.owner])]
        self.moment = np.zeros((model.nu, model.nv))
        self.kept = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        limited, (low, high) = model.actuator_ctrllimited.astype(bool), model.actuator_ctrlrange.T
        self.range = np.where(limited, low, -np.inf), np.where(limited, high, np.inf)

    def differentiate(self, eps: float, centred: bool, a: np.ndarray, b: np.ndarray) -> None:
        """Write the Jacobians `[n, n]` and `[n, A]` of a step in tangent space."""
        model, data, nv, owner = self.model, self.data, self.model.nv, self.owner
        stage = self.mujoco.mjtStage
        whole = self.mujoco.mjtState.mjSTATE_INTEGRATION
        self.mujoco.mj_getState(model, data, self.kept, whole)
        self.mujoco.mj_forward(model, data)
        self.mujoco.mj_setState(model, data, self.kept, whole)
        rows = data.moment_rownnz, data.moment_rowadr, data.moment_colind
        self.mujoco.mju_sparse2dense(self.moment, data.actuator_moment, *rows)
        here = None if centred else self._next(stage.mjSTAGE_VEL)
        push = np.empty((2 * nv, nv))
        for i in range(nv):
            step = eps * self.scale
            push[:, i] = self._column("qfrc_applied", i, step, stage.mjSTAGE_VEL, here)[: 2 * nv]
        push = push @ self.moment.T
        force, activation = self._slopes("act", eps, -np.inf, np.inf)
        a[: 2 * nv, 2 * nv :] = push[:, owner] * force[owner]
        a[2 * nv :, 2 * nv :] = np.diag(activation)
        force, activation = self._slopes("ctrl", eps, *self.range)
        b[: 2 * nv] = push * force
        b[2 * nv :] = 0.0
        b[2 * nv + np.arange(len(owner)), owner] = activation
        for i in range(nv):
            a[:, nv + i] = self._column("qvel", i, eps, stage.mjSTAGE_POS, here)
        for i in range(nv):
            a[:, i] = self._column("qpos", i, eps, stage.mjSTAGE_NONE, here)

    def _column(
        self, name: str, i: int, step: float, stage: MjStage, here: np.ndarray | None
    ) -> np.ndarray:
        """Difference of the next state by one entry, two-sided unless the middle is given."""
        ahead = self._moved(name, i, step, stage)
        back = self._moved(name, i, -step, stage) if here is None else here
        width = 2 * step if here is None else step
        nq, nv = self.model.nq, self.model.nv
        column = np.empty(2 * nv + self.model.na)
        self.mujoco.mj_differentiatePos(self.model, column[:nv], width, back[:nq], ahead[:nq])
        column[nv:] = (ahead[nq:] - back[nq:]) / width
        return column

    def _moved(self, name: str, i: int, step: float, stage: MjStage) -> np.ndarray:
        if name == "qpos":
            unit = np.zeros(self.model.nv)
            unit[i] = 1.0
            self.mujoco.mj_integratePos(self.model, self.data.qpos, unit, step)
        else:
            getattr(self.data, name)[i] += step
        return self._next(stage)

    def _slopes(
        self, name: str, eps: float, low: np.ndarray | float, high: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the forces `[A]` and of the next actuator states `[na]`, entry by entry."""
        entries = getattr(self.data, name)
        ends = np.minimum(entries + eps, high), np.maximum(entries - eps, low)
        found = []
        for end in ends:
            entries[:] = end
            state = self._next(self.mujoco.mjtStage.mjSTAGE_VEL)
            found.append((self.data.actuator_force.copy(), state[len(state) - self.model.na :]))
        by_actuator = by_state = ends[0] - ends[1]
        if name == "act":
            by_actuator = np.ones(self.model.nu)
            by_actuator[self.owner] = by_state
        else:
            by_state = by_actuator[self.owner]
        (force, state), (force_back, state_back) = found
        return (force - force_back) / by_actuator, (state - state_back) / by_state

    def _next(self, stage: MjStage) -> np.ndarray:
        """Return qpos, qvel and act of the next step, which takes over what `stage` computed.

        The data then goes back.
        """
        mujoco, model, data = self.mujoco, self.model, self.data
        mujoco.mj_forwardSkip(model, data, stage, True)
        mujoco.mj_Euler(model, data)
        next_state = np.empty(model.nq + model.nv + model.na)
        mujoco.mj_getState(model, data, next_state, mujoco.mjtState.mjSTATE_PHYSICS)
        mujoco.mj_setState(model, data, self.kept, mujoco.mjtState.mjSTATE_INTEGRATION)
        return next_state
