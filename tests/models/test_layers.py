"""Building blocks: SimNorm, normed layers and stacks, by hand and against published vectors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from vectors import load

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


def test_published_simnorm(close) -> None:
    data = load("g4_tables.npz")
    close(SimNorm(8)(data["in/simnorm_x"]), data["out/simnorm"])
    close(SimNorm(8)(data["in/simnorm_x3"]), data["out/simnorm3"])


def test_published_normed_linear(close) -> None:
    data = load("g4_tables.npz")
    layer = NormedLinear(7, 16, nn.Mish())
    names = ("weight", "bias", "ln.weight", "ln.bias")
    layer.load_state_dict({name: data[f"w/nl.{name}"] for name in names})
    close(layer(data["in/nl_x"]), data["out/nl"])


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
    # Normalising first gives (1, -1), relu (1, 0), head 1.
    x = torch.tensor([[1.0, -3.0]])
    for norm, expected in (("after", -1.0), ("before", 1.0)):
        net = StackedMLP(2, (2,), 1, activation="relu", norm=norm)
        with torch.no_grad():
            net.layers[0].weight.copy_(torch.eye(2))
            net.head.weight.copy_(torch.tensor([[1.0], [2.0]]))
        torch.testing.assert_close(net(x), torch.tensor([[expected]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", ["after", "before"])
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
    with pytest.raises(ValueError, match=r"norm must be 'before' or 'after'.*, got 'none'"):
        StackedMLP(2, (2,), 1, norm="none")
