"""A small PWM, always with the same start, and all that its updates leave behind."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from pwm_sdk.algorithms.population import Population
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.algorithms.return_scales import ReturnScale
from pwm_sdk.execution.settings import Execution
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel

CONFIG = PWMConfig.paper(
    horizon=3, critic_epochs=2, critic_splits=2, saturation=0.1, target_tau=0.1
)
PUBLISHED = PWMConfig.published(horizon=3)
MEMBERS = "Population"  # two policies with streams and learning rates of their own

Kind = int | str | None  # one policy, P policies of a PWM, or MEMBERS


def assemble(kind: Kind, execution: Execution | None = None, config: PWMConfig = CONFIG) -> PWM:
    """The same start every time: two tasks of one and two actions, hidden behind masks."""
    torch.manual_seed(0)
    model = WorldModel.published(
        3, 2, num_tasks=2, task_dim=4, latent_dim=16, hidden=(8,), encoder_hidden=(8,),
        action_dims=[1, 2], num_bins=11,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    population = 2 if kind == MEMBERS else kind
    dims = None if population is None else [1, 2]
    actor: Any = FirstOrderActor.published(16, 2, (8,), population=population, action_dims=dims)
    critic: Any = Critic.published(16, (8,), 3, population=population)
    scale = None if config.return_scale == "deviation" else ReturnScale(population)
    options: dict[str, Any] = {"return_scale": scale, "execution": execution}
    options["generator"] = torch.Generator().manual_seed(1)
    if kind == MEMBERS:
        return Population(model, actor, critic, config, seeds=[3, 4], rates=[1.0, 0.5], **options)
    return PWM(model, actor, critic, config, **options)


def starts(population: int | None, count: int = 8) -> TensorDict:
    """Starts `[B]`, or `[2, B]` with one task a policy."""
    lead = (count,) if population is None else (2, count)
    task = torch.arange(count).remainder(2) if population is None else torch.arange(2).view(2, 1)
    observation = torch.randn(*lead, 3, generator=torch.Generator().manual_seed(2))
    return TensorDict({"observation": observation, "task": task.expand(lead).clone()}, lead)


def outcome(pwm: PWM, updates: int = 1, count: int = 8) -> dict[str, Tensor]:
    """Metrics, last gradients, parameters and the way that each network went, by name."""
    parts: dict[str, nn.Module] = {name: getattr(pwm, name) for name in ("actor", "critic")}
    if pwm.target is not pwm.critic:
        parts["target"] = pwm.target
    before = {name: parameters_to_vector(part.parameters()) for name, part in parts.items()}
    metrics: dict[str, Tensor] = {}
    for _ in range(updates):
        metrics = pwm.update(starts(pwm.population, count))
    results = {f"metric {name}": value for name, value in metrics.items()}
    for part, network in parts.items():
        results[f"step of {part}"] = parameters_to_vector(network.parameters()) - before[part]
        for name, parameter in network.named_parameters():
            results[f"{part}.{name}"] = parameter.detach()
            if parameter.grad is not None:
                results[f"gradient of {part}.{name}"] = parameter.grad
    return {name: value.detach().clone() for name, value in results.items()}


def difference(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-6))
