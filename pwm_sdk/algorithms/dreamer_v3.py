"""DreamerV3 on state observations, over TorchRL's recurrent state-space model and losses."""

from __future__ import annotations

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
from pwm_sdk.calls import checked, floating, has, holds, least, shaped
from pwm_sdk.checks import whole
from pwm_sdk.functional.twohot import symlog
from pwm_sdk.optim import optimize

PREVIOUS_ACTION, IS_INIT = "previous_action", "is_init"


@checked(
    observation_dim=least(1),
    action_dim=least(1),
    replay=has("sample"),
    steps=least(1),
    batch=holds(keys.OBSERVATION, keys.ACTION, keys.REWARD, keys.TERMINATED),
    observation=(shaped("N", "O"), floating),
    memory=holds("state", "belief"),
)
class DreamerV3:
    """A recurrent model of discrete states and a policy trained in it by score function.

    Args:
        observation_dim: O.
        action_dim: A.
        config: settings.

    Attributes:
        loss: TorchRL's joint loss, which holds all networks.

    Source: Mastering diverse domains through world models (arXiv 2301.04104). Differs: one Adam
    with a clip instead of LaProp with adaptive clipping; windows start from an empty memory.
    """

    def __init__(
        self, observation_dim: int, action_dim: int, config: DreamerV3Config | None = None
    ) -> None:
        self.config = config = config or DreamerV3Config()
        nets = DreamerV3Networks(observation_dim, action_dim, config)
        self.size, self.observation_dim, self.action_dim = nets.size, observation_dim, action_dim
        self.encoder, self.actor = nets.encoder, nets.actor
        self.estimator = RSSMStateEstimatorV3(nets.prior, nets.posterior)
        self.loss = nets.joint_loss()
        self.target = SoftUpdate(self.loss.value_loss, tau=config.tau)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=config.lr, fused=True)

    def act(
        self,
        observation: Tensor,
        memory: Any = None,
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
        if memory is None:
            memory = self._blank(len(observation), observation.device)
        elif first is not None:
            memory[IS_INIT] = first.unsqueeze(-1)
        memory[ENCODED] = self.encoder(symlog(observation))
        memory = self.estimator(memory)
        loc, scale = self.actor(memory[STATE], memory[BELIEF])
        action = (loc + scale * torch.randn_like(loc)).clamp(-1.0, 1.0) if explore else loc
        memory[PREVIOUS_ACTION] = action
        memory[IS_INIT] = torch.zeros_like(memory[IS_INIT])
        return action, memory

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Improve model, policy and value once.

        Args:
            batch: windows `[B]` of a `ReplayBuffer`: observation `[B, H+1, O]`, action `[B, H, A]`,
                reward and terminated `[B, H, 1]`. The first observation fills the memory.

        Returns:
            Detached metrics `[]`: TorchRL's losses by name, return_scale and grad_norm.

        Raises:
            ValueError: if a loss is not finite.
        """
        losses: Any = self.loss(self._sequences(batch))
        parts = {name: value for name, value in losses.items() if name.startswith("loss_")}
        norm = optimize(
            torch.stack(list(parts.values())).sum(), self.optimizer, self.config.max_norm
        )
        self.target.step()
        metrics = {name: value.detach() for name, value in parts.items()}
        return {**metrics, "return_scale": losses["return_scale"], "grad_norm": norm}

    def fit(self, replay: Any, steps: int) -> dict[str, Tensor]:
        """Update `steps` times from a replay.

        Args:
            replay: a `ReplayBuffer`, or anything whose `sample` returns windows.
            steps: number of updates, at least 1.

        Returns:
            Metrics of the last update.
        """
        whole(1, steps=steps)
        metrics: dict[str, Tensor] = {}
        for _ in range(steps):
            metrics = self.update(replay.sample())
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        return {"loss": self.loss.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _sequences(self, batch: TensorDictBase) -> TensorDict:
        """Lay windows `[B]` out as transitions `[B, H]` that begin with a filled memory."""
        seen = symlog(batch[keys.OBSERVATION])
        memory = self._blank(len(seen), seen.device)
        memory[ENCODED] = self.encoder(seen[:, 0])
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
        zeros = {name: torch.zeros(count, size, device=device) for name, size in sizes.items()}
        begins = torch.ones(count, 1, dtype=torch.bool, device=device)
        return TensorDict({**zeros, IS_INIT: begins}, [count])
