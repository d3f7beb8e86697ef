"""TD-MPC2's training: world model, Q functions and policy prior from windows of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk import keys
from pwm_sdk.algorithms.first_order import fixed_copy
from pwm_sdk.algorithms.tdmpc2_config import TDMPC2Config
from pwm_sdk.calls import WINDOWS, checked, least
from pwm_sdk.contract.parts import JointModel, JointPrior, JointQ
from pwm_sdk.execution.finite import Watched
from pwm_sdk.execution.runner import Runner
from pwm_sdk.execution.settings import Execution
from pwm_sdk.generators import drawing_from, own_generator, restore_generator
from pwm_sdk.objectives.tdmpc2 import JointLoss, joint_loss, prior_loss, td_targets
from pwm_sdk.objectives.world_model import StepErrors, step_errors, task_ids
from pwm_sdk.optim import (
    adam,
    encoder_groups,
    frozen,
    optimize,
    scale_learning_rates,
    soft_update,
)
from pwm_sdk.planner import MPPI, PolicyValue
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.states import load_state, state_of

WATCHED = JOINT, PRIOR = "the joint loss and its gradient", "the prior's loss and gradient"


@checked(
    batch=WINDOWS,
    factor=least(0.0),
)
class TDMPC2(Watched):
    """Train a world model together with Q functions and a policy prior.

    Args:
        model: a `WorldModel`.
        q: a `QEnsemble` on its latents.
        prior: a `PolicyPrior` on its latents.
        config: settings.
        generator: source of the actions' noise, the drawn heads and dropout, on the model's device;
            None: one of its own, seeded by torch's global one.
        execution: how updates are run, in which precision; None: eager, in fp32.
        synchronize: average gradients over the processes of `torch.distributed`.

    Attributes:
        execution: what of it is possible on the model's device.
        updates: number of updates so far.
        decay_floor: share of the learning rates that is left at the end of a `fit`: all, as in its
            program.
        target: the slowly moving Q functions.
        scale: what values are divided by in the prior's loss, `[]`; see `running_scale`.

    Raises:
        ValueError: if parts do not fit, or the generator is on another device.

    Source: TD-MPC2 (arXiv 2310.16828), section 3 and its program.
    """

    decay_floor = 1.0

    def __init__(
        self,
        model: JointModel,
        q: JointQ,
        prior: JointPrior,
        config: TDMPC2Config | None = None,
        *,
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
        synchronize: bool = False,
    ) -> None:
        self.config = config = config or TDMPC2Config()
        for name, part in (("q", q), ("prior", prior)):
            if (part.latent_dim, part.action_dim) != (model.latent_dim, model.action_dim):
                raise ValueError(
                    f"{name} must have latents and actions of the model's sizes "
                    f"{(model.latent_dim, model.action_dim)}, "
                    f"got {(part.latent_dim, part.action_dim)}"
                )
        self.model: Any = model
        self.q: Any = q
        self.prior: Any = prior
        self.device = device = next(model.parameters()).device
        self.gamma = _discounts(config.gamma, model.num_tasks, device)
        self.scale = torch.ones((), device=device)
        self.target = fixed_copy(q)
        self.target.train(config.dropout_everywhere)
        self.generator, self.synchronize = own_generator(device, generator), synchronize
        groups = encoder_groups(model, config.encoder_lr, q.parameters())
        self.optimizer = adam(groups, config.lr)
        self.prior_optimizer = adam(prior.parameters(), config.lr, eps=1e-5)
        self.runner = Runner(execution, device, WATCHED)
        self.execution, self.finite = self.runner.settings, self.runner.finite
        self._carried: Tensor | None = None
        self.updates = 0

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve model, Q functions and prior once from windows of data.

        Args:
            batch: `[B]` with observation `[B, H+1, O]`, action `[B, H, A]`, reward `[B, H, 1]`,
                task `[B]` for a model of tasks and, if episodes can end, terminated `[B, H, 1]`.

        Returns:
            Detached scalars: total_loss, consistency_loss, reward_loss, value_loss,
            termination_loss, grad_norm, prior_loss, prior_grad_norm, entropy (nats),
            scaled_entropy (as in the loss), value (mean Q of the prior's actions) and scale.

        Raises:
            ValueError: if windows do not fit. If a loss or its gradient is not finite: nothing is
                stepped then. It is raised by the update itself on a CPU, and at most 100 updates
                later, or by `check_finite`, where a reading waits for the device.
        """
        task = task_ids(self.model, batch)
        with self.runner.running():
            errors, metrics = self._update_model(batch, task)
            metrics |= self._update_prior(errors.latent.detach(), task)
        soft_update(self.target, self.q, self.config.tau)
        self.updates += 1
        self.runner.read(self.updates)
        return metrics

    def losses(
        self, batch: TensorDictBase, task: Tensor | None = None
    ) -> tuple[StepErrors, JointLoss]:
        """Return predictions and joint loss on windows, with a graph; nothing is stepped.

        Args:
            batch: see `update`.
            task: ids `[B]`; None without tasks.
        """
        config = self.config
        errors = step_errors(self.model, batch)
        gamma = self.gamma
        if isinstance(gamma, Tensor) and task is not None:
            gamma = gamma[task]
        with drawing_from(self.generator):
            target = td_targets(
                self.target,
                self.prior,
                batch,
                errors.target,
                errors.context,
                gamma,
                noise=self._noise(batch[keys.ACTION].shape, errors.latent),
                heads=self._heads(),
            )
            joint = joint_loss(
                self.q,
                batch,
                errors,
                target,
                rho=config.rho,
                consistency=config.consistency,
                reward=config.reward,
                value=config.value,
                termination=config.termination,
            )
        return errors, joint

    def policy(self, plan: bool = True, **settings: object) -> ObservationPolicy:
        """Return the policy that plans, or the prior's mean, which follows later updates.

        Args:
            plan: plan by `MPPI`, with the prior's proposals and the Q functions after them, as the
                paper evaluates; False: the prior alone, some hundred times cheaper.
            settings: arguments of `MPPI`, for example `samples` and `horizon`.
        """
        if not plan:
            return ObservationPolicy(self.prior, model=self.model)
        return ObservationPolicy(self._planner(settings))

    def explorer(self, **settings: object) -> ObservationPolicy:
        """Return the planner with its noise, to collect data, which follows later updates.

        Args:
            settings: arguments of `MPPI`.
        """
        return ObservationPolicy(self._planner(settings), choice="explore")

    def set_learning_rates(self, factor: float) -> None:
        """Set all learning rates to `factor` times their start."""
        scale_learning_rates(self.optimizer, factor)
        scale_learning_rates(self.prior_optimizer, factor)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        state = {name: state_of(part) for name, part in self._parts().items()}
        return {
            **state,
            "generator": self.generator.get_state(),
            "value_scale": self.scale,
            "carried": self._carried,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        for name, part in self._parts().items():
            load_state(part, state[name])
        self.scale, carried = state["value_scale"].to(self.device), state["carried"]
        self._carried = None if carried is None else carried.to(self.device)
        self.updates = state["updates"]
        restore_generator(self.generator, state.get("generator"))

    def _planner(self, settings: Mapping[str, Any]) -> MPPI:
        """Return a planner with draws of its own, from the algorithm's seed and its updates."""
        generator = torch.Generator(self.device)
        generator.manual_seed(self.generator.initial_seed() + self.updates)
        gamma = self.config.gamma
        value = PolicyValue(self.q, self.prior)
        given = {"gamma": gamma, "generator": generator, **settings}
        return MPPI(self.model, self.prior, value, **given)

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "q": self.q,
            "prior": self.prior,
            "target": self.target,
            "optimizer": self.optimizer,
            "prior_optimizer": self.prior_optimizer,
        }

    def _update_model(
        self, batch: TensorDictBase, task: Tensor | None
    ) -> tuple[StepErrors, dict[str, Tensor]]:
        self.q.train()
        with self.runner.products():
            errors, joint = self.losses(batch, task)
        total = joint.total
        if self._carried is not None:  # a term of value zero with this gradient
            linear = (self.model.task_embedding * self._carried).sum()
            total = total + linear - linear.detach()
        norm = self._step(total, self.optimizer, JOINT)
        metrics = {f"{name}_loss": part.detach() for name, part in joint._asdict().items()}
        return errors, {**metrics, "grad_norm": norm}

    def _update_prior(self, latent: Tensor, task: Tensor | None) -> dict[str, Tensor]:
        """Step the prior with Q functions and embedding as they are now."""
        config, model = self.config, self.model
        carry = config.carry_gradient and model.num_tasks > 0 and model.task_embedding.requires_grad
        self.q.train(config.dropout_everywhere)
        if carry:
            model.task_embedding.grad = None
        with frozen(self.q):
            with torch.set_grad_enabled(carry):
                context = model.context(task)
            with self.runner.products(), drawing_from(self.generator):
                result = prior_loss(
                    self.prior,
                    self.q,
                    latent,
                    context,
                    self.scale,
                    noise=self._noise((*latent.shape[:-1], self.prior.action_dim), latent),
                    heads=self._heads(),
                    rho=config.rho,
                    entropy=config.entropy,
                    kind=config.entropy_kind,
                )
            norm = self._step(result.loss, self.prior_optimizer, PRIOR)
        good = (result.loss.detach() + norm).isfinite()  # if not, the step was left out
        self.scale = torch.where(good, result.scale, self.scale)
        if carry:
            gradient: Any = model.task_embedding.grad
            model.task_embedding.grad = None
            self._carried = gradient.masked_fill(~good, 0.0)
        return {
            "prior_loss": result.loss.detach(),
            "prior_grad_norm": norm,
            "entropy": result.entropy,
            "scaled_entropy": result.scaled_entropy,
            "value": result.value,
            "scale": result.scale,
        }

    def _noise(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return torch.randn(tuple(shape), dtype=like.dtype, device=like.device)

    def _heads(self) -> Tensor:
        return self.q.draw_heads()

    def _step(self, loss: Tensor, optimizer: torch.optim.Optimizer, name: str) -> Tensor:
        """Step one of the optimizers; returns the norm of the gradient."""
        return optimize(
            loss,
            optimizer,
            self.config.max_norm,
            synchronize=self.synchronize,
            watch=self.finite,
            name=name,
        )


def _discounts(
    gamma: float | Sequence[float], num_tasks: int, device: torch.device
) -> float | Tensor:
    values = [gamma] if isinstance(gamma, (int, float)) else list(gamma)
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"gamma must lie in [0, 1], got {gamma}")
    if isinstance(gamma, (int, float)):
        return float(gamma)
    if len(values) != num_tasks:
        raise ValueError(
            f"gamma must be one number or one per task ({num_tasks}), got {len(values)}"
        )
    return torch.tensor(values, device=device)
