"""Turning losses into steps: optimise, schedule, average, split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pwm_sdk.calls import checked, least, may_be_infinite
from pwm_sdk.checks import in_unit, positive, whole


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
        loss: scalar.
        optimizer: steps the parameters that it holds.
        max_norm: gradients are scaled down to this L2 norm, which is positive; None: no clipping.
        population: P when every parameter has a leading axis of P policies: each policy is clipped
            by its own norm.
        synchronize: average gradients over the processes of `torch.distributed` before clipping,
            so that replicas that start equal stay equal.
        watch: notes whether loss and gradient are finite instead of reading it here; a step that
            is not finite is then left out on the device, which needs a fused optimizer.
        name: of the loss, as `watch` knows it.

    Returns:
        Gradient norm before clipping, `[]`, or `[P]` for a population.

    Raises:
        ValueError: if the loss is not one finite number with a graph, a gradient is not finite, or
            `max_norm` is not positive; nothing is stepped then.
    """
    positive(max_norm=max_norm)
    _check_loss(loss, finite=watch is None)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    gradients = [
        p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    if not gradients:
        raise ValueError("loss must depend on a parameter of the optimizer, got no gradient")
    if synchronize:
        average_over_processes(gradients)
    norm = _norms(gradients, population)
    bad = None if watch is None else watch.note(name, loss, norm)
    if watch is None and not bool(torch.isfinite(norm).all()):
        optimizer.zero_grad(set_to_none=True)
        raise ValueError(f"gradients must be finite, got norm {norm.tolist()}")
    if max_norm is not None and (bad is not None or bool((norm > max_norm).any())):
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        if population is None:
            torch._foreach_mul_(gradients, factor)
        else:
            torch._foreach_mul_(
                gradients, [factor.view(-1, *[1] * (g.dim() - 1)) for g in gradients]
            )
    _step(optimizer, bad)
    return norm


def _check_loss(loss: Tensor, finite: bool) -> None:
    """Raise ValueError unless the loss is a scalar with a graph, and finite where that is asked."""
    if loss.numel() != 1:
        raise ValueError(f"loss must be a scalar, got shape {list(loss.shape)}")
    if not loss.requires_grad:
        raise ValueError(f"loss must depend on a parameter, got {loss} without a graph")
    if finite and not bool(torch.isfinite(loss)):
        raise ValueError(f"loss must be finite, got {loss.item()}")


def _step(optimizer: Any, bad: Tensor | None) -> None:
    """Step, unless `bad` is 1: fused optimizers leave a step out without the host knowing."""
    if bad is None:
        optimizer.step()
        return
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        raise ValueError(f"optimizer must be fused to be watched, got {type(optimizer)}")
    optimizer.found_inf = bad
    optimizer.step()
    optimizer.found_inf = None


@checked(every=least(1))
class FiniteWatch:
    """Notes where numbers were not finite, on the device, and tells when it is asked.

    Args:
        names: of what is watched.
        every: updates between two calls of `read`. 1: `note` reads at once and raises.
        device: of the numbers.
        captured: `note` leaves all reading to `read`, as in a CUDA graph nothing may wait for the
            device.

    Raises:
        ValueError: for `every` below 1.
    """

    def __init__(
        self,
        names: Sequence[str],
        every: int = 1,
        device: torch.device | str = "cpu",
        *,
        captured: bool = False,
    ) -> None:
        whole(1, every=every)
        self.names, self.every = list(names), every
        self._at_once = every == 1 and not captured
        self._seen = torch.zeros(len(self.names), device=device)

    @torch.no_grad()
    def note(self, name: str, *values: Tensor) -> Tensor | None:
        """Take in tensors; returns a scalar 1 where they are not finite, or None if it reads.

        Raises:
            ValueError: where it reads at once, if a number is NaN or infinite.
        """
        if name not in self.names:
            raise ValueError(f"name must be one of {self.names}, got {name!r}")
        total: Any = sum(v.detach() if v.dim() == 0 else v.detach().sum() for v in values)
        probe = 0.0 * total
        if self._at_once:
            if bool(probe.isnan()):
                raise ValueError(f"{name} must be finite, got NaN or infinity")
            return None
        self._seen[self.names.index(name)].add_(probe)  # NaN once is NaN ever after
        return probe.isnan().float()

    def read(self) -> None:
        """Wait for the device.

        Raises:
            ValueError: naming what was not finite since the last reading.
        """
        bad = [n for n, seen in zip(self.names, self._seen.isnan().tolist(), strict=True) if seen]
        self._seen.zero_()
        if bad:
            raise ValueError(
                f"{' and '.join(bad)} must be finite, got NaN or infinity since the last reading; "
                "no step was taken with it"
            )


@checked()
@contextmanager
def unless(bad: Tensor | None, module: object) -> Iterator[None]:
    """Give the buffers of `module` their values back after the context if `bad` is 1."""
    buffers = list(module.buffers()) if bad is not None and isinstance(module, nn.Module) else []
    before = [buffer.clone() for buffer in buffers]
    yield
    for buffer, old in zip(buffers, before, strict=True):
        buffer.copy_(buffer if bad is None else torch.where(bad > 0, old, buffer))


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


@checked(factor=least(0.0))
def scale_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times the one it started with."""
    for group in optimizer.param_groups:
        rate = group["lr"]
        start = group.setdefault("initial_lr", float(rate))
        if isinstance(rate, Tensor):  # read where it lies, by a captured step
            rate.fill_(start * factor)
        else:
            group["lr"] = start * factor


@checked(progress=least(0.0), share=in_unit, floor=in_unit)
def decay_factor(progress: float, share: float, floor: float = 0.0) -> float:
    """Return 1, falling linearly to `floor` over the last `share` of `progress` in [0, 1]."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    left = 1.0 - min(max(progress, 0.0), 1.0)
    return 1.0 if share == 0.0 else max(floor, min(1.0, left / share))


@checked(tau=in_unit)
@torch.no_grad()
def soft_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move the parameters of `target` a share `tau` towards those of `source`, in place."""
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau must lie in [0, 1], got {tau}")
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


@checked()
@contextmanager
def frozen(*modules: object) -> Iterator[None]:
    """Differentiate through `modules`, not into them, while the context lasts.

    Plain objects are left alone.
    """
    parameters = [
        p for m in modules if isinstance(m, nn.Module) for p in m.parameters() if p.requires_grad
    ]
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
        ValueError: for shapes that do not fit, or more parts than states.

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
