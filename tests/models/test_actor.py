"""The first-order actor: noise, clipping, masks and populations by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pwm_sdk.models.actor import FirstOrderActor


def constant_actor(loc: list[float], **settings) -> FirstOrderActor:
    """An actor whose mean before the tanh is `loc`, whatever it sees."""
    actor = FirstOrderActor(3, len(loc), hidden=(4,), **settings)
    for parameter in actor.net.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        actor.net.head.bias.copy_(torch.tensor(loc))
    return actor


def test_noise_before_the_tanh_by_hand() -> None:
    actor = constant_actor([0.5, -1.0], std=0.5, noise="pre_tanh")
    latent, noise = torch.zeros(1, 3), torch.tensor([[1.0, -2.0]])
    expected = torch.tensor([[math.tanh(0.5 + 0.5), math.tanh(-1.0 - 1.0)]])
    torch.testing.assert_close(actor(latent, noise), expected)
    mean = torch.tensor([[math.tanh(0.5), math.tanh(-1.0)]])
    torch.testing.assert_close(actor(latent), mean)


def test_noise_after_the_tanh_by_hand() -> None:
    actor = constant_actor([0.5, -1.0], std=0.5, noise="post_tanh")
    noise = torch.tensor([[0.4, -2.0]])
    # tanh(-1) - .5 * 2 = -1.76, clipped to -1.
    expected = torch.tensor([[math.tanh(0.5) + 0.2, -1.0]])
    torch.testing.assert_close(actor(torch.zeros(1, 3), noise), expected)


def test_the_clip_lets_the_gradient_through() -> None:
    actor = constant_actor([0.5, -1.0], std=0.5, noise="post_tanh")
    loc = torch.tensor([[0.5, -1.0]], requires_grad=True)
    action = actor.squash(loc, torch.tensor([[0.4, -2.0]]))
    assert action[0, 1] == -1.0
    (slope,) = torch.autograd.grad(action.sum(), loc)
    torch.testing.assert_close(slope, 1 - torch.tanh(loc.detach()).square())


def test_actions_lie_in_the_unit_box() -> None:
    for noise in ("pre_tanh", "post_tanh"):
        actor = FirstOrderActor(3, 2, hidden=(8,), std=2.0, noise=noise)
        action = actor(torch.randn(100, 3) * 10, torch.randn(100, 2))
        assert (action.abs() <= 1.0).all()


def test_the_learned_std_has_a_floor() -> None:
    actor = FirstOrderActor.published(3, 2, hidden=(4,), std=0.5)
    torch.testing.assert_close(actor.std, torch.full((1, 2), 0.5))
    actor.set_std(torch.tensor([0.1, 0.7]))
    torch.testing.assert_close(actor.std, torch.tensor([[0.24, 0.7]]))
    noise = torch.ones(1, 2)
    (slope,) = torch.autograd.grad(actor(torch.zeros(1, 3), noise).sum(), actor.log_std)
    assert (slope != 0).tolist() == [[False, True]]


def test_a_std_below_the_floor_is_brought_back_and_can_grow_again() -> None:
    actor = FirstOrderActor.published(3, 2, hidden=(4,), std=0.5)
    actor.set_std(torch.tensor([0.1, 0.7]))
    actor.clamp_std_()
    torch.testing.assert_close(actor.log_std.exp(), torch.tensor([[0.24, 0.7]]))
    loss = actor(torch.zeros(1, 3), torch.ones(1, 2)).sum()
    (slope,) = torch.autograd.grad(loss, actor.log_std)
    assert (slope > 0).all()
    fixed = FirstOrderActor(3, 2, hidden=(4,), std=0.1, learn_std=False)
    fixed.clamp_std_()
    torch.testing.assert_close(fixed.std, torch.full((1, 2), 0.1))


def test_a_set_std_is_taken_as_it_is() -> None:
    actor = FirstOrderActor(3, 2, hidden=(4,), learn_std=False)
    assert "log_std" not in dict(actor.named_parameters())
    actor.set_std(0.1)
    torch.testing.assert_close(actor.std, torch.full((1, 2), 0.1))


def test_masked_actions_are_zero_with_and_without_noise() -> None:
    actor = constant_actor([0.5, 0.5], population=2, action_dims=[1, 2])
    latent = torch.zeros(2, 4, 3)
    action = actor(latent, torch.randn(2, 4, 2))
    assert (action[0] != 0).all(0).tolist() == [True, False]
    assert (action[0, :, 1] == 0).all()
    assert (action[1] != 0).all()
    assert (actor(latent)[0, :, 1] == 0).all()
    one = constant_actor([0.5, 0.5], action_dims=[1])
    torch.testing.assert_close(one(latent[0])[0], torch.tensor([math.tanh(0.5), 0.0]))


@pytest.mark.parametrize("noise", ["pre_tanh", "post_tanh"])
def test_a_member_of_a_population_is_the_policy_alone(noise: str) -> None:
    settings = {"hidden": (8, 6), "noise": noise, "norm": "pre_activation", "activation": "silu"}
    together = FirstOrderActor(3, 2, population=3, **settings)
    for parameter in together.parameters():
        nn.init.normal_(parameter)
    latent, eps = torch.randn(3, 5, 4, 3), torch.randn(3, 5, 4, 2)
    actions = together(latent, eps)
    assert actions.shape == (3, 5, 4, 2)
    for i in range(3):
        alone = FirstOrderActor(3, 2, **settings)
        alone.load_state_dict({k: v[i] for k, v in together.state_dict().items()})
        torch.testing.assert_close(actions[i], alone(latent[i], eps[i]), atol=1e-5, rtol=1e-5)


def test_a_member_is_cut_out_with_its_mask_and_its_noise(tmp_path) -> None:
    together = FirstOrderActor(
        3, 2, (8,), population=3, action_dims=[2, 1, 2], learn_std=False, noise="post_tanh"
    ).double()
    for parameter in together.parameters():
        nn.init.normal_(parameter)
    together.set_std(torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).view(3, 1, 1))
    latent, eps = torch.randn(3, 5, 3).double(), torch.randn(3, 5, 2).double()
    actions = together(latent, eps)
    for i in range(3):
        alone = together.member(i)
        assert alone.population is None
        torch.testing.assert_close(alone(latent[i], eps[i]), actions[i])
        alone.float().save(tmp_path / "actor.safetensors")
        loaded = FirstOrderActor.from_checkpoint(tmp_path / "actor.safetensors")
        assert torch.equal(loaded(latent[i].float()), alone(latent[i].float()))
    before = together.state_dict()["net.head.weight"].clone()
    with torch.no_grad():
        together.member(0).net.head.weight.zero_()
    assert torch.equal(together.net.head.weight, before)
    with pytest.raises(ValueError, match=r"index must lie in 0..2, got 3"):
        together.member(3)
    with pytest.raises(ValueError, match="population must be given to have members, got None"):
        FirstOrderActor(3, 2).member(0)


def test_state_dict_and_file_round_trip(tmp_path) -> None:
    actor = FirstOrderActor(
        3, 2, (8,), population=2, action_dims=[1, 2], noise="post_tanh", std=0.3
    )
    other = FirstOrderActor(
        3, 2, (8,), population=2, action_dims=[1, 2], noise="post_tanh", std=0.9
    )
    latent, noise = torch.randn(2, 4, 3), torch.randn(2, 4, 2)
    assert not torch.equal(other(latent, noise), actor(latent, noise))
    other.load_state_dict(actor.state_dict())
    assert torch.equal(other(latent, noise), actor(latent, noise))
    actor.save(tmp_path / "actor.safetensors")
    loaded = FirstOrderActor.from_checkpoint(tmp_path / "actor.safetensors")
    assert torch.equal(loaded(latent, noise), actor(latent, noise))


def test_captured_by_the_compiler_without_a_break() -> None:
    actor = FirstOrderActor(3, 2, (8,), population=2, noise="post_tanh")
    compiled = torch.compile(actor.forward, backend="eager", fullgraph=True)
    latent, noise = torch.randn(2, 4, 3), torch.randn(2, 4, 2)
    torch.testing.assert_close(compiled(latent, noise), actor(latent, noise))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="noise must be 'pre_tanh' or 'post_tanh', got 'none'"):
        FirstOrderActor(3, 2, noise="none")
    with pytest.raises(ValueError, match=r"action_dims must have 2 entries in 1..2, got \[3, 1\]"):
        FirstOrderActor(3, 2, population=2, action_dims=[3, 1])
    with pytest.raises(ValueError, match="action_dims must have 1 entries"):
        FirstOrderActor(3, 2, action_dims=[1, 1])
    with pytest.raises(ValueError, match=r"latent must have size 3, got \[4, 5\]"):
        FirstOrderActor(3, 2)(torch.zeros(4, 5))
    population = FirstOrderActor(3, 2, population=2)
    for shape in ((3, 4, 3), (2, 3)):
        with pytest.raises(ValueError, match=r"latent must have shape \[2, .., B, D\], got"):
            population(torch.zeros(shape))


@pytest.mark.parametrize("noise", ["pre_tanh", "post_tanh"])
def test_log_prob_by_hand(noise: str) -> None:
    # One action of std 0.5 and drawn 2 std away: the score by the mean is 2 / 0.5 = 4, behind the
    # tanh times its slope; by log std it is 2^2 - 1 = 3. The masked action counts for nothing.
    actor = FirstOrderActor.published(3, 2, (4,), std=0.5, noise=noise, action_dims=[1])
    loc = torch.tensor([[0.3, 0.1]], requires_grad=True)
    value = actor.log_prob(loc, torch.tensor([[2.0, 1.0]]))
    masked = -0.5 * math.log(2 * math.pi)
    expected = -2.0 - math.log(0.5) - 0.5 * math.log(2 * math.pi) + masked
    assert value.item() == pytest.approx(expected)
    by_loc, by_log_std = torch.autograd.grad(value.sum(), (loc, actor.log_std))
    slope = 1.0 - math.tanh(0.3) ** 2 if noise == "post_tanh" else 1.0
    torch.testing.assert_close(by_loc, torch.tensor([[4.0 * slope, 0.0]]))
    torch.testing.assert_close(by_log_std, torch.tensor([[3.0, 0.0]]))


@pytest.mark.parametrize("noise", ["pre_tanh", "post_tanh"])
def test_one_latent_without_a_batch_gives_one_action(noise: str) -> None:
    actor = FirstOrderActor(3, 2, (4,), noise=noise, action_dims=[1])
    latent, eps = torch.randn(3), torch.randn(2)
    assert actor(latent).shape == actor(latent, eps).shape == (2,)
    torch.testing.assert_close(actor(latent, eps), actor(latent[None], eps[None])[0])
    assert actor.log_prob(actor.loc(latent), eps).shape == (1,)
