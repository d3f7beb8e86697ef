"""A latent model as a TorchRL environment."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import ModelBasedEnvBase

from pwm_sdk.calls import checked, shaped
from pwm_sdk.contract.abilities import lacks
from pwm_sdk.contract.models import (
    FeatureModel,
    LatentModel,
    SimulatorModel,
    TaskModel,
    features,
)
from pwm_sdk.keys import ACTION, DONE, LATENT, REWARD, STATE, TASK, TERMINATED

__all__ = ["LatentEnv"]


@checked(latent=shaped(..., None))
class LatentEnv(ModelBasedEnvBase):
    """Imagine a latent model step by step, as TorchRL does: any batch size, with gradients.

    `env.rollout(H, policy, tensordict=env.start(latent), break_when_any_done=False)` has the
    latents, actions, rewards and ends of a `LatentRollout`, and their graph. It costs more per
    step, and brings TorchRL's transforms, losses and collectors. Rows that the model ends are
    imagined on, as there, and no step waits for the device.

    Root and `next` hold `latent` `[.., F]`, what policies see; of a model with `features` also
    `state` `[.., D]`, its own latent. A model of tasks has `task` `[..]` at the root. `next` has
    `reward`, `terminated` and `done` `[.., 1]`. A reset without a start begins where a
    `SimulatorModel` starts its episodes, and with other models at a latent of zeros.

    Args:
        model: a `LatentModel`; an `nn.Module` becomes part of the environment, parameters and all,
            and says its device and dtype.

    Raises:
        ValueError: if `model` is no latent model.
    """

    def __init__(self, model: LatentModel) -> None:
        inner = _Step(model)
        tasks: int = inner.model.num_tasks if inner.counts else 0
        parameter = next(inner.parameters(), torch.zeros(0, device="cpu"))
        key = STATE if inner.shows else LATENT
        names: list[Any] = [key, ACTION, *[TASK] * bool(tasks)]
        super().__init__(
            TensorDictModule(inner, names, [key, REWARD, TERMINATED]),
            device=parameter.device,
            batch_size=torch.Size([]),
            allow_done_after_reset=True,
        )
        self._tasks, self._key, self._dtype = tasks, key, parameter.dtype
        self._generator = torch.Generator(parameter.device)
        self._generator.seed()
        self._set_specs()

    @property
    def model(self) -> Any:
        """The model that is imagined."""
        return self.world_model.module.model

    def start(self, latent: Tensor, task: Tensor | None = None) -> TensorDict:
        """Lay out where episodes start, for `reset` and `rollout`.

        Args:
            latent: the model's own latents `[.., D]`, for example `model.encode(observation)`.
            task: ids `[..]`, for a model of tasks.

        Returns:
            TensorDict `[..]` of the root's entries.

        Raises:
            ValueError: if latents are of another size, or tasks are missing or do not fit.
        """
        if latent.shape[-1] != self.model.latent_dim:
            raise ValueError(
                f"latent must have shape [.., {self.model.latent_dim}], got {list(latent.shape)}"
            )
        if bool(self._tasks) != (task is not None):
            said = f"of a model of {self._tasks} tasks" if self._tasks else "None without tasks"
            raise ValueError(f"task must be {said}, got {'none' if task is None else 'one'}")
        batch = latent.shape[:-1]
        if task is not None and task.shape != batch:
            raise ValueError(f"task must have shape {list(batch)}, got {list(task.shape)}")
        found = {LATENT: features(self.model, latent), self._key: latent}
        if task is not None:
            found[TASK] = task
        return TensorDict(found, batch, device=self.device)

    def any_done(self, tensordict: TensorDictBase) -> bool:
        """Return False: rollouts go on, and do not wait for the device to say so."""
        return False

    def maybe_reset(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return the next root as it is: imagined episodes are not begun again."""
        return tensordict

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDict:
        batch = torch.Size([]) if tensordict is None else tensordict.batch_size
        given = None if tensordict is None else tensordict.get(self._key, None)
        task = None if tensordict is None else tensordict.get(TASK, None)
        if self._tasks and task is None:
            task = torch.zeros(batch, dtype=torch.int64, device=self.device)
        latent = self._draw(batch) if given is None else given
        return self.start(latent, task if self._tasks else None)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        latent = tensordict[self._key]
        action = tensordict[ACTION].to(latent.dtype)
        task = tensordict[TASK] if self._tasks else None
        following, reward, terminated = self.world_model.module(latent, action, task)
        found = {LATENT: features(self.model, following), self._key: following}
        found |= {REWARD: reward, TERMINATED: terminated, DONE: terminated.clone()}
        return TensorDict(found, tensordict.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self._generator.manual_seed(seed)

    def _draw(self, batch: torch.Size) -> Tensor:
        """Return latents `[.., D]` at which episodes start."""
        model = self.model
        if isinstance(model, SimulatorModel):
            return model.reset(batch.numel(), self._generator).reshape(*batch, -1)
        return torch.zeros(*batch, model.latent_dim, dtype=self._dtype, device=self.device)

    @torch.no_grad()
    def _set_specs(self) -> None:
        """Read sizes and types from one step."""
        begin = self._reset()
        action = torch.zeros(self.model.action_dim, dtype=self._dtype, device=self.device)
        after = self._step(begin.set(ACTION, action))
        place: dict[str, Any] = {"device": self.device}

        def like(value: Tensor) -> Unbounded:
            return Unbounded(value.shape, dtype=value.dtype, **place)

        seen = dict.fromkeys((LATENT, self._key))
        self.observation_spec = Composite({key: like(begin[key]) for key in seen}, **place)
        state: dict[str, Any] = {self._key: like(begin[self._key])}
        if self._tasks:
            state[TASK] = Categorical(self._tasks, torch.Size([]), dtype=torch.int64, **place)
        self.state_spec = Composite(state, **place)
        self.action_spec = Bounded(-1.0, 1.0, action.shape, dtype=action.dtype, **place)
        self.reward_spec = like(after[REWARD])


class _Step(nn.Module):
    """A step of a model as a module, which has the model's parameters."""

    def __init__(self, model: LatentModel) -> None:
        super().__init__()
        self.model: Any = model
        self.shows = not lacks(model, FeatureModel)
        self.counts = "num_tasks" not in lacks(model, TaskModel)
        self.looks_up = "context" not in lacks(model, TaskModel)

    def forward(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return next latent, reward and end, also of latents without batch size."""
        if latent.dim() == 1:
            rows = (None if x is None else x.unsqueeze(0) for x in (latent, action, task))
            following, reward, terminated = self.forward(*rows)  # pyright: ignore
            return following[0], reward[0], terminated[0]
        context = self.model.context(task) if self.looks_up else task
        following, reward, *ends = self.model.step(latent, action, context)
        ended = ends[0] if ends else torch.zeros_like(reward, dtype=torch.bool)
        return following, reward, ended
