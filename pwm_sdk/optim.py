"""Turning losses into steps: optimise, schedule, average, split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pwm_sdk.calls import checked, has, least, may_be_infinite
from pwm_sdk.checks import in_unit, positive
from pwm_sdk.execution.finite import FiniteWatch as FiniteWatch
from pwm_sdk.execution.finite import keeping as keeping
from pwm_sdk.execution.finite import unless as unless


@checked(max_norm=(positive, may_be_infinite), population=least(1))
def optimize(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    max_norm: float | None = None,
    *,
    population: int | None = None,
    synchronize: bool = False,
    watch: FiniteWatch | None = None,
    name: str = "loss",
) -> Tensor:
    """Zero gradients, back-propagate, check, clip and step.

    Args:
        loss: scalar, or `[P]` of a population, whose sum is then minimised.
        optimizer: steps the parameters that it holds.
        max_norm: gradients are scaled down to this L2 norm, which is positive; None: no clipping.
        population: P when every parameter has a leading axis of P policies: each policy is clipped
            by its own norm.
        synchronize: average gradients over the processes of `torch.distributed` before clipping,
            so that replicas that start equal stay equal.
        watch: notes whether loss and gradient are finite instead of reading it here. A step that
            is not finite is then left out on the device, which needs a fused optimizer; of a
            population, by the policies alone that it is of, which are stopped.
        name: of the loss, as `watch` knows it.

    Returns:
        Gradient norm before clipping, `[]`, or `[P]` for a population.

    Raises:
        ValueError: if the loss is of another shape or has no graph, loss or gradient are not
            finite (without a watch, nothing is stepped then), a watch is of another population, or
            `max_norm` is not positive.
    """
    _check_loss(loss, population)
    if watch is not None and watch.population != population:
        raise ValueError(f"watch must be of population {population}, got {watch.population}")
    optimizer.zero_grad(set_to_none=True)
    (loss if loss.numel() == 1 else loss.sum()).backward()
    gradients = [
        p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    if not gradients:
        raise ValueError("loss must depend on a parameter of the optimizer, got no gradient")
    if synchronize:
        average_over_processes(gradients)
    norm = _norms(gradients, population)
    bad = None
    if watch is None:
        _refuse_not_finite(loss.detach(), norm, optimizer)
    else:
        bad = watch.note(name, *_per_policy(loss.detach(), norm, population))
    if max_norm is not None:
        _clip(gradients, norm, max_norm)
    if watch is not None and population is not None:
        with watch.keeping(optimizer):
            optimizer.step()
    else:
        _step(optimizer, bad)
    return norm


def _check_loss(loss: Tensor, population: int | None) -> None:
    """Raise ValueError unless the loss is a scalar, or one per policy, with a graph."""
    if loss.numel() != 1 and (population is None or loss.shape != (population,)):
        shape = "a scalar" if population is None else f"a scalar or of shape [{population}]"
        raise ValueError(f"loss must be {shape}, got shape {list(loss.shape)}")
    if not loss.requires_grad:
        raise ValueError(f"loss must depend on a parameter, got {loss} without a graph")


def _refuse_not_finite(loss: Tensor, norm: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError for a loss or gradient that is not finite; waits for the device once."""
    if loss.is_meta or bool(torch.isfinite(loss).all() & torch.isfinite(norm).all()):
        return
    optimizer.zero_grad(set_to_none=True)
    if not bool(torch.isfinite(loss).all()):
        raise ValueError(f"loss must be finite, got {loss.squeeze().tolist()}")
    raise ValueError(f"gradients must be finite, got norm {norm.tolist()}")


def _per_policy(loss: Tensor, norm: Tensor, population: int | None) -> tuple[Tensor, ...]:
    """What a watch looks at: a sum over policies cannot tell whose fault it is, if no norm does."""
    if population is None or loss.shape == (population,):
        return loss, norm
    blame = torch.isfinite(norm).all() & ~torch.isfinite(loss)
    return (torch.where(blame, loss, norm),)


