"""The world model as the published PWM sees it, for `PWMConfig.published()`."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.calls import checked, looked_up
from pwm_sdk.contract.abilities import origin
from pwm_sdk.contract.models import LatentModel, num_tasks, sees_features
from pwm_sdk.contract.parts import NetworkModel, has_reward_logits
from pwm_sdk.functional.twohot import two_hot_mean

Task = Tensor | tuple[Any, ...] | None  # ids, or what was looked up of them
MADE_OF = {"step": ("next", "reward"), "reward": ("reward_logits", "decode_reward")}


@checked(task=looked_up)
class PublishedModel:
    """A view of a world model as the published PWM imagines with it; a `LatentModel`.

    Args:
        model: a `WorldModel`; it is not changed.
        symlog_reward: rewards are expected bins, `E[symlog r]`, not brought back to raw units. A
            scalar reward head is left as it is.
        mask_actions: False: actions that a task does not have reach the networks.

    Raises:
        ValueError: if the `step` or `reward` of the model is not made of the outputs of its
            networks, as in a subclass that replaces one of them: this view would not see it.

    Source: PWM (arXiv 2407.02466), its program. TD-MPC2 decodes rewards and masks actions.
    """

    factored: ClassVar = True

    def __init__(
        self, model: NetworkModel, *, symlog_reward: bool = True, mask_actions: bool = False
    ) -> None:
        for whole, parts in MADE_OF.items():
            _, maker = origin(model, whole, *parts)
            if maker is None or not all(name in vars(maker) for name in parts):
                raise ValueError(
                    f"model must have a {whole} made of its own {' and '.join(parts)} to be "
                    f"imagined as published, got another {whole} in {type(model).__name__}"
                )
        self.model: Any = model
        self.symlog_reward, self.mask_actions = symlog_reward, mask_actions
        self.latent_dim, self.action_dim = model.latent_dim, model.action_dim
        self.num_tasks = num_tasks(model)
        if sees_features(model):
            self.features = self.model.features
        self.episodic = False  # the published program imagines no ends

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Encode with the model: `[.., O]` to `[.., D]`."""
        return self.model.encode(observation, task)

    def context(self, task: Task) -> Any:
        """Look up what the networks need of task ids `[..]`, without the mask if it is off."""
        context = self.model.context(task)
        return context if self.mask_actions else context._replace(action_mask=None)

    def next(self, latent: Tensor, action: Tensor, task: Task = None) -> Tensor:
        """Predict the next latent `[.., D]`."""
        return self.model.next(latent, action, self.context(task))

    def reward(self, latent: Tensor, action: Tensor, task: Task = None) -> Tensor:
        """Predict the reward `[.., 1]`, in symlog units if they are on."""
        logits = self.model.reward_logits(latent, action, self.context(task))
        if self.symlog_reward and logits.shape[-1] > 1:
            return two_hot_mean(logits)
        return self.model.decode_reward(logits)

    def step(self, latent: Tensor, action: Tensor, task: Task = None) -> tuple[Tensor, Tensor]:
        """Predict next latent `[.., D]` and reward `[.., 1]`."""
        context = self.context(task)
        return self.next(latent, action, context), self.reward(latent, action, context)


def published_view(model: LatentModel, config: PWMConfig) -> Any:
    """Return the model, or a `PublishedModel` of it where the settings ask for one.

    Args:
        model: a `LatentModel`; one without `reward_logits` has neither bins nor masks.
        config: its `symlog_reward` and `mask_actions`.
    """
    if not has_reward_logits(model) or (config.mask_actions and not config.symlog_reward):
        return model
    return PublishedModel(
        model, symlog_reward=config.symlog_reward, mask_actions=config.mask_actions
    )
