"""What agents share that climb the gradient of an imagined return: `PWM` and `SHAC`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pwm_sdk.algorithms.critic_fit import CriticFit
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.algorithms.shac_config import SHACConfig
from pwm_sdk.calls import checked, least, or_nothing
from pwm_sdk.contract.models import LatentModel
from pwm_sdk.contract.parts import StartingModel, Trained, TrainedPolicy, TrainedValue
from pwm_sdk.contract.policies import LearnedNoise, population_of
from pwm_sdk.execution.finite import Watched
from pwm_sdk.execution.graphs import prepare
from pwm_sdk.execution.runner import Runner
from pwm_sdk.execution.settings import Execution
from pwm_sdk.generators import own_generator, restore_generator
from pwm_sdk.optim import adam, frozen, optimize, scale_learning_rates, soft_update
from pwm_sdk.states import load_state, state_of

WATCHED = RETURNS, ACTOR, VALUE = (
    "imagined returns",
    "the actor's loss and gradient",
    "the critic's loss and gradient",
)


@checked(model=or_nothing)
class FirstOrder(Watched):
    """An actor that learns through a model, and the critic that it bootstraps with.

    A subclass says where imagination starts, what of it the actor climbs (`_improve_actor`) and
    what else an update changes (`_parts`); the rest stands here.

    Args:
        model: a `LatentModel`, left as it is.
        actor: one policy, or a population.
        critic: of the same population.
        config: settings; actor_lr, critic_lr, betas, actor_max_norm, critic_max_norm and target_tau
            are read here.
        minibatches: arguments of `pwm_sdk.minibatches` for the critic.
        generator: source of random numbers; None: one of its own.
        execution: how updates are run; None: eager, in fp32.
        halved: module whose weights an update in bfloat16 casts once; None: none.
        captures: whether `_improve_actor` can be captured as a CUDA graph.
    """

    decay_floor = 0.02

    def __init__(
        self,
        model: LatentModel | StartingModel,
        actor: TrainedPolicy,
        critic: TrainedValue,
        config: PWMConfig | SHACConfig,
        *,
        minibatches: dict[str, Any],
        generator: torch.Generator | None,
        execution: Execution | None,
        halved: object = None,
        captures: bool = False,
    ) -> None:
        self.model: Any = model
        self.actor: Any = actor
        self.critic: Any = critic
        self.config: Any = config
        self.population: int | None = population_of(actor)
        self.device = device = next(actor.parameters()).device
        self.generator = self._source(generator)
        self.runner = Runner(
            execution,
            device,
            WATCHED,
            population=self.population,
            model=halved,
            compiles=True,
            captures=captures,
        )
        self.execution, self.finite = self.runner.settings, self.runner.finite
        self.target: Any = critic if config.target_tau is None else fixed_copy(critic)
        self._bootstrap: Any = (
            self.runner.compiled(self.target.forward) if self.execution.compile else self.target
        )
        self.actor_optimizer = adam(actor.parameters(), config.actor_lr, betas=config.betas)
        self.critic_optimizer = adam(critic.parameters(), config.critic_lr, betas=config.betas)
        self.fit_critic = CriticFit(
            critic,
            self.critic_optimizer,
            config.critic_max_norm,
            parts={**minibatches, "generator": self.generator},
            population=self.population,
            execution=self.execution,
            watch=self.finite,
            name=VALUE,
        )
        self.updates = 0
        self._prepare()

    @checked(factor=least(0.0), critic=least(0.0))
    def set_learning_rates(self, factor: float, critic: float | None = None) -> None:
        """Set both learning rates to a share of those that they were made with.

        Args:
            factor: the share; 0 lets the actor wait, for example for its critic.
            critic: the critic's, where it is another.
        """
        scale_learning_rates(self.actor_optimizer, factor)
        scale_learning_rates(self.critic_optimizer, factor if critic is None else critic)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `update` changes."""
        state = {name: state_of(part) for name, part in self._parts().items()}
        if self.finite.stopped is not None:
            state["stopped"] = self.finite.stopped.clone()
        return {**state, "generator": self.generator.get_state(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        for name, part in self._parts().items():
            load_state(part, state[name])
        self.updates = state["updates"]
        self.finite.load(state.get("stopped"))
        self._prepare()
        restore_generator(self.generator, state.get("generator"))

    def _source(self, generator: torch.Generator | None) -> torch.Generator:
        """Return where random numbers come from, on the device of the networks."""
        return own_generator(self.device, generator)

    def _parts(self) -> dict[str, Any]:
        """Return what an update changes and `state_dict` keeps."""
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }

    def _prepare(self) -> None:
        """Make both passes ready to run; a captured one is captured again."""
        prepare(self.actor_optimizer, self.execution.cuda_graphs)
        self.fit_critic.prepare(self.execution.cuda_graphs)
        self._imagine: Any = self.runner.captured(self._improve_actor)

    def _improve_actor(self, *given: object) -> Any:
        """Imagine and step the actor."""
        raise NotImplementedError

    @contextmanager
    def _imagining(self) -> Iterator[None]:
        """Let gradients pass through model and critic to the actor alone."""
        if isinstance(self.actor, LearnedNoise):
            self.actor.clamp_std_()
        with self.runner.running(), frozen(self.model, self.critic):
            yield

    def _climb(self, loss: Tensor) -> Tensor:
        """Step the actor; returns the norm of its gradient, `[]` or `[P]`."""
        return optimize(
            loss,
            self.actor_optimizer,
            self.config.actor_max_norm,
            population=self.population,
            watch=self.finite,
            name=ACTOR,
        )

    def _move_averages(self) -> None:
        """Count the update, and let the critic that bootstraps follow the one that learns."""
        self.updates += 1
        if self.config.target_tau is not None:
            soft_update(self.target, self.critic, self.config.target_tau)


def fixed_copy(network: Trained) -> Any:
    """Return a copy of a network that takes no gradient."""
    copied = copy.deepcopy(network)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied
