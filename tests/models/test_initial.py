"""First weights: ranges and orthogonality, for every member of a stack."""

from __future__ import annotations

import math

import torch

from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.initial import init_orthogonal, init_uniform


def test_uniform_weights_and_biases_have_the_range_of_the_fan_in() -> None:
    actor = FirstOrderActor(100, 50, (400,), population=2)
    assert init_uniform(actor) is actor
    for layer, fan_in in ((actor.net.layers[0], 100), (actor.net.head, 400)):
        for values in (layer.weight, layer.bias):
            largest = float(values.detach().abs().max()) * math.sqrt(fan_in)
            assert 0.9 < largest <= 1.0
        # The standard deviation of U(-b, b) is b / sqrt(3).
        assert abs(float(layer.weight.detach().std()) * math.sqrt(3 * fan_in) - 1.0) < 0.02
    assert float(actor.net.scales[0].detach().min()) == 1.0  # norms are left alone


def test_orthogonal_weights_keep_lengths_up_to_the_gain() -> None:
    critic = init_orthogonal(Critic(6, (10, 4), 3, population=2))
    wide, tall = critic.net.layers[0].weight, critic.net.layers[1].weight
    assert wide.shape == (2, 3, 6, 10)
    torch.testing.assert_close(wide @ wide.mT, 2 * torch.eye(6).expand(2, 3, 6, 6))
    torch.testing.assert_close(tall.mT @ tall, 2 * torch.eye(4).expand(2, 3, 4, 4))
    last = critic.net.head.weight
    torch.testing.assert_close(last.square().sum((-1, -2)), torch.full((2, 3), 2.0))
    assert not torch.equal(wide[0, 0], wide[1, 2])
    assert not critic.net.head.bias.any()
