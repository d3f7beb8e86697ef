"""Any MuJoCo model as a latent model, differentiated by finite differences."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.calls import checked, least, shaped
from pwm_sdk.checks import file_path, whole
from pwm_sdk.simulators.bodies import BodyState
from pwm_sdk.simulators.bridge import Bridge, Layout, engine
from pwm_sdk.simulators.imports import MjModel
from pwm_sdk.simulators.kinematics import Bodies
from pwm_sdk.simulators.tangent import Tangent

Reward = Callable[[BodyState, Tensor, BodyState], Tensor]
"""Maps the state before, the action `[.., A]` and the state after to a reward `[.., 1]`."""


@checked(
    substeps=least(1),
    action_repeat=least(1),
    episode_length=least(1),
    threads=least(1),
    count=least(1),
    observation=shaped(..., None),
)
class MuJoCoModel:
    r"""A MuJoCo model as a differentiable `SimulatorModel`.

    Forward is `mj_step` to the bit. In the backward pass,

    .. math:: g_x = A^T g_{x'}, \quad g_u = B^T g_{x'}

    with A and B from `mjd_transitionFD`, chained over the substeps, in the tangent space of the
    positions. Finite differences cost about 2 (2 nv + na + nu) forward steps (centred), or 6 nv
    through generalised forces where actuators outnumber joints (`ForceChain`); rows are spread over
    threads. States are float64; rewards and features have `dtype`.

    A state holds qpos, qvel, act, the solver's warm start (no gradient) and, with `sensors`, what
    the sensors showed in the last substep.

    Not covered, and refused: RK4 (MuJoCo has no derivatives of it; set `integrator`), and mocap
    bodies, whose motion is no part of ctrl, as in Meta-World.

    Args:
        model: a `mujoco.MjModel`, or MJCF as text or as the path of a file.
        reward: smooth torch function of the state before, the action and the state after.
        features: maps states to observations `[.., O]`; None: qpos, qvel and act.
        terminated: maps states to `[.., 1]` bool; None: episodes end by their time limit only.
        start: draws qpos `[nq]`, qvel `[nv]` and, if any, act `[na]` (else 0) from a
            `numpy.random.Generator`; None: the model's own qpos0 at rest, positions off by up to
            0.01.
        substeps: simulator steps per reward.
        action_repeat: rewards per agent step, summed; the action is held.
        episode_length: agent steps until an episode is truncated.
        sensors: let states carry the sensors.
        integrator: name of an integrator that replaces the model's, such as "implicitfast".
        threads: of the batch; None: one per core.
        dtype: of rewards and features; None: torch's default.

    Attributes:
        mj: the `mujoco.MjModel`.
        layout: sizes of the parts of a state.
        bridge: steps and differentiates; its `eps` (1e-6) and `centred` (True: two-sided, twice
            the cost, smaller error) may be changed.

    Raises:
        ValueError: if the model uses RK4, mocap bodies, plugins or actuators without a range, or
            has no actuators or joints.
        ImportError: if mujoco is not installed.

    Source: MuJoCo's documentation of `mjd_transitionFD`.
    """

    def __init__(
        self,
        model: MjModel,
        reward: Reward,
        *,
        features: Callable[[BodyState], Tensor] | None = None,
        terminated: Callable[[BodyState], Tensor] | None = None,
        start: Callable[[np.random.Generator], tuple[Any, ...]] | None = None,
        substeps: int = 1,
        action_repeat: int = 1,
        episode_length: int = 1000,
        sensors: bool = False,
        integrator: str | None = None,
        threads: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        whole(1, substeps=substeps, action_repeat=action_repeat)
        self.mj = load_model(model, integrator)
        self.layout = Layout.of(self.mj, sensors)
        self.reward, self.terminated, self.start = reward, terminated, start
        self.action_repeat, self.episode_length = action_repeat, episode_length
        self.latent_dim, self.action_dim = self.layout.size, self.mj.nu
        self.dtype = torch.get_default_dtype() if dtype is None else dtype
        self.bridge = Bridge(self.mj, self.layout, substeps, threads or os.cpu_count() or 1)
        self._features, self._bodies = features, Bodies(self.mj)
        self._tangent = Tangent(self.mj)
        low, high = self.mj.actuator_ctrlrange.T
        self._centre, self._reach = (high + low) / 2, (high - low) / 2
        # A generator of its own: making a model moves no global one.
        self.observation_dim = self.features(self.reset(1, torch.Generator("cpu"))).shape[-1]

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Complete `[qpos, qvel, act]` `[.., nq + nv + na]` to states `[.., D]`.

        There is then no warm start, and the sensors show the state without actuation. Features,
        which environments show, do not determine a state and are refused by their size.
        """
        size = self.layout.moving
        if observation.shape[-1] != size:
            shown = observation.shape[-1] == self.observation_dim
            raise ValueError(
                f"observation must be [qpos, qvel, act] of size {size}, "
                f"got {list(observation.shape)}" + ", the features of a state" * shown
            )
        rows = observation.detach().double().cpu().reshape(-1, size).numpy()
        states = torch.from_numpy(self.bridge.start(rows)).to(observation.device)
        return states.reshape(*observation.shape[:-1], self.latent_dim)

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` start states `[count, D]`."""
        device = "cpu" if generator is None else generator.device
        seed = torch.randint(2**62, (1,), generator=generator, device=device).item()
        rng = np.random.default_rng(int(seed))
        rows = np.zeros((count, self.layout.moving))
        draw = self._default_start if self.start is None else self.start
        for row in rows:
            drawn = np.concatenate(draw(rng))
            row[: len(drawn)] = drawn
        return torch.from_numpy(self.bridge.start(rows))

    def features(self, latent: Tensor) -> Tensor:
        """Return observations `[.., O]` of states `[.., D]`."""
        state = self.view(latent)
        if self._features is not None:
            return self._features(state).to(self.dtype)
        return latent[..., : self.layout.moving].to(self.dtype)

    def view(self, latent: Tensor) -> BodyState:
        """Return names for the parts of states `[.., D]`, bodies' places among them."""
        parts = latent.split(self.layout.parts, -1)
        return BodyState(self._bodies, parts[0], parts[1], parts[2], parts[4])

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Advance one agent step.

        Args:
            latent: states `[.., D]`, float64.
            action: `[.., A]` in [-1, 1], scaled to the actuators' ranges.
            task: unused.

        Returns:
            Next states `[.., D]`, rewards `[.., 1]`, and terminated `[.., 1]` where an episode can
            end.

        Raises:
            ValueError: if states have another size or dtype, turn NaN, infinite or huge, or the
                reward has no graph.
        """
        if latent.shape[-1] != self.latent_dim or latent.dtype != torch.float64:
            raise ValueError(
                f"latent must be float64 of size {self.latent_dim}, "
                f"got {latent.dtype} of shape {list(latent.shape)}"
            )
        control = action.double() * torch.from_numpy(self._reach).to(latent.device)
        control = control + torch.from_numpy(self._centre).to(latent.device)
        total = latent.new_zeros(*latent.shape[:-1], 1)
        for _ in range(self.action_repeat):
            need = torch.is_grad_enabled() and (latent.requires_grad or control.requires_grad)
            next_state: Any = _Step.apply(latent, control, self, need)
            total = total + self._paid(latent, action, next_state)
            latent = next_state
        result = latent, total.to(self.dtype)
        return result if self.terminated is None else (*result, self.terminated(self.view(latent)))

    def _paid(self, latent: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        paid = self.reward(self.view(latent), action.double(), self.view(next_state))
        if next_state.requires_grad and not paid.requires_grad:
            raise ValueError(
                "reward must be a differentiable torch function of state and action, "
                "got a result without a graph"
            )
        return paid

    def _default_start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        qpos, velocity = self.mj.qpos0.copy(), rng.uniform(-0.01, 0.01, self.mj.nv)
        engine().mj_integratePos(self.mj, qpos, velocity, 1.0)
        return qpos, np.zeros(self.mj.nv)


class _Step(torch.autograd.Function):
    """One call of the bridge, rows in any leading shape."""

    @staticmethod
    def forward(
        ctx: Any, latent: Tensor, control: Tensor, model: MuJoCoModel, need: bool
    ) -> Tensor:
        states = latent.detach().cpu().reshape(-1, latent.shape[-1]).numpy()
        controls = control.detach().cpu().reshape(-1, control.shape[-1]).numpy()
        next_state, ctx.jacobians = model.bridge.roll(states, controls, need)
        ctx.model, ctx.states, ctx.next_state = model, states, next_state
        ctx.control_shape = control.shape
        return torch.from_numpy(next_state).to(latent.device).reshape(latent.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        layout, tangent = ctx.model.layout, ctx.model._tangent
        nq, nv, end = layout.qpos, layout.qvel, layout.moving
        given = gradient.detach().cpu().reshape(ctx.next_state.shape).numpy()
        place = tangent.pull(ctx.next_state[:, :nq], given[:, :nq])
        rest = given[:, nq:end], given[:, end + nv :]  # qvel and act, then sensors
        seen = np.concatenate((place, *rest), 1)
        by_state = np.einsum("bij,bi->bj", ctx.jacobians.state, seen)
        by_control = np.einsum("bij,bi->bj", ctx.jacobians.control, seen)
        result = np.zeros_like(ctx.states)
        result[:, :nq] = tangent.push(ctx.states[:, :nq], by_state[:, :nv])
        result[:, nq:end] = by_state[:, nv:]
        return (
            torch.from_numpy(result).to(gradient.device).reshape(gradient.shape),
            torch.from_numpy(by_control).to(gradient.device).reshape(ctx.control_shape),
            None,
            None,
        )


def _compiled(model: MjModel) -> MjModel:
    """Return a `mujoco.MjModel`, compiled from MJCF where it is not one."""
    mujoco = engine()
    if isinstance(model, str | os.PathLike):
        text = str(model)
        try:
            if "<" in text:
                model = mujoco.MjModel.from_xml_string(text)
            else:
                model = mujoco.MjModel.from_xml_path(str(file_path(model=model)))
        except ValueError as error:
            raise ValueError(f"model must be MJCF, as text or in a file, got: {error}") from error
    if not hasattr(model, "opt"):
        raise ValueError(f"model must be a mujoco.MjModel, MJCF or a path, got {type(model)}")
    return model


def load_model(model: MjModel, integrator: str | None = None) -> Any:
    """Compile MJCF and check that it can be differentiated.

    Args:
        model: a `mujoco.MjModel` (changed if `integrator` is given), MJCF, or the path of a file.
        integrator: "euler", "implicit" or "implicitfast"; None: the model's own.

    Returns:
        The `mujoco.MjModel`.

    Raises:
        ValueError: if finite differences do not cover the model.
        ImportError: if mujoco is not installed.
    """
    mujoco = engine()
    kinds = {
        "euler": mujoco.mjtIntegrator.mjINT_EULER,
        "implicit": mujoco.mjtIntegrator.mjINT_IMPLICIT,
        "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
    }
    if integrator is not None and integrator not in kinds:
        raise ValueError(f"integrator must be one of {sorted(kinds)}, got {integrator!r}")
    model = _compiled(model)
    if integrator is not None:
        model.opt.integrator = kinds[integrator]
    if model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:
        raise ValueError(
            'integrator must be of Euler type for derivatives, got RK4; integrator="implicitfast" '
            "replaces it"
        )
    if model.nmocap:
        raise ValueError(
            f"model must have no mocap bodies, got {model.nmocap}: their motion, such as that "
            "of Meta-World's hand, is no part of the control"
        )
    if model.nplugin:
        raise ValueError(f"model must have no plugins, got {model.nplugin}: their state is hidden")
    for name, count in (("actuator", model.nu), ("joint", model.nv)):
        if not count:
            raise ValueError(
                f"model must have at least one {name}, got none: some files, such as those of "
                "arms and hands, are parts for other models"
            )
    if not model.opt.timestep > 0.0:
        raise ValueError(f"timestep of the model must be positive, got {model.opt.timestep}")
    low, high = model.actuator_ctrlrange.T
    with np.errstate(over="ignore", invalid="ignore"):
        ranged = model.actuator_ctrllimited.astype(bool) & (high > low) & np.isfinite(high - low)
    if not ranged.all():
        names = [model.actuator(int(i)).name for i in np.flatnonzero(~ranged)]
        raise ValueError(
            f"actuators must have a control range, got none for {names}: low must lie below high, "
            "and their difference be finite"
        )
    return model
