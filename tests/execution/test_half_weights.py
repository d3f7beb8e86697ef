"""Weights of a frozen model in bfloat16: cast once an update, the same products, put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pwm_sdk import PWM, Critic, Execution, FirstOrderActor, PWMConfig, WorldModel
from pwm_sdk.execution.half_weights import HalfWeights

STARTS = 5


def make_model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel.published(
        3, 2, latent_dim=16, hidden=(24,), encoder_hidden=(20,), num_bins=11
    )


def step(model: WorldModel) -> tuple[Tensor, Tensor]:
    """A next latent and its slope in the action, in an autocast."""
    draws = torch.Generator().manual_seed(1)
    latent = torch.rand(STARTS, 16, generator=draws)
    action = torch.randn(STARTS, 2, generator=draws).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        following = model.next(latent, action)
    (slope,) = torch.autograd.grad(following.square().sum(), action)
    return following.detach(), slope


def same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_products_are_those_of_an_autocast_bit_by_bit() -> None:
    model = make_model().requires_grad_(False)
    expected = step(model)
    with HalfWeights(model):
        weights = [p.dtype for p in model.dynamics.parameters() if p.dim() == 2]
        found = step(model)
    assert weights == [torch.bfloat16] * 2
    assert same(found, expected)


def test_copies_are_taken_anew_every_time() -> None:
    model = make_model().requires_grad_(False)
    half, before = HalfWeights(model), step(model)
    torch.nn.init.normal_(model.dynamics[0].weight)
    expected = step(model)
    with half:
        found = step(model)
    assert same(found, expected)
    assert not same(found, before)


def test_the_weights_come_back_as_they_were_after_errors_too() -> None:
    model = make_model()
    before = dict(model.named_parameters())
    copied = {name: p.detach().clone() for name, p in before.items()}
    with pytest.raises(KeyError, match="late"), HalfWeights(model):
        raise KeyError("late")
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is p and p.requires_grad for name, p in before.items())
    assert all(torch.equal(after[name], value) for name, value in copied.items())


def test_layers_that_name_no_weights_and_what_is_no_module_are_left_alone() -> None:
    layer = torch.nn.Linear(2, 2)
    with HalfWeights(layer), HalfWeights(object()), HalfWeights(None):
        assert layer.weight.dtype == layer.bias.dtype == torch.float32


class Casts(TorchDispatchMode):
    """Counts casts to bfloat16 of some tensors."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self.places, self.count = {t.data_ptr() for t in tensors}, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.places:
            self.count += (kwargs or {}).get("dtype") == torch.bfloat16
        return func(*args, **(kwargs or {}))


def test_an_update_in_bf16_casts_no_weight_of_the_model_at_every_step() -> None:
    model, horizon = make_model(), 4
    actor, critic = FirstOrderActor.published(16, 2, (8,)), Critic.published(16, (8,))
    weights = list(model.dynamics.parameters())
    batch = TensorDict({"observation": torch.randn(STARTS, 3)}, [STARTS])
    pwm = PWM(
        model,
        actor,
        critic,
        PWMConfig.paper(horizon=horizon),
        execution=Execution(precision="bf16"),
    )
    with Casts(weights) as casts:
        pwm.update(batch)
    assert casts.count == 0
    pwm.runner._weights = HalfWeights(None)
    with Casts(weights) as casts:
        pwm.update(batch)
    assert casts.count == 4 * horizon  # weight and bias of both layers
