"""SAC: a soft actor-critic on observations, over TorchRL's objective and replay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate

from pwm_sdk import keys
from pwm_sdk.algorithms.over_torchrl import OverTorchRL, arguments_of, mlp
from pwm_sdk.calls import checked, floating, holds, least, may_be_infinite, shaped
from pwm_sdk.checks import at_least, in_unit, pair, positive, whole
from pwm_sdk.contract.parts import Replay
from pwm_sdk.execution.settings import Execution
from pwm_sdk.functional.precision import full
from pwm_sdk.generators import drawing_from, own_generator, restore_generator
from pwm_sdk.policies.networks import MeanActor
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.states import load_state, state_of


@checked(max_norm=may_be_infinite)
@dataclass(frozen=True)
class SACConfig:
    """Settings of `SAC`; the defaults are the paper's.

    Attributes:
        gamma: discount per step.
        tau: rate of the slowly moving critics.
        lr: Adam's rate for actor, critics and temperature.
        batch_size: transitions per update.
        capacity: transitions that `make_replay` keeps.
        random_steps: uniform actions for so many transitions at first.
        updates_per_step: updates per transition that `replayed` keeps.
        alpha: initial temperature.
        target_entropy: entropy that the temperature steers to; None: minus the action's size.
        hidden: widths of the default networks.
        log_std: bounds of the log of the policy's std.

    Raises:
        ValueError: if settings are out of range.
    """

    gamma: float = 0.99
    tau: float = 0.005
    lr: float = 3e-4
    batch_size: int = 256
    capacity: int = 1_000_000
    random_steps: int = 5_000
    updates_per_step: float = 1.0
    alpha: float = 1.0
    target_entropy: float | None = None
    hidden: tuple[int, ...] = (256, 256)
    log_std: tuple[float, float] = (-5.0, 2.0)

    def __post_init__(self) -> None:
        in_unit(gamma=self.gamma, tau=self.tau)
        at_least(0.0, lr=self.lr, updates_per_step=self.updates_per_step)
        whole(1, batch_size=self.batch_size, capacity=self.capacity, hidden=self.hidden)
        whole(0, random_steps=self.random_steps)
        positive(alpha=self.alpha)
        pair(log_std=self.log_std)


@checked(
    observation_dim=least(1),
    action_dim=least(1),
    factor=least(0.0),
    observation=(shaped(..., "O"), floating),
    batch=holds(keys.OBSERVATION, keys.ACTION, keys.NEXT),
)
class SAC(OverTorchRL):
    """A squashed Gaussian policy and two critics, trained from replayed transitions.

    Args:
        observation_dim: O.
        action_dim: A.
        config: settings.
        actor: maps observations `[.., O]` to mean and log std `[.., 2 A]` before the tanh; None: an
            MLP of `config.hidden`.
        critic: maps observations `[.., O]` and actions `[.., A]` to values `[.., 1]`; the second
            critic is a copy with new weights; None: an MLP.
        device: of the networks.
        generator: source of all that is drawn, on the networks' device; None: one of its own,
            seeded by torch's global one. It follows `loss.to`.
        execution: how updates are run, in which precision; None: eager, in fp32.

    Attributes:
        steps: environment steps seen by `replayed`.
        updates: number of updates so far.
        decay_floor: share of the learning rates that is left at the end of a `fit`: all, as in its
            paper.

    Raises:
        ValueError: if the generator is on another device.

    Source: Soft actor-critic algorithms and applications (arXiv 1812.05905), algorithm 1.
    """

    decay_floor = 1.0

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        config: SACConfig | None = None,
        *,
        actor: nn.Module | None = None,
        critic: nn.Module | None = None,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
    ) -> None:
        self._arguments = arguments_of(locals())
        self.config = config = config or SACConfig()
        self.observation_dim, self.action_dim = observation_dim, action_dim
        self.steps, self._owed = 0, 0.0
        net: nn.Module = (
            mlp(observation_dim, 2 * action_dim, config.hidden, nn.ReLU) if actor is None else actor
        )
        self.actor = _Gaussian(net, *config.log_std).to(device)
        policy = ProbabilisticActor(
            TensorDictModule(self.actor, [keys.OBSERVATION], [keys.LOC, keys.SCALE]),
            in_keys=[keys.LOC, keys.SCALE],
            out_keys=[keys.ACTION],
            distribution_class=TanhNormal,
        )
        size = observation_dim + action_dim
        q = mlp(size, 1, config.hidden, nn.ReLU) if critic is None else critic
        target_entropy = config.target_entropy
        loss = SACLoss(
            policy,
            ValueOperator(q.to(device), in_keys=[keys.OBSERVATION, keys.ACTION]),
            loss_function="l2",
            alpha_init=config.alpha,
            target_entropy=float(-action_dim) if target_entropy is None else target_entropy,
        )
        loss.make_value_estimator(gamma=config.gamma)
        super().__init__(loss, config.lr, device, generator, execution)
        self.target = SoftUpdate(self.loss, tau=config.tau)
        self._made = frozenset(vars(self))

    def __call__(self, observation: Tensor) -> Tensor:
        """Return mean actions `[.., A]` for observations `[.., O]`."""
        return torch.tanh(self.actor(self._as_weights(observation))[0])

    def explore(self, observation: Tensor) -> Tensor:
        """Return drawn actions `[.., A]`: uniform ones at first, then the policy's."""
        observation = self._as_weights(observation)
        if self.steps < self.config.random_steps:
            shape = (*observation.shape[:-1], self.action_dim)
            kind: Any = {"dtype": observation.dtype, "device": observation.device}
            return 2.0 * torch.rand(shape, generator=self.generator, **kind) - 1.0
        with drawing_from(self.generator):
            loc, scale = self.actor(observation)
            return torch.tanh(loc + scale * torch.randn_like(loc))

    def policy(self) -> ObservationPolicy:
        """Return the policy that acts by its mean, which follows later updates."""
        return ObservationPolicy(MeanActor(self.actor.net, "tanh", halves=True))

    def explorer(self) -> ObservationPolicy:
        """Return the policy of `explore`, which follows later updates."""
        return ObservationPolicy(self.explore)

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve actor, critics and temperature once.

        Args:
            batch: transitions `[B]`: observation `[B, O]`, action `[B, A]` and, under next,
                observation, reward `[B, 1]`, terminated `[B, 1]` and done `[B, 1]`.

        Returns:
            Detached metrics `[]`: actor_loss, value_loss (sum over both critics), alpha, entropy.

        Raises:
            ValueError: if a loss is not finite; nothing is stepped then. It is raised by the update
                itself on a CPU, and at most 100 updates later, or by `check_finite`, where a
                reading waits for the device.
        """
        with self.runner.running():
            with self.runner.products(), drawing_from(self.generator):
                losses: Any = self.loss(self._as_weights(batch))
            total = losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]
            self._minimize(total)
        self.target.step()
        self._count()
        return {
            "actor_loss": losses["loss_actor"].detach(),
            "value_loss": losses["loss_qvalue"].detach(),
            "alpha": losses["alpha"].detach(),
            "entropy": losses["entropy"].detach(),
        }

    def replayed(
        self, stream: Iterable[TensorDictBase], replay: Replay | None = None
    ) -> Iterator[TensorDictBase]:
        """Keep what a stream of transitions brings, and yield a sample of it for each update due.

        `fit(sac, sac.replayed(stream), updates)` is the online loop of the paper.

        Args:
            stream: batches of transitions `[..]` of the policy of `explore`, as from `transitions`
                or a TorchRL collector; each is read when no update is due any more.
            replay: a TorchRL replay buffer that samples `[B]`; None: a new uniform one.

        Yields:
            `config.updates_per_step` samples `[B]` per transition, none before
            `config.random_steps` of them.
        """
        replay = replay if replay is not None else self.make_replay()
        for batch in stream:
            replay.extend(batch.reshape(-1))
            self.steps += batch.numel()
            if self.steps < self.config.random_steps:
                continue
            self._owed += self.config.updates_per_step * batch.numel()
            while self._owed >= 1.0:
                self._owed -= 1.0
                yield replay.sample()

    def make_replay(self) -> TensorDictReplayBuffer:
        """Return an empty uniform replay of this configuration, with a generator of its own."""
        storage = LazyTensorStorage(self.config.capacity)
        return TensorDictReplayBuffer(
            storage=storage,
            batch_size=self.config.batch_size,
            generator=own_generator("cpu", seeded_by=self.generator),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` and `replayed` change; the replay is the caller's."""
        return {
            "loss": state_of(self.loss),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "owed": self._owed,
            "updates": self.updates,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        load_state(self.loss, state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self._owed = state["steps"], state["owed"]
        self.updates = state.get("updates", 0)
        restore_generator(self.generator, state.get("generator"))


class _Gaussian(nn.Module):
    """Splits a network's output into a mean and a bounded std."""

    def __init__(self, net: nn.Module, low: float, high: float) -> None:
        super().__init__()
        self.net, self.low, self.high = net, low, high

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_std = full(self.net(observation)).chunk(2, -1)
        return loc, log_std.clamp(self.low, self.high).exp()
