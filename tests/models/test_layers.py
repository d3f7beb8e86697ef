"""Building blocks: SimNorm, normed layers and stacks, by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from pwm_sdk.models.layers import (
    NormedLinear,
    SimNorm,
    StackedLinear,
    StackedMLP,
    init_fan_in,
    make_activation,
    world_model_mlp,
)


def test_simnorm_by_hand() -> None:
    # Groups (0, ln 3) and (ln 2, ln 2): softmax (1/4, 3/4) and (1/2, 1/2).
    x = torch.tensor([[0.0, math.log(3.0), math.log(2.0), math.log(2.0)]])
    torch.testing.assert_close(SimNorm(2)(x), torch.tensor([[0.25, 0.75, 0.5, 0.5]]))


def test_world_model_mlp_ends_in_a_linear_or_in_the_last_module() -> None:
    plain = world_model_mlp(3, (8, 8), 2, "mish")
    assert [type(layer) for layer in plain] == [NormedLinear, NormedLinear, nn.Linear]
    normed = world_model_mlp(3, (8,), 4, "mish", SimNorm(2))
    groups = normed(torch.randn(5, 3)).view(5, 2, 2)
    torch.testing.assert_close(groups.sum(-1), torch.ones(5, 2))


def test_stacked_linear_by_hand() -> None:
    layer = StackedLinear(2, 1, (2,))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]))
        layer.bias.copy_(torch.tensor([[[0.5]], [[-0.5]]]))
    x = torch.tensor([[[1.0, 1.0]], [[1.0, 1.0]]])
    torch.testing.assert_close(layer(x), torch.tensor([[[3.5]], [[6.5]]]))


def test_layer_norm_after_and_before_the_activation_by_hand() -> None:
    # With identity weights and x = (1, -3): relu gives (1, 0), normalised (1, -1), head 1 - 2 = -1.
    # Normalising first gives (1, -1), relu (1, 0), head 1; without a norm relu (1, 0), head 1.
    x = torch.tensor([[1.0, -3.0]])
    for norm, expected in (("post_activation", -1.0), ("pre_activation", 1.0), ("none", 1.0)):
        net = StackedMLP(2, (2,), 1, activation="relu", norm=norm)
        with torch.no_grad():
            net.layers[0].weight.copy_(torch.eye(2))
            net.head.weight.copy_(torch.tensor([[1.0], [2.0]]))
        torch.testing.assert_close(net(x), torch.tensor([[expected]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", ["post_activation", "pre_activation", "none"])
@pytest.mark.parametrize("stack", [(3,), (2, 3)])
def test_each_member_of_a_stack_is_a_network_of_its_own(stack: tuple[int, ...], norm: str) -> None:
    together = StackedMLP(4, (8, 6), 2, stack, norm=norm)
    for parameter in together.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(*stack, 7, 4)
    alone = StackedMLP(4, (8, 6), 2, norm=norm)
    for index in torch.cartesian_prod(*map(torch.arange, stack)).view(-1, len(stack)).tolist():
        at = tuple(index)
        alone.load_state_dict({k: v[at] for k, v in together.state_dict().items()})
        torch.testing.assert_close(together(x)[at], alone(x[at]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stack", [(), (3,), (2, 3)])
def test_weights_that_take_in_scale_and_shift_change_nothing(stack: tuple[int, ...]) -> None:
    """With few rows LayerNorm scales them, with many the next layer's weights do."""
    torch.manual_seed(0)
    net = StackedMLP(4, (8, 6), 2, stack).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x, weights = torch.randn(*stack, 40, 4).double(), torch.randn(40, 2).double()
    rows = [x[..., i : i + 1, :] for i in range(40)]
    parameters = list(net.parameters())
    with scaled_weights(net) as scaled:
        many = net(x)
    assert scaled == [True, True]
    with scaled_weights(net) as scaled:
        one_by_one = torch.cat([net(row) for row in rows], -2)
    assert not any(scaled)
    torch.testing.assert_close(many, one_by_one)
    found, expected = (
        torch.autograd.grad((out * weights).square().sum(), parameters)
        for out in (many, one_by_one)
    )
    torch.testing.assert_close(found, expected)


@contextmanager
def scaled_weights(net: StackedMLP) -> Iterator[list[bool]]:
    """Collects whether each product behind a LayerNorm was given its scale."""
    given: list[bool] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: given.append(len(inputs) == 3))
        for layer in (*net.layers[1:], net.head)
    ]
    yield given
    for hook in hooks:
        hook.remove()


def test_output_gain_scales_the_first_outputs() -> None:
    x = torch.randn(100, 16)
    torch.manual_seed(1)
    full = StackedMLP(16, (32,), 4)
    torch.manual_seed(1)
    small = StackedMLP(16, (32,), 4, output_gain=0.01)
    torch.testing.assert_close(small(x), 0.01 * full(x))


def test_init_fan_in_spares_heads_that_start_at_zero() -> None:
    net = world_model_mlp(400, (400,), 10, "mish")
    nn.init.zeros_(net[-1].weight)
    assert init_fan_in(net) is net
    assert net[0].weight.std().item() == pytest.approx(1 / 20, rel=0.02)
    assert not net[-1].weight.any()


def test_init_fan_in_sets_the_tasks_apart() -> None:
    net = nn.Module()
    net.task_embedding = nn.Parameter(torch.zeros(1000, 16))
    init_fan_in(net)
    assert net.task_embedding.std().item() == pytest.approx(1 / 4, rel=0.02)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"activation must be one of .*'mish'.*, got 'swish'"):
        make_activation("swish")
    with pytest.raises(ValueError, match=r"norm must be one of .*'none'.*, got 'before'"):
        StackedMLP(2, (2,), 1, norm="before")
