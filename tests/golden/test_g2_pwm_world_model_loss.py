"""PWM's own loss of a world model: values, gradients, weights after a step."""

from __future__ import annotations

import torch
from published_weights import Data, prefixed, world_model
from tensordict import TensorDict
from vectors import load

from pwm_sdk.objectives.world_model import pwm_model_loss
from pwm_sdk.optim import optimize

OURS = {"_encoder.": "encoder.", "_dynamics.": "dynamics.", "_reward.": "reward_head."}


def ours(name: str) -> str:
    part = next(theirs for theirs in OURS if name.startswith(theirs))
    return name.replace(part, OURS[part])


def windows(data: Data) -> TensorDict:
    """Batch-first windows of a file's time-major tensors."""
    names = {"obs": "observation", "action": "action", "reward": "reward"}
    tensors = {our: data[f"in/{name}"].transpose(0, 1) for name, our in names.items()}
    return TensorDict(tensors, [len(tensors["reward"])])


def test_loss_gradients_and_step(close) -> None:
    data = load("g2_pwm_wm_loss_single_task.npz")
    model = world_model(prefixed(data, "w/wm."), data).requires_grad_(True)
    dynamics, reward = pwm_model_loss(model, windows(data), gamma=float(data["cfg/gamma"]))
    close(dynamics, data["out/dynamics_loss"])
    close(reward, data["out/reward_loss"].float())
    close(dynamics + reward, data["out/total_loss"])
    optimizer = torch.optim.Adam(model.parameters(), lr=float(data["cfg/model_lr"]))
    norm = optimize(dynamics + reward, optimizer, float(data["cfg/wm_grad_norm"]))
    relative(norm, data["out/grad_norm_total"])
    parameters = dict(model.named_parameters())
    norms = prefixed(data, "out/gradnorm/")
    assert {ours(name) for name in norms} == set(parameters)
    for name, expected in norms.items():
        relative(parameters[ours(name)].grad.norm(), expected)
    for name, expected in prefixed(data, "out/grad/").items():
        relative(parameters[ours(name)].grad, expected)
    after = prefixed(data, "after/wm.")
    assert {ours(name) for name in after} == set(parameters)
    for name, expected in after.items():
        close(parameters[ours(name)], expected)


def relative(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Gradients: within 1e-4 of the largest."""
    assert float((actual - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
