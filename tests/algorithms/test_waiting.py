"""An update never makes the host wait for the device, and what would wait is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_updates import CONFIG, MEMBERS, PUBLISHED, Kind, assemble, starts
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pwm_sdk.algorithms.execution import Execution
from pwm_sdk.algorithms.pwm import PWMConfig

# Operations whose result, or the size of it, has to be known to the host. `item`, `bool`, `float`
# and `is_nonzero` all come down to the first, `argwhere` and `where(condition)` to the second.
READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "allclose", "bincount", "_unique",
    "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive", "_assert_scalar",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class NoReading(TorchDispatchMode):
    """Operations that wait for the device are errors, also on a CPU, where nobody waits."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, given = function._schema.name.removeprefix("aten::"), kwargs or {}
        waits = name in READS
        if name in INDEXING:  # a mask becomes as many indices as it has ones
            waits = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name == "repeat_interleave":
            waits = given.get("output_size") is None
        if name == "_to_copy":
            target = given.get("device") or args[0].device
            waits = target.type == "cpu" and args[0].device.type != "cpu"
        if name == "copy_":
            waits = args[0].device.type == "cpu" and args[1].device.type != "cpu"
        if waits:
            raise RuntimeError(f"{name} waits for the device")
        return function(*args, **given)


class NoCopying(TorchFunctionMode):
    """Copies between host and device are errors, even if the device is the CPU.

    There a copy is no operation, so that it has to be told from how it is asked for. One with
    `non_blocking` waits for nobody.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, given = getattr(function, "__name__", ""), kwargs or {}
        waits = name in ("tolist", "numpy", "cpu", "__array__")
        if name in ("tensor", "as_tensor"):
            waits = given.get("device") is not None
        if name == "to" and not given.get("non_blocking"):
            waits = any(isinstance(x, (str, torch.device)) for x in (*args, *given.values()))
        if waits:
            raise RuntimeError(f"{name} waits for the device")
        return function(*args, **given)


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