@torch.no_grad()
def _clip(gradients: list[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale gradients down to `max_norm` where `norm`, `[]` or `[P]`, is larger."""
    factor = torch.where(norm > max_norm, max_norm / (norm + 1e-6), 1.0)
    if norm.dim() == 0:
        torch._foreach_mul_(gradients, factor)
    else:
        torch._foreach_mul_(gradients, [factor.view(-1, *[1] * (g.dim() - 1)) for g in gradients])


def _step(optimizer: torch.optim.Optimizer, bad: Tensor | None) -> None:
    """Step, unless `bad` is 1: fused optimizers leave a step out without the host knowing."""
    if bad is None or bad.device.type == "meta":  # which has no fused optimizer
        optimizer.step()
        return
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        raise ValueError(f"optimizer must be fused to be watched, got {type(optimizer)}")
    fused: Any = optimizer  # which takes this attribute
    fused.found_inf = bad
    optimizer.step()
    fused.found_inf = None


@torch.no_grad()
def average_over_processes(tensors: list[Tensor]) -> None:
    """Average tensors over the processes of `torch.distributed`, in place, in one message."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _norms(gradients: list[Tensor], population: int | None) -> Tensor:
    if population is None:
        return torch.stack(torch._foreach_norm(gradients)).norm()
    if any(g.shape[0] != population for g in gradients):
        raise ValueError(
            f"population must be the leading size of every parameter, got {population}"
        )
    return torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)


@checked(lr=least(0.0))
def adam(
    parameters: Iterable[Tensor | dict[str, Any]], lr: float, **settings: object
) -> torch.optim.Adam:
    """Return an Adam that remembers its rate, fused where the parameters' device has a fused one.

    Args:
        parameters: tensors, or groups of them.
        lr: learning rate.
        **settings: further arguments of `torch.optim.Adam`.
    """
    groups: list[Any] = [
        {**part, "params": list(part["params"])} if isinstance(part, dict) else part
        for part in parameters
    ]
    inside = [p for part in groups for p in (part["params"] if isinstance(part, dict) else [part])]
    fused = not any(p.device.type == "meta" for p in inside)
    more: dict[str, Any] = settings
    optimizer = torch.optim.Adam(groups, lr=lr, fused=fused, **more)
    remember_learning_rates(optimizer)
    return optimizer


@checked(model=has("encoder", "parameters"), lr=least(0.0), encoder_lr=least(0.0))
def model_optimizer(
    model: nn.Module, lr: float = 1e-3, encoder_lr: float = 3e-4
) -> torch.optim.Adam:
    """Return the Adam of a world model, whose encoder has a lower rate of its own.

    Args:
        model: a `WorldModel`, or a module with an `encoder`.
        lr: learning rate of all but the encoder.
        encoder_lr: learning rate of the encoder.

    Source: TD-MPC2 (arXiv 2310.16828), appendix, for the two rates.
    """
    return adam(encoder_groups(model, encoder_lr), lr)


def encoder_groups(
    model: Any, encoder_lr: float, others: Iterable[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """Return the encoder's parameters with their rate, and the model's rest with `others`."""
    encoder = list(model.encoder.parameters())
    known = {id(p) for p in encoder}
    rest = [p for p in (*model.parameters(), *others) if id(p) not in known]
    return [{"params": encoder, "lr": encoder_lr}, {"params": rest}]


@checked()
def remember_learning_rates(*optimizers: torch.optim.Optimizer) -> None:
    """Let `scale_learning_rates` start from the present rates, whatever they are set to later."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))


@checked(factor=least(0.0))
def scale_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times the one it started with.

    That is the one that `remember_learning_rates` saw, as algorithms ask it to when they are made,
    or else the one at the first call.
    """
    remember_learning_rates(optimizer)
    for group in optimizer.param_groups:
        rate, start = group["lr"], group["initial_lr"]
        if isinstance(rate, Tensor):  # read where it lies, by a captured step
            rate.fill_(start * factor)
        else:
            group["lr"] = start * factor


@checked(floor=in_unit, share=in_unit, least=in_unit)
def linear_decay(
    progress: float, floor: float = 0.02, *, share: float = 1.0, least: float = 0.0
) -> float:
    """Return 1 first, then the straight line from 1 to `floor`.

    The schedule of all learning rates: of `fit`, which calls it with the share of updates done
    before each update, and of `GrowingBatch`, whose budget may be time and whose line to 0 is cut
    off (`floor=0.0`, `share=config.decay_share`, `least=config.decay_floor`).

    Args:
        progress: share of the budget that is spent; taken as 0 below 0 and as 1 beyond 1.
        floor: where the line ends, with the budget.
        share: of the budget over which the rates fall, at its end; 0.0: they stay.
        least: what is returned where the line is below it.

    Raises:
        ValueError: if the floor, the share or the least factor is outside [0, 1].

    Source: PWM (arXiv 2407.02466), its program: from the start to 2% of it.
    """
    left = 1.0 - min(max(progress, 0.0), 1.0)
    left = 1.0 if share == 0.0 else min(1.0, left / share)
    return max(least, floor + (1.0 - floor) * left)


@checked(tau=in_unit)
@torch.no_grad()
def soft_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move the parameters of `target` a share `tau` towards those of `source`, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


@checked()
@contextmanager
def frozen(*modules: object) -> Iterator[None]:
    """Differentiate through `modules`, not into them, while the context lasts.

    Objects without `parameters()` are left alone.
    """
    owners: Any = [
        m for m in modules if callable(getattr(m, "parameters", None)) and not isinstance(m, type)
    ]
    parameters = [p for owner in owners for p in owner.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


@checked(limit=least(1))
def minibatches(
    *tensors: Tensor,
    epochs: int = 1,
    splits: int = 1,
    limit: int | None = None,
    shuffle: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """Shuffle imagined states and yield them in equal parts.

    Args:
        tensors: latents `[B, H, D]`, targets `[B, H, 1]` and whatever else belongs to the states,
            or `[P, B, H, ..]` for a population; detached here.
        epochs: passes over the states.
        splits: parts per pass; all states are used, so sizes may differ by one.
        limit: stop each pass after this many parts: splits=2, limit=1 is one step on half of the
            states.
        shuffle: False: contiguous blocks of time steps of floor(B H / splits) states, as published;
            a smaller block may follow.
        generator: source of the permutation.

    Yields:
        As many tensors, `[N, ..]` or `[P, N, ..]`.

    Raises:
        ValueError: if shapes do not fit, or there are more parts than states.

    Source: PWM (arXiv 2407.02466), appendix: 8 passes, 4 parts.
    """
    lead = tensors[0].shape[:-1]
    if len(lead) not in (2, 3) or any(t.shape[:-1] != lead for t in tensors):
        raise ValueError(
            "targets must have the leading shape of latents [(P,) B, H, D], "
            f"got {[list(t.shape) for t in tensors]}"
        )
    states = lead[-2] * lead[-1]
    if not 1 <= splits <= states or epochs < 1:
        raise ValueError(
            f"splits must lie in 1..{states} and epochs be at least 1, got {splits} and {epochs}"
        )
    device = tensors[0].device
    flat = [t.detach().flatten(-3, -2) for t in tensors]
    if not shuffle:  # brought into order of time once, for all passes
        order = torch.arange(states, device=device).view(lead[-2], lead[-1]).T.flatten()
        flat = [t.index_select(-2, order) for t in flat]
    for _ in range(epochs):
        if shuffle:
            parts = _permutation(states, device, generator).tensor_split(splits)
            blocks: Any = (tuple(t.index_select(-2, part) for t in flat) for part in parts)
        else:
            blocks = zip(*(t.split(states // splits, -2) for t in flat), strict=True)
        yield from islice(blocks, limit)


def _permutation(count: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """A random order of `count` rows, drawn where the generator lives, without waiting."""
    where = device if generator is None else generator.device
    order = torch.randperm(count, generator=generator, device=where)
    if where.type == "cpu" and device.type == "cuda":
        order = order.pin_memory()
    return order.to(device, non_blocking=True)
