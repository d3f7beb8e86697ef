"""The critic: ensemble, units and populations by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pwm_sdk.models.critic import Critic


def constant_critic(*heads: float, **settings) -> Critic:
    """A critic whose heads answer with constants."""
    critic = Critic(3, hidden=(4,), ensemble=len(heads), **settings)
    for parameter in critic.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        critic.net.head.bias.copy_(torch.tensor(heads).view(-1, 1, 1))
    return critic


def test_minimum_and_mean_by_hand() -> None:
    latent = torch.randn(2, 5, 3)
    lowest = constant_critic(1.0, -2.0, 4.0, reduce="min", scale=1.0)
    torch.testing.assert_close(lowest(latent), torch.full((2, 5, 1), -2.0))
    average = constant_critic(1.0, -2.0, 4.0, reduce="mean", scale=1.0)
    torch.testing.assert_close(average(latent), torch.full((2, 5, 1), 1.0))
    torch.testing.assert_close(lowest.values(latent)[:, 0, 0, 0], torch.tensor([1.0, -2.0, 4.0]))


def test_the_scale_is_the_unit_of_the_output() -> None:
    latent = torch.randn(5, 3)
    torch.testing.assert_close(constant_critic(1.0, scale=10.0)(latent), torch.full((5, 1), 10.0))
    two = constant_critic(1.0, population=2, scale=[10.0, 5.0])
    value = two(torch.randn(2, 5, 3))
    torch.testing.assert_close(value[:, 0, 0], torch.tensor([10.0, 5.0]))


@pytest.mark.parametrize("lead", [(5,), (5, 4), (2, 5, 4)])
def test_shapes(lead: tuple[int, ...]) -> None:
    critic = Critic(3, hidden=(4,), ensemble=2)
    assert critic.values(torch.randn(*lead, 3)).shape == (2, *lead, 1)
    assert critic(torch.randn(*lead, 3)).shape == (*lead, 1)
    population = Critic(3, hidden=(4,), ensemble=2, population=6)
    assert population.values(torch.randn(6, *lead, 3)).shape == (2, 6, *lead, 1)
    assert population(torch.randn(6, *lead, 3)).shape == (6, *lead, 1)


def test_a_member_of_a_population_is_the_critic_alone() -> None:
    scales = [1.0, 3.0, 0.5]
    together = Critic(3, (8, 6), 2, population=3, scale=scales)
    for parameter in together.parameters():
        nn.init.normal_(parameter)
    latent = torch.randn(3, 5, 4, 3)
    values = together.values(latent)
    for i in range(3):
        alone = Critic(3, (8, 6), 2)
        alone.load_state_dict({k: v[i] for k, v in together.state_dict().items()})
        torch.testing.assert_close(values[:, i], alone.values(latent[i]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [2.0, [2.0, 5.0]])
def test_a_member_is_cut_out_with_its_unit(scale) -> None:
    together = Critic(3, (8,), 2, population=2, scale=scale, reduce="mean")
    latent = torch.randn(2, 4, 3)
    for i in range(2):
        alone = together.member(i)
        torch.testing.assert_close(alone(latent[i]), together(latent)[i])
        assert alone.settings["scale"] == (scale if isinstance(scale, float) else scale[i])
    with pytest.raises(ValueError, match=r"index must lie in 0..1, got -1"):
        together.member(-1)


def test_state_dict_and_file_round_trip(tmp_path) -> None:
    critic, other = (Critic(3, (8,), 2, population=2, scale=[s, 1.0]) for s in (2.0, 1.0))
    latent = torch.randn(2, 4, 3)
    assert not torch.equal(other(latent), critic(latent))
    other.load_state_dict(critic.state_dict())
    assert torch.equal(other(latent), critic(latent))
    critic.save(tmp_path / "critic.safetensors")
    loaded = Critic.from_checkpoint(tmp_path / "critic.safetensors")
    assert torch.equal(loaded(latent), critic(latent))


def test_captured_by_the_compiler_without_a_break() -> None:
    critic = Critic(3, (8,), 2, population=2)
    compiled = torch.compile(critic.forward, backend="eager", fullgraph=True)
    latent = torch.randn(2, 4, 3)
    torch.testing.assert_close(compiled(latent), critic(latent))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="reduce must be 'min' or 'mean', got 'max'"):
        Critic(3, reduce="max")
    with pytest.raises(ValueError, match="ensemble must be at least 1, got 0"):
        Critic(3, ensemble=0)
    with pytest.raises(ValueError, match="scale must be one number or 2 numbers, got 3"):
        Critic(3, population=2, scale=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"latent must have size 3, got \[4, 5\]"):
        Critic(3)(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"latent must have shape \[2, .., D\], got \[3, 4, 3\]"):
        Critic(3, population=2)(torch.zeros(3, 4, 3))
