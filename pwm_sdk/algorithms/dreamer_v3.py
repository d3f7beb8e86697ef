"""DreamerV3 on state observations, over TorchRL's recurrent state-space model and losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.modules import RSSMStateEstimatorV3
from torchrl.objectives import SoftUpdate

from pwm_sdk import keys
from pwm_sdk.algorithms.dreamer_v3_config import DreamerV3Config
from pwm_sdk.algorithms.dreamer_v3_networks import (
    BELIEF,
    ENCODED,
    FEATURES,
    STATE,
    DreamerV3Networks,
)
from pwm_sdk.algorithms.over_torchrl import OverTorchRL, arguments_of
from pwm_sdk.calls import checked, floating, holds, least, shaped
from pwm_sdk.execution.settings import Execution
from pwm_sdk.functional.twohot import symlog
from pwm_sdk.generators import drawing_from, restore_generator
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.states import load_state, state_of

PREVIOUS_ACTION, IS_INIT = "previous_action", "is_init"


@checked(
    observation_dim=least(1),
    action_dim=least(1),
    batch=holds(keys.OBSERVATION, keys.ACTION, keys.REWARD, keys.TERMINATED),
    observation=(shaped("N", "O"), floating),
    memory=holds("state", "belief"),
)
class DreamerV3(OverTorchRL):
    """A recurrent model of discrete states and a policy trained in it by score function.

    Args:
        observation_dim: O.
        action_dim: A.
        config: settings.
        device: of the networks.
        generator: source of all that is drawn, on the networks' device; None: one of its own,
            seeded by torch's global one. It follows `loss.to`.
        execution: how updates are run, in which precision; None: eager, in fp32.

    Attributes:
        loss: TorchRL's joint loss, which holds all networks.
        updates: number of updates so far.
        decay_floor: share of the learning rates that is left at the end of a `fit`: all, as in its
            program.

    Raises:
        ValueError: if the generator is on another device.

    All of it is in float32, whatever the default: TorchRL's recurrent cell takes no other.

    Source: Mastering diverse domains through world models (arXiv 2301.04104). Differs: one Adam
    with a clip instead of LaProp with adaptive clipping; windows start from an empty memory.
    """

    decay_floor = 1.0

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        config: DreamerV3Config | None = None,
        *,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        execution: Execution | None = None,
    ) -> None:
        self._arguments = arguments_of(locals())
        self.config = config = config or DreamerV3Config()
        with _single():
            nets = DreamerV3Networks(observation_dim, action_dim, config, device)
            self.estimator = RSSMStateEstimatorV3(nets.prior, nets.posterior)
            loss = nets.joint_loss()
        self.size, self.observation_dim, self.action_dim = nets.size, observation_dim, action_dim
        self.encoder, self.actor = nets.encoder, nets.actor
        super().__init__(loss, config.lr, device, generator, execution)
        self.target = SoftUpdate(self.loss.value_loss, tau=config.tau)
        self._made = frozenset(vars(self))

    def act(
        self,
        observation: Tensor,
        memory: TensorDictBase | None = None,
        first: Tensor | None = None,
        *,
        explore: bool = False,
    ) -> tuple[Tensor, TensorDictBase]:
        """Return actions `[N, A]` for observations `[N, O]`, and the memory for the next call.

        Args:
            observation: what N environments show.
            memory: what the last call returned; None: episodes begin everywhere.
            first: `[N]` bool, where an episode begins; None: nowhere.
            explore: draw actions instead of taking the mean.
        """
        observation = self._as_weights(observation)
        if memory is None:
            memory = self._blank(len(observation), observation.device)
        else:
            memory = memory.clone(recurse=False)  # the caller's stays as it is
            if first is not None:
                memory[IS_INIT] = first.unsqueeze(-1)
        memory[ENCODED] = self.encoder(symlog(observation))
        with drawing_from(self.generator):
            after: Any = self.estimator(memory)
            loc, scale = self.actor(after[STATE], after[BELIEF])
            action = (loc + scale * torch.randn_like(loc)).clamp(-1.0, 1.0) if explore else loc
        after[PREVIOUS_ACTION] = action
        after[IS_INIT] = torch.zeros_like(after[IS_INIT])
        return action, after

    def policy(self) -> ObservationPolicy:
        """Return the policy that acts by its mean and remembers, which follows later updates."""
        return ObservationPolicy(_Remembering(self, explore=False))

    def explorer(self) -> ObservationPolicy:
        """Return the policy that draws actions and remembers, which follows later updates."""
        return ObservationPolicy(_Remembering(self, explore=True))

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve model, policy and value once.

        Args:
            batch: windows `[B]` of a `ReplayBuffer`: observation `[B, H+1, O]`, action `[B, H, A]`,
                reward and terminated `[B, H, 1]`. The first observation fills the memory.

        Returns:
            Detached metrics `[]`: TorchRL's losses by name, return_scale and grad_norm.

        Raises:
            ValueError: if a loss is not finite; nothing is stepped then. It is raised by the update
                itself on a CPU, and at most 100 updates later, or by `check_finite`, where a
                reading waits for the device.
        """
        with self.runner.running():
            with self.runner.products():
                sequences = self._sequences(self._as_weights(batch))
                with _single(), drawing_from(self.generator):
                    losses: Any = self.loss(sequences)
            parts = {name: value for name, value in losses.items() if name.startswith("loss_")}
            norm = self._minimize(torch.stack(list(parts.values())).sum(), self.config.max_norm)
        self.target.step()
        self._count()
        metrics = {name: value.detach() for name, value in parts.items()}
        return {**metrics, "return_scale": losses["return_scale"], "grad_norm": norm}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        return {
            "loss": state_of(self.loss),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        load_state(self.loss, state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state.get("updates", 0)
        restore_generator(self.generator, state.get("generator"))

    def _sequences(self, batch: TensorDictBase) -> TensorDict:
        """Lay windows `[B]` out as transitions `[B, H]` that begin with a filled memory."""
        seen = symlog(batch[keys.OBSERVATION])
        memory = self._blank(len(seen), seen.device)
        memory[ENCODED] = self.encoder(seen[:, 0])
        with drawing_from(self.generator):
            memory = self.estimator(memory)
        action, end = batch[keys.ACTION], batch[keys.TERMINATED]
        shape = action.shape[:2]
        after = {
            keys.OBSERVATION: seen[:, 1:],
            keys.REWARD: batch[keys.REWARD],
            keys.TERMINATED: end,
            keys.DONE: end,
        }
        start = {name: memory[name].unsqueeze(1).expand(*shape, -1) for name in FEATURES}
        return TensorDict(
            {
                **start,
                keys.ACTION: action,
                keys.NEXT: TensorDict(after, shape),
            },
            shape,
        )

    def _blank(self, count: int, device: torch.device) -> TensorDict:
        sizes = {STATE: self.size, BELIEF: self.config.belief, PREVIOUS_ACTION: self.action_dim}
        kind: Any = {"dtype": torch.float32, "device": device}
        zeros = {name: torch.zeros(count, size, **kind) for name, size in sizes.items()}
        begins = torch.ones(count, 1, dtype=torch.bool, device=device)
        return TensorDict({**zeros, IS_INIT: begins}, [count])


class _Remembering:
    """`act` of an agent as a `RecurrentPolicy`."""

    def __init__(self, agent: DreamerV3, explore: bool) -> None:
        self.agent, self.loss, self.explore = agent, agent.loss, explore

    def carry(
        self,
        observation: Tensor,
        memory: TensorDictBase | None,
        first: Tensor,
        task: Tensor | None = None,
    ) -> tuple[Tensor, TensorDictBase]:
        """Return actions and the memory for the next call."""
        return self.agent.act(observation, memory, first, explore=self.explore)


@contextmanager
def _single() -> Iterator[None]:
    """Let new tensors be float32, for TorchRL's parts, which make some of the default dtype."""
    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
