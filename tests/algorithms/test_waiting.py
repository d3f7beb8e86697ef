"""An update never makes the host wait for the device, and what would wait is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_updates import CONFIG, MEMBERS, PUBLISHED, Kind, assemble, starts
from torch import Tensor
from waits import NoCopying, NoReading

from pwm_sdk.algorithms.pwm import PWMConfig
from pwm_sdk.execution.settings import Execution

X, CPU = torch.arange(4.0), torch.device("cpu")
MASK, INDEX, AWAY = X > 1.0, torch.tensor([0, 2, 2, 3]), torch.empty(4, device="meta")

WAITING: dict[str, Callable[[], Any]] = {
    "item": lambda: X[0].item(),
    "float": lambda: float(X.sum()),
    "bool": lambda: bool(MASK.any()),
    "if": lambda: 1 if X.isnan().any() else 0,
    "tolist": lambda: X.tolist(),
    "numpy": lambda: X.numpy(),
    "cpu": lambda: X.cpu(),
    "to the name of the cpu": lambda: X.to("cpu"),
    "to the device": lambda: X.to(CPU, torch.float64),
    "to the device by name": lambda: X.to(device=CPU),
    "copy to the cpu": lambda: torch.empty(4).copy_(AWAY),
    "copy to the cpu, without waiting for it": lambda: AWAY.to("cpu", non_blocking=True),
    "tensor of numbers": lambda: torch.tensor([1.0, 2.0], device=CPU),
    "as_tensor": lambda: torch.as_tensor([1.0], device="cpu"),
    "mask": lambda: X[MASK],
    "mask of bytes": lambda: torch.ops.aten.index.Tensor(X, [MASK.to(torch.uint8)]),
    "mask of rows": lambda: X.view(2, 2)[:, MASK[:2]],
    "mask that is written": lambda: X.clone().__setitem__(MASK, X[:2]),
    "index_put of a mask": lambda: X.clone().index_put_((MASK,), X[:2]),
    "masked_select": lambda: X.masked_select(MASK),
    "nonzero": lambda: X.nonzero(),
    "argwhere": lambda: torch.argwhere(X),
    "where of one": lambda: torch.where(MASK),
    "equal": lambda: torch.equal(X, X + 1.0),
    "allclose": lambda: torch.allclose(X, X + 1.0),
    "unique": lambda: X.unique(),
    "unique of rows": lambda: X.view(2, 2).unique(dim=0),
    "unique_consecutive": lambda: X.unique_consecutive(),
    "repeat_interleave": lambda: X.repeat_interleave(INDEX),
    "bincount": lambda: INDEX.bincount(),
}

FREE: dict[str, Callable[[], Any]] = {
    "where of three": lambda: torch.where(MASK, X, -X),
    "masked_fill": lambda: X.masked_fill(MASK, 0.0),
    "index": lambda: X[INDEX],
    "index that is written": lambda: X.clone().index_put_((INDEX[:2],), X[:2]),
    "repeats of one size": lambda: X.repeat_interleave(2),
    "repeats of a known size": lambda: X.repeat_interleave(INDEX, output_size=7),
    "to a type": lambda: X.to(torch.float64),
    "to without waiting": lambda: X.to(CPU, non_blocking=True),
    "full": lambda: torch.full((), 0.99, device=CPU),
    "sum": lambda: (X * MASK).sum().isnan().float(),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_caught(name: str) -> None:
    with NoCopying(), NoReading(), pytest.raises(RuntimeError, match="waits for the device"):
        WAITING[name]()


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_is_let_through(name: str) -> None:
    with NoCopying(), NoReading():
        FREE[name]()


@pytest.mark.parametrize("config", [CONFIG, PUBLISHED], ids=["ours", "theirs"])
@pytest.mark.parametrize("kind", [None, 2, MEMBERS])
def test_an_update_does_not_wait_for_its_device(kind: Kind, config: PWMConfig) -> None:
    pwm = assemble(kind, Execution(check_every=3), config)
    batch = starts(pwm.population)
    metrics: dict[str, Tensor] = {}
    with NoCopying(), NoReading():
        for _ in range(2):
            metrics = pwm.update(batch)
            pwm.set_learning_rates(0.5)
        with pytest.raises(RuntimeError, match="waits for the device"):
            pwm.update(batch)  # the third reads
        with pytest.raises(RuntimeError, match="waits for the device"):
            float(metrics["value_loss"])
