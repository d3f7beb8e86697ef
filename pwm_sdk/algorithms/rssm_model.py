"""DreamerV3's recurrent state-space model as a latent model, in which any policy can learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.distributions import OneHotCategoricalStraightThrough
from torchrl.modules import SymExpTwoHot

from pwm_sdk import keys
from pwm_sdk.algorithms.dreamer_v3_config import DreamerV3Config
from pwm_sdk.algorithms.dreamer_v3_networks import BELIEF, STATE, DreamerV3Networks
from pwm_sdk.calls import checked, holds, least, shaped
from pwm_sdk.functional.twohot import symlog


@checked(
    observation_dim=least(1),
    action_dim=least(1),
    batch=holds(keys.OBSERVATION, keys.ACTION, keys.REWARD, keys.TERMINATED),
    observation=shaped(..., "O"),
    latent=shaped(..., "D"),
    action=shaped(..., "A"),
    first=shaped(..., 1),
)
class RSSMModel(nn.Module):
    r"""A `MemoryModel` of discrete states, over TorchRL's networks, with TorchRL's loss.

    .. math:: h_t = GRU(h_{t-1}, z_{t-1}, a_{t-1}), \quad z_t \sim q(h_t, o_t) \text{ or } p(h_t)

    Its latent is belief and state, `[h, z]`. The state has straight-through gradients: those of its
    probabilities.

    Args:
        observation_dim: O.
        action_dim: A.
        config: sizes, `unimix` and `free_nats`; what is about policy and value is not used.
        episodic: predict ends of episodes, where one is likelier than not.
        sampled: draw states from torch's global generator, as in training; otherwise each is the
            likeliest, and the same inputs lead to the same latents.

    Attributes:
        latent_dim: D, `belief + categoricals * classes` of the config.

    Source: Mastering diverse domains through world models (arXiv 2301.04104). Differs: windows
    start from an empty memory.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        config: DreamerV3Config | None = None,
        *,
        episodic: bool = False,
        sampled: bool = False,
    ) -> None:
        super().__init__()
        self.config = config = config or DreamerV3Config()
        device = torch.get_default_device()
        nets = DreamerV3Networks(observation_dim, action_dim, config, device)
        self.observation_dim, self.action_dim = observation_dim, action_dim
        self.episodic, self.sampled = episodic, sampled
        self.latent_dim = config.belief + nets.size
        self.networks = nets.model_loss().to(device)
        self._parts = (nets,)  # the same networks by name: in a tuple they are no second entry
        self._decoder = SymExpTwoHot(config.bins).to(device)

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Map first observations `[.., O]` to latents `[.., D]`."""
        latent = self._own(observation).new_zeros(*observation.shape[:-1], self.latent_dim)
        return self._see(latent, latent[..., : self.action_dim] * 0.0, observation)

    def observe(
        self,
        latent: Tensor,
        action: Tensor,
        observation: Tensor,
        first: Tensor,
        task: Tensor | None = None,
    ) -> Tensor:
        """Return latents `[.., D]` that have seen one more observation `[.., O]`."""
        return self._see(latent.masked_fill(first, 0), action.masked_fill(first, 0), observation)

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Imagine the next latent `[.., D]` and the reward `[.., 1]` (and terminated)."""
        (nets,) = self._parts
        belief = self._belief(latent, action)
        state = self._state(nets.prior.rnn_to_prior_projector(belief))
        reward = self._decoder(nets.reward(state, belief))
        next_latent = torch.cat([belief, state], -1)
        if not self.episodic:
            return next_latent, reward
        return next_latent, reward, self.terminated(next_latent)

    def terminated(self, latent: Tensor, task: Tensor | None = None) -> Tensor:
        """Tell which latents `[.., D]` ended their episode, `[.., 1]` bool."""
        return self.termination_logits(latent) > 0.0

    def termination_logits(self, latent: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the log odds of it, `[.., 1]`."""
        (nets,) = self._parts
        belief, state = latent.split([self.config.belief, nets.size], -1)
        return -nets.goes_on(state, belief)

    def loss(self, batch: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return TorchRL's loss of windows `[B]`, and its parts by name.

        Args:
            batch: observation `[B, H+1, O]`, action `[B, H, A]`, reward and terminated `[B, H, 1]`.
                The first observation fills the memory.
        """
        seen, action = self._own(batch[keys.OBSERVATION]), self._own(batch[keys.ACTION])
        shape, end = action.shape[:2], batch[keys.TERMINATED]
        begun = self.encode(seen[:, 0]).unsqueeze(1).expand(*shape, -1)
        belief, state = begun.split([self.config.belief, self.latent_dim - self.config.belief], -1)
        after = {
            keys.OBSERVATION: symlog(seen[:, 1:]),
            keys.REWARD: self._own(batch[keys.REWARD]),
            keys.TERMINATED: end,
            keys.DONE: end,
        }
        rows = {STATE: state, BELIEF: belief, keys.ACTION: action}
        rows[keys.NEXT] = TensorDict(after, shape)
        losses: Any = self.networks(TensorDict(rows, shape))[0]
        parts = {name: value for name, value in losses.items() if name.startswith("loss_")}
        total = torch.stack([value.sum() for value in parts.values()]).sum()
        return total, {name: value.detach().sum() for name, value in parts.items()}

    def _own(self, values: Tensor) -> Tensor:
        """Return numbers in the type of the weights."""
        return values.to(next(self.parameters()).dtype)

    def _see(self, latent: Tensor, action: Tensor, observation: Tensor) -> Tensor:
        (nets,) = self._parts
        belief = self._belief(latent, action)
        seen = nets.encoder(symlog(self._own(observation)))
        logits = nets.posterior.obs_rnn_to_post_projector(torch.cat([belief, seen], -1))
        return torch.cat([belief, self._state(logits)], -1)

    def _belief(self, latent: Tensor, action: Tensor) -> Tensor:
        (nets,) = self._parts
        belief, state = latent.split([self.config.belief, nets.size], -1)
        return nets.prior.rnn(state, belief, action)

    def _state(self, logits: Tensor) -> Tensor:
        """Return states `[.., categoricals * classes]`, one-hot, with straight-through gradient."""
        config = self.config
        share = logits.unflatten(-1, (config.categoricals, config.classes)).softmax(-1)
        share = (1.0 - config.unimix) * share + config.unimix / config.classes
        if self.sampled:
            state = OneHotCategoricalStraightThrough(share, validate_args=False).rsample()
        else:
            best = torch.zeros_like(share).scatter_(-1, share.argmax(-1, keepdim=True), 1.0)
            state = share + (best - share).detach()
        return state.flatten(-2)
