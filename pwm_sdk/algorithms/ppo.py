"""PPO: a clipped policy gradient on observations, over TorchRL's objective and advantages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.modules import MLP, IndependentNormal, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from pwm_sdk import keys
from pwm_sdk.algorithms.over_torchrl import OverTorchRL, arguments_of, mlp
from pwm_sdk.calls import checked, floating, holds, least, may_be_infinite, shaped
from pwm_sdk.checks import at_least, in_unit, positive, whole
from pwm_sdk.contract.parts import Moments, Spread
from pwm_sdk.execution.settings import Execution
from pwm_sdk.functional.precision import full
from pwm_sdk.generators import drawing_from, restore_generator
from pwm_sdk.policies.networks import MeanActor, Normalized
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.states import load_state, state_of


@checked(max_norm=may_be_infinite)
@dataclass(frozen=True)
class PPOConfig:
    """Settings of `PPO`; the defaults are the paper's for continuous control.

    Attributes:
        gamma: discount per step.
        lam: lambda of the advantages.
        lr: Adam's rate for actor and critic.
        clip: the policy's ratio is clipped to 1 +- this.
        epochs: passes over a batch.
        minibatch: transitions per gradient step.
        entropy: coefficient of the entropy bonus.
        value: coefficient of the value error.
        max_norm: gradient clip.
        hidden: widths of the default networks.
        std: initial standard deviation of the policy.

    Raises:
        ValueError: if settings are out of range.
    """

    gamma: float = 0.99
    lam: float = 0.95
    lr: float = 3e-4
    clip: float = 0.2
    epochs: int = 10
    minibatch: int = 64
    entropy: float = 0.0
    value: float = 0.5
    max_norm: float = 0.5
    hidden: tuple[int, ...] = (64, 64)
    std: float = 1.0

    def __post_init__(self) -> None:
        in_unit(gamma=self.gamma, lam=self.lam)
        at_least(0.0, lr=self.lr, entropy=self.entropy, value=self.value)
        whole(1, epochs=self.epochs, minibatch=self.minibatch, hidden=self.hidden)
        positive(clip=self.clip, max_norm=self.max_norm, std=self.std)


@checked(
    observation_dim=least(1),
    action_dim=least(1),
    factor=least(0.0),
    batch=holds(keys.OBSERVATION, keys.ACTION, keys.NEXT),
    observation=(shaped(..., "O"), floating),
)
class PPO(OverTorchRL):
    """A Gaussian policy with state-independent std and a value, trained from their own steps.

    Drawn actions may leave [-1, 1]; the environments of `make_env` and `make_gym` clip them.

    Args:
        observation_dim: O.
        action_dim: A.
        config: settings.
        actor: maps observations `[.., O]` to means `[.., A]`; None: an MLP of `config.hidden`.
        critic: maps observations `[.., O]` to values `[.., 1]`; None: an MLP.
        observations: a `RunningMeanStd` of shape `[O]`, which normalises what both see; None: they
            see observations as they are.
        returns: a `RunningMeanStd` of shape `[1]`; rewards are divided by the std of the discounted
            sums of rewards so far. None: they are left as they are.
        device: of the networks and of both moments.
        generator: source of all that is drawn, on the networks' device; None: one of its own,
            seeded by torch's global one. It follows `loss.to`.
        execution: how updates are run, in which precision; None: eager, in fp32.

    Attributes:
        steps: environment steps seen, of all environments together.
        updates: number of updates so far.
        decay_floor: share of the learning rates that is left at the end of a `fit`: none, as in its
            program.

    Raises:
        ValueError: if the generator is on another device.

    Source: Proximal policy optimization (arXiv 1707.06347), section 5. The normalisation, the
    orthogonal weights and the decay of `set_learning_rates` are those of its program.
    """

    decay_floor = 0.0

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        config: PPOConfig | None = None,
        *,
        actor: nn.Module | None = None,
        critic: nn.Module | None = None,
        observations: Moments | None = None,
        returns: Spread | None = None,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
    ) -> None:
        self._arguments = arguments_of(locals())
        self.config = config = config or PPOConfig()
        self.observation_dim, self.action_dim = observation_dim, action_dim
        self.observations, self.returns, self.steps = observations, returns, 0
        if actor is None:
            actor = _mlp(observation_dim, action_dim, config.hidden, gain=0.01)
        self.actor = _Gaussian(actor, action_dim, config.std).to(device)
        policy = ProbabilisticActor(
            TensorDictModule(self.actor, [keys.OBSERVATION], [keys.LOC, keys.SCALE]),
            in_keys=[keys.LOC, keys.SCALE],
            out_keys=[keys.ACTION],
            distribution_class=IndependentNormal,
        )
        net = _mlp(observation_dim, 1, config.hidden, gain=1.0) if critic is None else critic
        value = ValueOperator(net.to(device), in_keys=[keys.OBSERVATION])
        self.advantages = GAE(gamma=config.gamma, lmbda=config.lam, value_network=value)
        loss = ClipPPOLoss(
            policy,
            value,
            clip_epsilon=config.clip,
            entropy_coeff=config.entropy,
            critic_coeff=config.value,
            loss_critic_type="l2",
            normalize_advantage=True,
        )
        self._policy = policy
        super().__init__(loss, config.lr, device, generator, execution, eps=1e-5)
        for moments in (observations, returns):
            if isinstance(moments, nn.Module):
                moments.to(device)
        self._sum: Tensor | None = None
        self._made = frozenset(vars(self))

    def __call__(self, observation: Tensor) -> Tensor:
        """Return mean actions `[.., A]` for observations `[.., O]`, cut to [-1, 1]."""
        return self.actor(self._seen(observation))[0].clamp(-1.0, 1.0)

    def explore(self, observation: Tensor) -> Tensor:
        """Return actions `[.., A]` drawn from the policy; they may leave [-1, 1]."""
        with drawing_from(self.generator):
            loc, scale = self.actor(self._seen(observation))
            return loc + scale * torch.randn_like(loc)

    def policy(self) -> ObservationPolicy:
        """Return the policy that acts by its mean, which follows later updates."""
        seen = None if self.observations is None else Normalized(self.observations)
        return ObservationPolicy(MeanActor(self.actor.net, "clip"), model=seen)

    def explorer(self) -> ObservationPolicy:
        """Return the policy of `explore`, which follows later updates."""
        return ObservationPolicy(self.explore)

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve actor and critic from steps of the present policy.

        Args:
            batch: `[N, T]`, T consecutive steps of each of N environments, of the same ones in the
                same order at every call: observation, action (as drawn by `explore`) and, under
                next, observation, reward `[1]`, terminated `[1]` and done `[1]`.

        Returns:
            Detached metrics `[]` of the last minibatch: actor_loss, value_loss, entropy, kl,
            clipped (share of ratios at the clip) and grad_norm.

        Raises:
            ValueError: if a batch has another shape, or a loss is not finite; that step is not
                taken. It is raised by the update itself on a CPU, and at most 100 updates later,
                or by `check_finite`, where a reading waits for the device.
        """
        if batch.dim() != 2:
            raise ValueError(f"batch must have shape [N, T], got {list(batch.shape)}")
        batch = self._as_weights(batch)
        raw = batch[keys.OBSERVATION]
        metrics: dict[str, Tensor] = {}
        with self.runner.running(), drawing_from(self.generator):
            with self.runner.products():
                flat = self._prepare(batch).reshape(-1)
            for _ in range(self.config.epochs):
                order = torch.randperm(len(flat), device=raw.device)
                for part in order.split(self.config.minibatch):
                    if len(part) > 1:  # the advantages of one transition have no spread
                        metrics = self._step(flat[part])
        if self.observations is not None:
            self.observations.update(raw)
        self.steps += len(flat)
        self._count()
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        state = {name: state_of(part) for name, part in self._parts().items()}
        return {
            **state,
            "sum": self._sum,
            "steps": self.steps,
            "updates": self.updates,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        for name, part in self._parts().items():
            load_state(part, state[name])
        total, self.steps = state["sum"], state["steps"]
        self._sum = None if total is None else total.to(self.device)
        self.updates = state.get("updates", 0)
        restore_generator(self.generator, state.get("generator"))

    def _parts(self) -> dict[str, Any]:
        parts = {
            "loss": self.loss,
            "optimizer": self.optimizer,
            "observations": self.observations,
            "returns": self.returns,
        }
        return {name: part for name, part in parts.items() if part is not None}

    @torch.no_grad()
    def _prepare(self, batch: TensorDictBase) -> TensorDictBase:
        """Normalise a copy of a batch and add log-probabilities, advantages and value targets."""
        batch = batch.select(keys.OBSERVATION, keys.ACTION, keys.NEXT).clone(recurse=False)
        after: Any = batch.get(keys.NEXT).clone(recurse=False)
        after[keys.OBSERVATION] = self._seen(after[keys.OBSERVATION])
        after[keys.REWARD] = self._scaled(after[keys.REWARD], after[keys.DONE])
        batch[keys.OBSERVATION] = self._seen(batch[keys.OBSERVATION])
        batch[keys.NEXT] = after
        log_prob = self._policy.get_dist(batch).log_prob(batch[keys.ACTION])
        batch[self.loss.tensor_keys.sample_log_prob] = log_prob
        return self.advantages(batch)

    def _step(self, part: TensorDictBase) -> dict[str, Tensor]:
        with self.runner.products():
            losses: Any = self.loss(part)
        total = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        norm = self._minimize(total, self.config.max_norm)
        return {
            "actor_loss": losses["loss_objective"].detach(),
            "value_loss": losses["loss_critic"].detach(),
            "entropy": losses["entropy"].detach(),
            "kl": losses["kl_approx"].detach(),
            "clipped": losses["clip_fraction"].detach(),
            "grad_norm": norm,
        }

    def _seen(self, observation: Tensor) -> Tensor:
        observation = self._as_weights(observation)
        if self.observations is None:
            return observation
        return self._as_weights(self.observations.normalize(observation))

    def _scaled(self, reward: Tensor, done: Tensor) -> Tensor:
        """Divide rewards `[N, T, 1]` by the std of their discounted sums, episodes apart."""
        if self.returns is None:
            return reward
        total, sums = self._sum, []
        if total is None or total.shape != reward[:, 0].shape:
            total = torch.zeros_like(reward[:, 0])
        for now, ended in zip(reward.unbind(1), done.unbind(1), strict=True):
            sums.append(self.config.gamma * total + now)
            total = sums[-1] * ~ended
        self._sum = total
        scale = self.returns.update(torch.stack(sums, 1))
        return self._as_weights(reward / scale)


class _Gaussian(nn.Module):
    """A network's output as mean, beside a learned std."""

    def __init__(self, net: nn.Module, action_dim: int, std: float) -> None:
        super().__init__()
        self.net = net
        self.log_std = nn.Parameter(torch.full((action_dim,), std).log())

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        loc = full(self.net(observation))
        return loc, self.log_std.exp().expand_as(loc)


def _mlp(inputs: int, outputs: int, hidden: tuple[int, ...], gain: float) -> MLP:
    net = mlp(inputs, outputs, hidden, nn.Tanh)
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    for layer in linear:
        nn.init.orthogonal_(layer.weight, gain if layer is linear[-1] else 2**0.5)
        nn.init.zeros_(layer.bias)
    return net
