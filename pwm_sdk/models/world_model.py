"""A decoder-free latent world model for one or many tasks, in the shape of TD-MPC2."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked, least, shaped
from pwm_sdk.checkpoints.fit import fit_tasks
from pwm_sdk.checkpoints.pwm import pwm_world_model
from pwm_sdk.checkpoints.tdmpc2 import tdmpc2_world_model
from pwm_sdk.contract.parts import PaddedTasks, Spaces
from pwm_sdk.functional.losses import two_hot_loss
from pwm_sdk.functional.precision import full
from pwm_sdk.functional.twohot import two_hot_decode
from pwm_sdk.models.conditioning import TaskContext, action_masks, join, look_up, new_embedding
from pwm_sdk.models.files import Checkpointed, constructor_arguments
from pwm_sdk.models.inputs import (
    check_bins,
    check_heads,
    check_observation,
    check_sizes,
    check_statistics,
    check_type,
    standardized,
)
from pwm_sdk.models.layers import init_fan_in, latent_mlp, world_model_mlp
from pwm_sdk.models.sizes import sized_settings


@checked(
    num_tasks=least(0),
    simnorm_size=least(0),
    encoder_hidden=least(1),
    hidden=least(1),
    reward=shaped(..., 1),
)
class WorldModel(Checkpointed):
    """Encoder, latent dynamics and reward: a `LatentModel` with learned parameters.

    z = enc(o, e), z' = dyn(z, e, a), r = rew(z, e, a), with e the learned embedding of the task.
    Latents are SimNorm simplices, rewards plain scalars, or two-hot distributions over symlog bins
    with `num_bins > 0`.

    The defaults are the settings that were measured to learn (docs/experiments.md);
    `WorldModel.published(observation_dim, action_dim)` has those of TD-MPC2's program.

    Args:
        observation_dim: O, padded size where tasks differ.
        action_dim: A, padded size where tasks differ.
        num_tasks: K; 0 for a model of a single task, which then takes no task ids.
        task_dim: size of the task embedding, used when `num_tasks > 0`.
        latent_dim: D, divisible by `simnorm_size`.
        hidden: widths of dynamics and reward.
        encoder_hidden: widths of the encoder.
        num_bins: bins of the reward head (published: 101), or 0 for a scalar reward in raw units.
        simnorm_size: group size of SimNorm; 0 leaves LayerNorm latents.
        action_dims: real action sizes of the K tasks; inputs beyond them are masked to zero. None:
            no mask.
        activation: "mish" as published, or "silu", about three times cheaper on a CPU.
        standardize: keep observation statistics, per task where there are tasks, by which `encode`
            standardises and beyond 10 standard deviations clips. Observations pass as they are
            until `set_observation_statistics` is called, as `GrowingBatch` does. Published: False.
        init: first weights: "fan_in", see `init_fan_in`, or "published", of std 0.02 whatever the
            layer's size.
        task_init: standard deviation of the task embeddings' first values; None: that of `init`,
            for "published" uniform in (-0.02, 0.02). Embeddings are kept inside the unit ball.
        episodic: predict whether a latent ends its episode, with one more network; `step` then
            returns it.
        spectral_norm: end encoder and dynamics in a Linear of spectral norm 1 instead of LayerNorm
            and SimNorm; `simnorm_size` must be 0.

    Raises:
        ValueError: if sizes do not fit together.

    Source: TD-MPC2 (arXiv 2310.16828), section 3 and appendix; PWM (arXiv 2407.02466), section 4.1.
    """

    foreign: ClassVar = {"TD-MPC2": tdmpc2_world_model, "PWM": pwm_world_model}
    published_settings: ClassVar = {
        "task_dim": 96,
        "latent_dim": 512,
        "hidden": (512, 512),
        "encoder_hidden": (256,),
        "num_bins": 101,
        "simnorm_size": 8,
        "activation": "mish",
        "standardize": False,
        "init": "published",
        "task_init": None,
        "episodic": False,
        "spectral_norm": False,
    }
    factored: ClassVar = True  # `step` is `next`, `reward` and, if episodic, `terminated`

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        *,
        num_tasks: int = 0,
        task_dim: int = 16,
        latent_dim: int = 128,
        hidden: Sequence[int] = (256, 256),
        encoder_hidden: Sequence[int] = (256,),
        num_bins: int = 0,
        simnorm_size: int = 8,
        action_dims: Sequence[int] | None = None,
        activation: str = "silu",
        standardize: bool = True,
        init: str = "fan_in",
        task_init: float | None = None,
        episodic: bool = False,
        spectral_norm: bool = False,
    ) -> None:
        settings = constructor_arguments(locals())
        super().__init__()
        self.settings, self.episodic = settings, episodic
        if init not in ("fan_in", "published"):
            raise ValueError(f"init must be 'fan_in' or 'published', got {init!r}")
        check_sizes(observation_dim, action_dim, latent_dim, num_tasks, task_dim)
        check_heads(latent_dim, simnorm_size, num_bins, spectral_norm)
        self.observation_dim, self.action_dim = observation_dim, action_dim
        self.latent_dim, self.num_tasks, self.num_bins = latent_dim, num_tasks, num_bins
        embedded = task_dim if num_tasks else 0
        end = simnorm_size, spectral_norm
        joint = latent_dim + embedded + action_dim
        self.encoder = latent_mlp(
            observation_dim + embedded, encoder_hidden, latent_dim, activation, *end
        )
        self.dynamics = latent_mlp(joint, hidden, latent_dim, activation, *end)
        self.reward_head = world_model_mlp(joint, hidden, max(num_bins, 1), activation)
        head: Any = self.reward_head[-1]
        nn.init.zeros_(head.weight)
        self.termination_head = (
            world_model_mlp(latent_dim + embedded, hidden, 1, activation) if self.episodic else None
        )
        self.task_embedding = new_embedding(num_tasks, task_dim, task_init)
        self.action_mask: Tensor | None
        mask = action_masks(action_dims, num_tasks, action_dim)
        self.register_buffer("action_mask", mask, persistent=False)
        self.observation_mean: Tensor | None
        self.observation_std: Tensor | None
        shape = (num_tasks, observation_dim) if num_tasks else (observation_dim,)
        self.register_buffer("observation_mean", torch.zeros(shape) if standardize else None)
        self.register_buffer("observation_std", torch.ones(shape) if standardize else None)
        if init == "fan_in":
            init_fan_in(self)
            if self.task_embedding is not None and task_init is not None:
                nn.init.normal_(self.task_embedding, std=task_init)

    @classmethod
    def published(cls, observation_dim: int, action_dim: int, **settings: object) -> Self:
        """Build a world model with the settings of TD-MPC2's program, of 5 million parameters.

        Latents of 512, rewards of 101 bins, Mish, observations as they are.

        Args:
            observation_dim: O.
            action_dim: A.
            settings: further arguments of the constructor, or others in place of these.

        Source: TD-MPC2 (arXiv 2310.16828), its program; see docs/differences.md.
        """
        arguments: dict[str, Any] = {**cls.published_settings, **settings}
        return cls(observation_dim, action_dim, **arguments)

    @classmethod
    def from_size(cls, size: int, tasks: PaddedTasks | None = None, **overrides: object) -> Self:
        """Build a published model of a published size, with masks for actions that tasks lack.

        Args:
            size: 1, 5, 19, 48 or 317 million parameters, those of Q functions and policy included.
            tasks: a `TaskSet` such as `MT80`; None for a model without tasks, for which
                `observation_dim` and `action_dim` must be given.
            overrides: arguments of the constructor that replace those of the size.

        Returns:
            A model with first weights; see `model_size` for the widths.

        Raises:
            ValueError: if there is no such size, or sizes of observation and action are missing.
        """
        return cls(**{**cls.published_settings, **sized_settings(size, tasks, overrides)})

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], tasks: Spaces | None = None) -> Self:
        """Build a world model from a file of `save`, of TD-MPC2 or of PWM, on the CPU.

        All sizes are those of the weights.

        Args:
            path: the file.
            tasks: the `TaskSet` that the model was trained for, or the one `Task`: it is compared
                with the file, and its action sizes become masks where the file has none (files of
                TD-MPC2 before late 2024 and of PWM). None compares nothing and adds no masks.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged, would run code, has an unknown layout or is of a
                newer version, if a weight is missing, unknown or does not fit, or if the model is
                of other tasks or sizes.
        """
        settings, weights = cls._read(path)
        return cls._build(fit_tasks(settings, tasks, path), weights, path)

    def set_observation_statistics(
        self, mean: Tensor, std: Tensor, task: int | None = None
    ) -> None:
        """Set mean and std `[O]` by which `encode` standardises the observations (of one task).

        Raises:
            ValueError: if the model has no statistics, or these do not fit it.
        """
        if self.observation_mean is None or self.observation_std is None:
            raise ValueError(
                "standardize must be True to set observation statistics, got a model without them"
            )
        check_statistics(self.observation_mean, mean, std, task)
        index = () if task is None else (task,)
        self.observation_mean[index] = mean.to(self.observation_mean)
        self.observation_std[index] = std.to(self.observation_std)

    def context(self, task: Tensor | TaskContext | None) -> TaskContext:
        """Look up embedding and action mask of task ids `[..]`; pass the result as `task`.

        Raises:
            ValueError: if the model has tasks and ids are missing, or (on the CPU) unknown.
        """
        if isinstance(task, TaskContext):
            return task
        if self.task_embedding is None:
            return TaskContext(None, self.action_mask)
        if task is None:
            raise ValueError(
                f"task must be given: this model knows {self.num_tasks} tasks, got None"
            )
        try:
            embedding = look_up(self.task_embedding, task)
        except IndexError as error:
            raise ValueError(
                f"task must be ids in 0..{self.num_tasks - 1}, got {task.unique().tolist()}"
            ) from error
        mask = None if self.action_mask is None else self.action_mask[task]
        return TaskContext(embedding, mask, task.unsqueeze(-1))

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Encode observations.

        Args:
            observation: `[.., O]`.
            task: ids `[..]` int64, broadcastable to the observation's leading shape; None without
                tasks.

        Returns:
            Latent `[.., D]`.
        """
        check_observation(observation, task, self.observation_dim)
        embedding = self.context(task).embedding
        if self.observation_mean is not None and self.observation_std is not None:
            index = () if self.num_tasks == 0 else (task,)
            mean, std = self.observation_mean[index], self.observation_std[index]
            observation = standardized(observation, mean, std)
        inputs = join(observation, embedding)
        check_type(inputs, next(self.parameters()).dtype)
        return self.encoder(inputs)

    def inputs(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> Tensor:
        """Join latent `[.., D]`, embedding and masked action `[.., A]` for dynamics and reward."""
        if latent.shape[-1] != self.latent_dim or action.shape[-1] != self.action_dim:
            raise ValueError(
                f"latent and action must have sizes {self.latent_dim} and {self.action_dim}, "
                f"got {list(latent.shape)} and {list(action.shape)}"
            )
        context = self.context(task)
        if context.action_mask is not None:
            action = action * context.action_mask
        return join(latent, context.embedding, action)

    def next(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> Tensor:
        """Predict the next latent `[.., D]` of latent `[.., D]` and action `[.., A]`."""
        return self.dynamics(self.inputs(latent, action, task))

    def reward_logits(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> Tensor:
        """Return raw outputs of the reward head, `[.., num_bins]` (scalar head: `[.., 1]`)."""
        return full(self.reward_head(self.inputs(latent, action, task)))

    def reward(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> Tensor:
        """Predict the reward `[.., 1]` in the units of the training data."""
        return self.decode_reward(self.reward_logits(latent, action, task))

    def decode_reward(self, logits: Tensor) -> Tensor:
        """Turn outputs of the reward head into rewards `[.., 1]`."""
        check_bins(logits, self.num_bins)
        return two_hot_decode(logits) if self.num_bins else logits

    def reward_error(self, logits: Tensor, reward: Tensor) -> Tensor:
        """Loss of the reward head, `[.., 1]`: two-hot cross entropy, or squared error (scalar)."""
        check_bins(logits, self.num_bins)
        return two_hot_loss(logits, reward) if self.num_bins else (logits - reward).square()

    def termination_logits(
        self, latent: Tensor, task: Tensor | TaskContext | None = None
    ) -> Tensor:
        """Return log odds `[.., 1]` that latents `[.., D]` ended their episode.

        Raises:
            ValueError: if the model is not episodic.
        """
        if self.termination_head is None:
            raise ValueError("episodic must be True to predict terminations, got False")
        return full(self.termination_head(join(latent, self.context(task).embedding)))

    def terminated(self, latent: Tensor, task: Tensor | TaskContext | None = None) -> Tensor:
        """Tell whether latents `[.., D]` more likely than not ended their episode, `[.., 1]`."""
        return self.termination_logits(latent, task) > 0.0

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | TaskContext | None = None
    ) -> tuple[Tensor, ...]:
        """Predict next latent `[.., D]`, reward `[.., 1]` and, if episodic, its end `[.., 1]`."""
        context = self.context(task)
        next_latent = self.next(latent, action, context)
        reward = self.reward(latent, action, context)
        if self.termination_head is None:
            return next_latent, reward
        return next_latent, reward, self.terminated(next_latent, context)
