"""What is not finite: noted on the device, said when asked for, and undone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked, least

WEIGHTS = "weights"  # what a watch looks at by itself: a step may overflow


@checked(every=least(1), population=least(1))
class FiniteWatch:
    """Notes where numbers were not finite, on the device, and says so when asked.

    Of P policies each is watched by itself. One whose numbers are not finite is stopped, in this
    step and from then on: within `keeping` it stays as it was. The others do not notice.

    Args:
        names: of what is watched.
        every: updates between two calls of `read`. 1: `note` reads at once and raises, for a single
            policy.
        device: of the numbers.
        captured: `note` leaves all reading to `read`, as in a CUDA graph nothing may wait for the
            device.
        population: P, or None for one policy.

    Attributes:
        stopped: which policies are, `[P]` bool on the device, or None for one policy.

    Raises:
        ValueError: if `every` or the population is below 1.
    """

    def __init__(
        self,
        names: Sequence[str],
        every: int = 1,
        device: torch.device | str = "cpu",
        *,
        captured: bool = False,
        population: int | None = None,
    ) -> None:
        self.names, self.every, self.population = [*names, WEIGHTS], every, population
        self.device = torch.empty(0, device=device).device
        self._at_once = every == 1 and not captured and population is None
        self._at_once &= self.device.type != "meta"  # there are no numbers
        lead = () if population is None else (population,)
        self._seen = torch.zeros(len(self.names), *lead, dtype=torch.bool, device=device)
        self.stopped: Tensor | None = (
            None if population is None else torch.zeros_like(self._seen[0])
        )
        self._keeping = False
        self._before: list[Tensor] = []  # memory for what `keeping` keeps

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory out: a copy has its own."""
        return {**vars(self), "_keeping": False, "_before": []}

    @torch.no_grad()
    def note(self, name: str, *values: Tensor) -> Tensor | None:
        """Take in tensors, of P policies `[P, ..]`.

        Returns:
            1 where they are not finite and 0 elsewhere, `[]` or `[P]`, or None if it reads.

        Raises:
            ValueError: if the name is not watched, or, where it reads at once, a number is NaN or
                infinite.
        """
        if name not in self.names:
            raise ValueError(f"name must be one of {self.names}, got {name!r}")
        bad = _not_finite(values, self.population)
        if self._at_once:
            if bool(bad):
                raise ValueError(f"{name} must be finite, got NaN or infinity")
            return None
        row = self._seen[self.names.index(name)]
        if self.stopped is None:
            row.logical_or_(bad)
        else:  # what a stopped policy computes is no news
            row.logical_or_(bad & ~self.stopped)
            self.stopped.logical_or_(bad)
        return bad.float()

    def read(self) -> None:
        """Wait for the device; warn of policies of a population that were stopped, by number.

        Tensors on `meta` have no numbers to read.

        Raises:
            ValueError: naming what was not finite since the last reading; of a population, if no
                policy is left to go on.
        """
        if self._seen.is_meta:
            return
        seen = self._seen.tolist()
        self._seen.zero_()
        if self.stopped is not None:
            self._tell_of_members(seen)
            return
        bad = [name for name, one in zip(self.names, seen, strict=True) if one]
        if bad:
            raise ValueError(
                f"{' and '.join(bad)} must be finite, got NaN or infinity since the last reading; "
                "no step was taken with it"
            )

    def members(self) -> list[int]:
        """Wait for the device and return the numbers of the policies that are stopped."""
        if self.stopped is None or self.stopped.is_meta:
            return []
        return [i for i, one in enumerate(self.stopped.tolist()) if one]

    def load(self, stopped: Tensor | None) -> None:
        """Forget what was noted; policies are stopped as in `stopped` `[P]`, None: none is."""
        self._seen.zero_()
        if self.stopped is not None:
            self.stopped.zero_() if stopped is None else self.stopped.copy_(stopped)

    @contextmanager
    def keeping(self, *parts: object) -> Iterator[None]:
        """Give the rows of stopped policies their values back after the context.

        A policy that is stopped inside is as it was before the outermost context. Without a
        population nothing is done.

        Args:
            parts: modules and optimizers whose tensors have the policies as their leading axis;
                tensors that have none, and other objects, are left alone. The parameters of
                optimizers are looked at: one that is not finite stops its policy.
        """
        if self.population is None or self._keeping:
            yield
            return
        rows = _rows_of(parts, self.population)
        before = self._copied(rows)
        self._keeping = True
        try:
            yield
        finally:
            self._keeping = False
            self._give_back(parts, dict(zip(map(id, rows), before, strict=True)))

    @torch.no_grad()
    def _copied(self, rows: list[Tensor]) -> list[Tensor]:
        """Copy rows, after the first steps always into the same memory."""
        kinds = [[(x.shape, x.dtype, x.device) for x in xs] for xs in (rows, self._before)]
        if kinds[0] != kinds[1]:
            with torch.inference_mode(False):
                self._before = [torch.empty_like(row) for row in rows]
        torch._foreach_copy_(self._before, rows)
        return self._before

    @torch.no_grad()
    def _give_back(self, parts: Sequence[object], before: dict[int, Tensor]) -> None:
        stopped: Any = self.stopped
        stepped = [p for part in parts for p in _parameters(part)]
        if stepped:
            self.note(WEIGHTS, *stepped)
        if self.every == 1 and stopped.device.type == "cpu" and not bool(stopped.any()):
            return
        for row in _rows_of(parts, len(stopped)):
            mask = stopped.view(-1, *[1] * (row.dim() - 1))
            old = before.get(id(row))
            if old is None:  # moments that the first step made, from zero
                row.masked_fill_(mask, 0.0)
            else:
                torch.where(mask, old, row, out=row)

    def _tell_of_members(self, seen: list[list[bool]]) -> None:
        news = {
            name: [i for i, one in enumerate(row) if one]
            for name, row in zip(self.names, seen, strict=True)
        }
        causes = ", ".join(f"{name} of {_policies(who)}" for name, who in news.items() if who)
        stopped, population = self.members(), len(seen[0])
        if len(stopped) == population:
            raise ValueError(
                f"{causes or f'the numbers of {_policies(stopped)}'} must be finite, got NaN or "
                "infinity; all policies are stopped, each as before its last update"
            )
        if causes:
            warnings.warn(
                f"{causes} must be finite, got NaN or infinity; stopped and left as before that "
                f"update, while {population - len(stopped)} of {population} policies go on",
                stacklevel=3,
            )


