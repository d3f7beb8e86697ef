"""The networks of DreamerV3, keyed as TorchRL's losses expect them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import NestedKey
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictSequential,
)
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs.model_based import DreamerEnv
from torchrl.modules import (
    DreamerV3MLP,
    IndependentNormal,
    RSSMPosteriorV3,
    RSSMPriorV3,
    RSSMRolloutV3,
    SymExpTwoHot,
    WorldModelWrapper,
)
from torchrl.objectives import (
    DreamerV3ActorLoss,
    DreamerV3Loss,
    DreamerV3ModelLoss,
    DreamerV3ValueLoss,
)

from pwm_sdk import keys
from pwm_sdk.algorithms.dreamer_v3_config import DreamerV3Config
from pwm_sdk.algorithms.over_torchrl import exact_last

# Names that TorchRL's losses and modules expect.
STATE, BELIEF, ENCODED = "state", "belief", "encoded_latents"
FEATURES = [STATE, BELIEF]


class DreamerV3Networks:
    """Encoder, recurrent model, heads, policy and value, and the losses over them.

    Args:
        observation_dim: O.
        action_dim: A.
        config: settings.
        device: where they are made.

    Attributes:
        encoder: maps observations in symlog `[.., O]` to what the posterior sees.
        prior: maps state, belief and action to the next prior and belief.
        posterior: maps belief and encoded observation to the state.
        actor: maps state and belief to mean and std of the action `[.., A]`.

    Source: DreamerV3 (arXiv 2301.04104), section "world model learning" and appendix.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        config: DreamerV3Config,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.action_dim, self.device = config, action_dim, torch.device(device)
        self.size = config.categoricals * config.classes
        features = self.size + config.belief
        sizes: dict[str, Any] = {
            "hidden_dim": config.hidden,
            "rnn_hidden_dim": config.belief,
            "num_categoricals": config.categoricals,
            "num_classes": config.classes,
            "unimix": config.unimix,
        }
        self.encoder = self._mlp(observation_dim, None)
        self.prior = RSSMPriorV3(
            action_shape=(action_dim,),
            action_dim=action_dim,
            recurrent_model="block_gru",
            num_blocks=config.blocks,
            **sizes,
        )
        self.posterior = RSSMPosteriorV3(obs_embed_dim=config.hidden, use_rms_norm=True, **sizes)
        for part in (self.prior, self.posterior):  # whose last layers give the logits
            exact_last(part)
        self.decoder = self._mlp(features, observation_dim)
        self.reward = self._mlp(features, config.bins, scale=0.0)
        self.goes_on = self._mlp(features, 1)
        self.actor = BoundedNormal(self._mlp(features, 2 * action_dim, scale=0.01))
        self.value = self._two_hot(
            self._mlp(features, config.bins, scale=0.0), FEATURES, "state_value"
        )
        for part in (self.encoder, self.prior, self.posterior, self.decoder, self.reward):
            part.to(device)
        for part in (self.goes_on, self.actor, self.value):
            part.to(device)

    def joint_loss(self) -> DreamerV3Loss:
        """Return TorchRL's loss of model, policy and value, over these networks."""
        config = self.config
        actor_loss = self._actor_loss()
        value_loss = DreamerV3ValueLoss(
            self.value,
            "two_hot",
            num_value_bins=config.bins,
            actor_loss=actor_loss,
            slow_critic_regularization=1.0,
        )
        return DreamerV3Loss(
            self.model_loss(),
            actor_loss,
            value_loss,
            replay_value_loss_weight=config.replay_value,
            continuation_horizon=1.0 / (1.0 - config.gamma),
            lmbda=config.lam,
        )

    def model_loss(self) -> DreamerV3ModelLoss:
        """Return TorchRL's loss of the model alone, which needs no policy and no value."""
        prior_out = _next("prior_logits", STATE, BELIEF)
        posterior_out = _next("posterior_logits", STATE)
        model = _chain(
            _keyed(self.encoder, _next(keys.OBSERVATION), _next(ENCODED)),
            RSSMRolloutV3(
                _keyed(self.prior, [*FEATURES, keys.ACTION], prior_out),
                _keyed(self.posterior, _next(BELIEF, ENCODED), posterior_out),
                reset_key=None,
            ),
            _keyed(self.decoder, _next(*FEATURES), _next("reco_pixels")),
            self._two_hot(self.reward, _next(*FEATURES), (keys.NEXT, keys.REWARD)),
            _keyed(self.goes_on, _next(*FEATURES), _next("continue_pred")),
        )
        loss = DreamerV3ModelLoss(
            model,
            lambda_continue=1.0,
            kl_mode="separate",
            unimix=self.config.unimix,
            free_bits=self.config.free_nats,
            reco_symlog=False,  # observations are in symlog already
            num_reward_bins=self.config.bins,
            detach_output=False,
        )
        loss.set_keys(pixels=keys.OBSERVATION)
        return loss

    def _actor_loss(self) -> DreamerV3ActorLoss:
        config = self.config
        policy = ProbabilisticTensorDictSequential(
            _keyed(self.actor, FEATURES, [keys.LOC, keys.SCALE]),
            _drawn(),
        )
        loss = DreamerV3ActorLoss(
            policy,
            self.value,
            self._imagination(),
            continuation_model=_chain(
                _keyed(self.goes_on, FEATURES, ["continue_pred"]),
                _keyed(nn.Sigmoid(), ["continue_pred"], ["continuation"]),
            ),
            imagination_horizon=config.horizon,
            entropy_bonus=config.entropy,
            use_reinforce=True,
        )
        loss.make_value_estimator(gamma=config.gamma, lmbda=config.lam)
        return loss

    def _imagination(self) -> DreamerEnv:
        model = WorldModelWrapper(
            _keyed(self.prior, [*FEATURES, keys.ACTION], ["_", *FEATURES]),
            self._two_hot(self.reward, FEATURES, keys.REWARD),
        )
        here: Any = {"device": self.device}
        sizes = {"prior_shape": (self.size,), "belief_shape": (self.config.belief,)}
        env = DreamerEnv(model, **sizes, **here)
        state, belief = Unbounded(self.size, **here), Unbounded(self.config.belief, **here)
        env.observation_spec = Composite({STATE: state, BELIEF: belief})
        env.state_spec = env.observation_spec.clone()
        env.action_spec = Bounded(-1, 1, torch.Size([self.action_dim]), **here)
        env.reward_spec = Unbounded(torch.Size([1]), **here)
        return env

    def _mlp(self, inputs: int, outputs: int | None, scale: float = 1.0) -> DreamerV3MLP:
        net = DreamerV3MLP(inputs, outputs, self.config.layers, self.config.hidden, scale)
        if outputs is not None:
            exact_last(net)
        return net

    def _two_hot(self, net: nn.Module, inputs: Sequence[NestedKey], name: NestedKey) -> Any:
        """Return a head that writes its logits beside their decoded number."""
        logits = (*name[:-1], f"{name[-1]}_logits") if isinstance(name, tuple) else f"{name}_logits"
        decoder = SymExpTwoHot(self.config.bins)
        return _chain(_keyed(net, inputs, [logits]), _keyed(decoder, [logits], [name]))


class BoundedNormal(nn.Module):
    """Mean in (-1, 1) and std in (0.1, 1), each `[.., A]`, from a network's `[.., 2 A]`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, state: Tensor, belief: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and std of the action."""
        loc, scale = self.net(state, belief).chunk(2, -1)
        return torch.tanh(loc), 0.1 + 0.9 * torch.sigmoid(scale + 2.0)


def _next(*names: str) -> list[Any]:
    return [(keys.NEXT, name) for name in names]


def _keyed(net: nn.Module, inputs: Sequence[NestedKey], outputs: Sequence[NestedKey]) -> Any:
    return TensorDictModule(net, in_keys=list(inputs), out_keys=list(outputs))


def _drawn() -> Any:
    return ProbabilisticTensorDictModule(
        in_keys=[keys.LOC, keys.SCALE],
        out_keys=[keys.ACTION],
        distribution_class=IndependentNormal,
    )


def _chain(*parts: Any) -> Any:
    return TensorDictSequential(*parts)
