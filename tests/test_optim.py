"""Turning losses into steps: checks, clipping, schedules, averages and minibatches, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pwm_sdk.optim import (
    FiniteWatch,
    frozen,
    linear_decay,
    minibatches,
    model_optimizer,
    optimize,
    scale_learning_rates,
    soft_update,
    unless,
)


def parameter(*values: float) -> tuple[nn.Parameter, torch.optim.SGD]:
    weight = nn.Parameter(torch.tensor(values))
    return weight, torch.optim.SGD([weight], lr=1.0)


def test_a_step_by_hand() -> None:
    weight, optimizer = parameter(3.0, 4.0)
    weight.grad = torch.full((2,), 100.0)  # an old gradient must not count
    norm = optimize(0.5 * weight.square().sum(), optimizer)
    assert norm.shape == ()
    assert float(norm) == 5.0  # the gradient is the weight itself
    torch.testing.assert_close(weight.data, torch.zeros(2))


def test_clipping_by_hand() -> None:
    weight, optimizer = parameter(3.0, 4.0)
    norm = optimize(0.5 * weight.square().sum(), optimizer, max_norm=1.0)
    assert float(norm) == 5.0
    torch.testing.assert_close(weight.data, torch.tensor([3.0 - 0.6, 4.0 - 0.8]))
    weight, optimizer = parameter(0.3, 0.4)  # below the bound nothing is scaled
    optimize(0.5 * weight.square().sum(), optimizer, max_norm=1.0)
    torch.testing.assert_close(weight.data, torch.zeros(2))


def test_each_policy_is_clipped_by_its_own_norm() -> None:
    first = nn.Parameter(torch.tensor([[3.0], [0.3]]))
    second = nn.Parameter(torch.tensor([[[4.0]], [[0.4]]]))
    optimizer = torch.optim.SGD([first, second], lr=1.0)
    loss = 0.5 * (first.square().sum() + second.square().sum())
    norm = optimize(loss, optimizer, max_norm=1.0, population=2)
    torch.testing.assert_close(norm, torch.tensor([5.0, 0.5]))
    torch.testing.assert_close(first.data, torch.tensor([[2.4], [0.0]]))
    torch.testing.assert_close(second.data, torch.tensor([[[3.2]], [[0.0]]]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_steps_nothing(value: float) -> None:
    weight, optimizer = parameter(3.0)
    with pytest.raises(ValueError, match=f"loss must be finite, got {value}"):
        optimize(weight.sum() * value, optimizer)
    assert weight.item() == 3.0


def test_a_gradient_that_is_not_finite_steps_nothing() -> None:
    weight, optimizer = parameter(0.0)
    with pytest.raises(ValueError, match="gradients must be finite, got norm inf"):
        optimize(weight.sqrt().sum(), optimizer)  # sqrt has an infinite slope at 0
    assert weight.item() == 0.0
    assert weight.grad is None


def test_other_misuses_of_optimize() -> None:
    weight, optimizer = parameter(3.0, 4.0)
    with pytest.raises(ValueError, match=r"loss must be a scalar, got shape \[2\]"):
        optimize(weight.square(), optimizer)
    other = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="loss must depend on a parameter of the optimizer"):
        optimize(other.sum(), optimizer)
    with pytest.raises(ValueError, match=r"population must be the leading size .*, got 3"):
        optimize(weight.sum(), optimizer, population=3)


def test_learning_rates_scale_from_where_they_started() -> None:
    groups = [{"params": [parameter(1.0)[0]], "lr": 0.1}, {"params": [parameter(1.0)[0]]}]
    optimizer = torch.optim.SGD(groups, lr=0.2)
    scale_learning_rates(optimizer, 0.5)
    scale_learning_rates(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.025, 0.05])
    rate = torch.tensor(0.4)
    optimizer = torch.optim.Adam([parameter(1.0)[0]], lr=rate, fused=True)
    scale_learning_rates(optimizer, 0.5)
    scale_learning_rates(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] is rate  # a captured step reads it where it lies
    assert float(rate) == pytest.approx(0.1)


def test_a_fall_over_the_last_share_by_hand() -> None:
    # The last half of the budget: flat until 0.5, then straight down to the floor.
    points = {0.0: 1.0, 0.5: 1.0, 0.75: 0.5, 0.9: 0.2, 1.0: 0.1, 2.0: 0.1}
    for progress, expected in points.items():
        assert linear_decay(progress, 0.0, share=0.5, least=0.1) == pytest.approx(expected)
    assert linear_decay(1.0, share=0.0) == 1.0
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got 2.0"):
        linear_decay(0.5, share=2.0)


def test_soft_update_by_hand() -> None:
    target, source = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        for value, module in ((0.0, target), (10.0, source)):
            module.weight.fill_(value)
            module.bias.fill_(2 * value)
    soft_update(target, source, 0.1)
    assert (target.weight.item(), target.bias.item()) == pytest.approx((1.0, 2.0))
    assert source.weight.item() == 10.0
    with pytest.raises(ValueError, match=r"tau must lie in \[0, 1\], got 1.5"):
        soft_update(target, source, 1.5)


def test_frozen_lets_gradients_pass_through_but_not_in() -> None:
    module = nn.Linear(1, 1)
    module.bias.requires_grad_(False)
    x = torch.ones(1, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="stop"), frozen(module, object()):
        module(x).sum().backward()
        raise RuntimeError("stop")
    assert x.grad is not None
    assert module.weight.grad is None
    assert module.weight.requires_grad  # restored, even after an error
    assert not module.bias.requires_grad  # and what was frozen before stays so
    with frozen(SimpleNamespace(parameters=module.parameters)):  # a wrapper that is no module
        assert not module.weight.requires_grad


def states(*lead: int) -> tuple[Tensor, Tensor]:
    """Latents that are numbered, and targets that are ten times the number."""
    count = math.prod(lead)
    latents = torch.arange(float(count)).view(*lead, 1)
    return latents, 10 * latents


def test_minibatches_use_every_state_once_a_pass() -> None:
    latents, targets = states(3, 4)
    parts = list(minibatches(latents, targets, epochs=2, splits=5))
    assert [len(part) for part, _ in parts] == [3, 3, 2, 2, 2] * 2
    for begin in (0, 5):
        seen = torch.cat([part for part, _ in parts[begin : begin + 5]]).flatten()
        assert seen.sort().values.tolist() == list(range(12))
        assert seen.tolist() != list(range(12))  # shuffled
    for part, target in parts:
        assert torch.equal(target, 10 * part)


def test_minibatches_of_a_population_stay_with_their_policy() -> None:
    latents, targets = states(2, 3, 4)
    parts = list(minibatches(latents.requires_grad_(), targets, splits=2))
    assert [part.shape for part, _ in parts] == [(2, 6, 1), (2, 6, 1)]
    first = torch.cat([part[0] for part, _ in parts]).flatten()
    assert first.sort().values.tolist() == list(range(12))
    assert all(torch.equal(part[1], part[0] + 12) for part, _ in parts)
    assert not any(part.requires_grad for part, _ in parts)


def test_minibatches_stop_at_the_limit_and_follow_the_generator() -> None:
    latents, targets = states(3, 4)

    def draw(seed: int) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        parts = list(
            minibatches(latents, targets, epochs=2, splits=2, limit=1, generator=generator)
        )
        assert [len(part) for part, _ in parts] == [6, 6]
        return torch.cat([part for part, _ in parts]).flatten().tolist()

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


def test_contiguous_minibatches_by_hand() -> None:
    # B = 3 starts of H = 2 steps, numbered start by start; in time order 0 2 4 1 3 5. Of 6 states,
    # 4 parts of floor(6 / 4) = 1 leave 2 more.
    latents, targets = states(3, 2)
    parts = list(minibatches(latents, targets, splits=4, shuffle=False))
    assert [part.flatten().tolist() for part, _ in parts] == [[0], [2], [4], [1], [3], [5]]
    parts = list(minibatches(latents, targets, latents + 1, splits=2, epochs=2, shuffle=False))
    assert [part.flatten().tolist() for part, _, _ in parts] == [[0, 2, 4], [1, 3, 5]] * 2
    assert all(torch.equal(more, part + 1) for part, _, more in parts)
    both = torch.stack((latents, latents + 6))
    parts = list(minibatches(both, 10 * both, splits=2, shuffle=False))
    assert parts[1][0].flatten(1).tolist() == [[1, 3, 5], [7, 9, 11]]


def test_minibatches_errors_name_the_argument() -> None:
    latents, targets = states(3, 4)
    with pytest.raises(ValueError, match=r"targets must have the leading shape of latents"):
        next(minibatches(latents, targets[:2]))
    with pytest.raises(ValueError, match=r"splits must lie in 1..12 and epochs be at least 1"):
        next(minibatches(latents, targets, splits=13))
    with pytest.raises(ValueError, match="epochs be at least 1, got 1 and 0"):
        next(minibatches(latents, targets, epochs=0))


def test_a_watch_leaves_out_the_step_and_tells_when_it_is_read() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.Adam([weight], lr=1.0, fused=True)
    watch = FiniteWatch(["other", "loss"], every=2)
    optimize(weight.sum() * math.nan, optimizer, max_norm=1.0, watch=watch)
    assert weight.item() == 3.0
    assert float(optimizer.state[weight]["step"]) == 0.0
    norm = optimize(weight.sum(), optimizer, max_norm=0.5, watch=watch)  # and goes on from there
    assert float(norm) == 1.0
    assert weight.item() == pytest.approx(2.0)  # Adam's first step is the rate
    with pytest.raises(ValueError, match=r"^loss must be finite, got NaN or infinity since"):
        watch.read()
    watch.read()  # what was told is forgotten


def test_a_watch_of_every_number_reads_at_once() -> None:
    watch = FiniteWatch(["loss"])
    assert watch.note("loss", torch.ones(3)) is None
    with pytest.raises(ValueError, match="loss must be finite, got NaN or infinity"):
        watch.note("loss", torch.ones(()), torch.tensor([1.0, math.inf]))
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        FiniteWatch(["loss"], every=0)
    weight, optimizer = parameter(3.0)
    with pytest.raises(ValueError, match=r"optimizer must be fused to be watched, got .*SGD"):
        optimize(weight.sum(), optimizer, watch=FiniteWatch(["loss"], every=2))


def test_a_captured_watch_of_every_number_leaves_reading_to_the_caller() -> None:
    watch = FiniteWatch(["loss"], captured=True)
    assert float(watch.note("loss", torch.ones(3))) == 0.0
    assert float(watch.note("loss", torch.tensor(math.inf))) == 1.0
    with pytest.raises(ValueError, match="loss must be finite"):
        watch.read()


def test_buffers_are_kept_unless_all_is_well() -> None:
    module = nn.BatchNorm1d(1)
    for bad, expected in ((torch.ones(()), 0.0), (torch.zeros(()), 5.0), (None, 5.0)):
        nn.init.zeros_(module.running_mean)
        with unless(bad, module):
            module.running_mean.fill_(5.0)
        assert float(module.running_mean) == expected
    with unless(torch.ones(()), object()):
        pass


def test_a_clip_is_positive_and_a_loss_has_a_graph() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for norm in (-1.0, 0.0):
        with pytest.raises(ValueError, match=f"max_norm must be positive, got {norm}"):
            optimize(weight.sum(), optimizer, max_norm=norm)
    with pytest.raises(ValueError, match=r"loss must depend on a parameter, got 2\.0 without a"):
        optimize(weight.detach().sum(), optimizer)
    assert torch.equal(weight.detach(), torch.ones(2))


def test_large_finite_numbers_are_finite() -> None:
    large = torch.tensor([3e38, 3e38])  # whose sum is infinite
    assert FiniteWatch(["loss"]).note("loss", large) is None
    assert float(FiniteWatch(["loss"], every=2).note("loss", large, large)) == 0.0
    both = FiniteWatch(["loss"], population=2).note("loss", torch.stack((large, large)))
    assert both.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"watched numbers must have shape \[2, ..\], got \[3\]"):
        FiniteWatch(["loss"], population=2).note("loss", torch.ones(3))


class Reads(TorchDispatchMode):
    """Counts how often the host asks for a number, which waits for a device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += "_local_scalar_dense" in str(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("population", [None, 2])
@pytest.mark.parametrize("max_norm", [None, 0.5, 50.0])
def test_a_step_waits_at_most_once_and_not_at_all_with_a_watch(
    population: int | None, max_norm: float | None
) -> None:
    for watch, allowed in ((None, 1), (FiniteWatch(["loss"], 9, population=population), 0)):
        weight = nn.Parameter(torch.ones(2, 3))
        optimizer = torch.optim.Adam([weight], lr=0.1, fused=True)
        with Reads() as reads:
            optimize(weight.square().sum(), optimizer, max_norm, population=population, watch=watch)
        assert reads.count == allowed


def test_a_clip_that_does_not_act_changes_no_bit() -> None:
    first, second = (nn.Parameter(torch.randn(2, 50) * 1e-3) for _ in range(2))
    second.data.copy_(first)
    steppers = [torch.optim.SGD([weight], lr=1.0) for weight in (first, second)]
    for limit, weight, stepper in zip((None, 7.0), (first, second), steppers, strict=True):
        optimize(weight.pow(3).sum(), stepper, limit)
    assert torch.equal(first, second)
    # Nor does it act on a policy just below it when it acts on another.
    weight = nn.Parameter(torch.tensor([[1.0 - 1e-7], [9.0]]))
    optimize(0.5 * weight.square().sum(), torch.optim.SGD([weight], 1.0), 1.0, population=2)
    assert weight[0].item() == 0.0


def test_a_models_encoder_has_a_rate_of_its_own() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(2, 3), "reward": nn.Linear(3, 1)})
    encoder, rest = model_optimizer(model, lr=1e-3, encoder_lr=3e-4).param_groups
    assert (encoder["lr"], rest["lr"]) == (3e-4, 1e-3)
    assert [id(p) for p in encoder["params"]] == [id(p) for p in model.encoder.parameters()]
    assert [id(p) for p in rest["params"]] == [id(p) for p in model.reward.parameters()]