class Watched:
    """A learner whose `finite` watches its losses and gradients, of each policy by itself."""

    finite: FiniteWatch

    @property
    def stopped(self) -> list[int]:
        """Numbers of the policies of a population that are stopped; waits for the device."""
        return self.finite.members()

    def check_finite(self) -> None:
        """Wait for the device and tell what was not finite since the last reading.

        Raises:
            ValueError: naming it; of a population only if all policies are stopped, others are
                named in a warning.
        """
        self.finite.read()


def keeping(watch: FiniteWatch | None, *parts: object) -> AbstractContextManager[None]:
    """Return `watch.keeping(*parts)`, or without a watch a context that does nothing."""
    return nullcontext() if watch is None else watch.keeping(*parts)


@contextmanager
def unless(bad: Tensor | None, module: object) -> Iterator[None]:
    """Give the buffers of `module` their values back after the context if `bad` is 1."""
    buffers = list(module.buffers()) if bad is not None and isinstance(module, nn.Module) else []
    before = [buffer.clone() for buffer in buffers]
    yield
    for buffer, old in zip(buffers, before, strict=True):
        buffer.copy_(buffer if bad is None else torch.where(bad > 0, old, buffer))


def _not_finite(values: Sequence[Tensor], population: int | None) -> Tensor:
    """Tell whether any number is NaN or infinite, `[]`, or `[P]` of values `[P, ..]`."""
    flags = [~torch.isfinite(value.detach()) for value in values]
    if population is None:
        return torch.stack([flag.any() for flag in flags]).any()
    for flag in flags:
        if flag.shape[:1] != (population,):
            raise ValueError(
                f"watched numbers must have shape [{population}, ..], got {list(flag.shape)}"
            )
    of_each = [flag if flag.dim() == 1 else flag.flatten(1).any(1) for flag in flags]
    return of_each[0] if len(of_each) == 1 else torch.stack(of_each).any(0)


def _parameters(part: object) -> list[Tensor]:
    if not isinstance(part, torch.optim.Optimizer):
        return []
    return [p for group in part.param_groups for p in group["params"]]


def _rows_of(parts: Sequence[object], population: int) -> list[Tensor]:
    """All tensors of modules and optimizers that have one row per policy, each once."""
    found: list[Tensor] = []
    for part in parts:
        if isinstance(part, nn.Module):
            found += [*part.parameters(), *part.buffers()]
        elif isinstance(part, torch.optim.Optimizer):
            found += _parameters(part)
            found += [v for state in part.state.values() for v in state.values()]
    rows = (t for t in found if isinstance(t, Tensor) and t.shape[:1] == (population,))
    return list({id(row): row for row in rows}.values())


def _policies(members: Sequence[int]) -> str:
    numbers = ", ".join(map(str, members))
    return f"policy {numbers}" if len(members) == 1 else f"policies {numbers}"
