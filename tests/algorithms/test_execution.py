"""However an update is executed, it is the same update."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pwm_sdk.algorithms.execution import Captured, Execution
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.normalizers import ReturnScale
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.optim import FiniteWatch, optimize

CONFIG = PWMConfig(horizon=3, critic_epochs=2, critic_splits=2, saturation=0.1, target_tau=0.1)


def assemble(
    population: int | None, execution: Execution | None = None, config: PWMConfig = CONFIG
) -> PWM:
    """The same start every time: two tasks of one and two actions, hidden behind masks."""
    torch.manual_seed(0)
    model = WorldModel(
        3, 2, num_tasks=2, task_dim=4, latent_dim=16, hidden=(32,), encoder_hidden=(16,),
        action_dims=[1, 2], num_bins=11,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    dims = None if population is None else [1, 2]
    actor = FirstOrderActor(16, 2, (16, 8), population=population, action_dims=dims)
    critic = Critic(16, (16, 8), 3, population=population)
    scale, generator = ReturnScale(population), torch.Generator().manual_seed(1)
    return PWM(
        model, actor, critic, config, return_scale=scale, generator=generator, execution=execution
    )


def starts(population: int | None) -> TensorDict:
    lead = (8,) if population is None else (2, 8)
    task = torch.arange(8).remainder(2) if population is None else torch.arange(2).view(2, 1)
    observation = torch.randn(*lead, 3, generator=torch.Generator().manual_seed(2))
    return TensorDict({"observation": observation, "task": task.expand(lead).clone()}, lead)


def outcome(pwm: PWM, updates: int = 1) -> dict[str, Tensor]:
    """Metrics, last gradients and parameters after some updates, by name."""
    metrics: dict[str, Tensor] = {}
    for _ in range(updates):
        metrics = pwm.update(starts(pwm.population))
    results = {f"metric {name}": value for name, value in metrics.items()}
    for part in ("actor", "critic", "target"):
        for name, parameter in getattr(pwm, part).named_parameters():
            results[f"{part}.{name}"] = parameter.detach()
            if parameter.grad is not None:
                results[f"gradient of {part}.{name}"] = parameter.grad
    return results


def difference(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-6))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize(
    ("execution", "population", "tolerance"),
    [
        (Execution(check_every=2), None, 1e-6),
        (Execution(check_every=2), 2, 1e-6),
        (Execution(cuda_graphs=True), None, 1e-6),
        (Execution(cuda_graphs=True), 2, 1e-6),
        (Execution(precision="bf16"), None, 0.05),
        (Execution(precision="bf16"), 2, 0.05),
        (Execution(compile=True), 2, 1e-5),
        (Execution(compile=True, precision="bf16"), None, 0.05),
    ],
    ids=str,
)
def test_every_variant_is_the_eager_update(
    monkeypatch, execution: Execution, population: int | None, tolerance: float
) -> None:
    # Without a GPU a captured pass is the pass itself, behind the same door.
    monkeypatch.setattr(Execution, "captures", lambda self, device: self.cuda_graphs)
    monkeypatch.setattr("pwm_sdk.algorithms.execution.CudaGraphModule", lambda function: function)
    expected = outcome(assemble(population))
    actual = outcome(assemble(population, execution))
    assert set(actual) == set(expected)
    wrong = {name: difference(actual[name], expected[name]) for name in expected}
    print(execution, population, sorted(wrong.items(), key=lambda x: -x[1])[:6])
    assert {name: error for name, error in wrong.items() if not error <= tolerance} == {}
