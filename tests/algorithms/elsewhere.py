"""A device beside the CPU on any machine: tensors on `meta` that have numbers after all.

Under `elsewhere()`, whatever is put on `meta` is a `Remote`: it calls itself a tensor on `meta`,
and keeps its numbers. As on a GPU, an operation on a `Remote` and a tensor of the CPU is an error
unless the latter is a single number, and numbers can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
READS = {"_local_scalar_dense", "equal", "is_same_size"}
MOVES = {"_to_copy", "copy_", "index_put_", "_index_put_impl_"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Remote(Tensor):
    """A tensor that claims to be elsewhere."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Remote:
        return torch.Tensor._make_wrapper_subclass(  # pyright: ignore
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=DEVICE, requires_grad=False,
        )  # fmt: skip

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self, **_: Any) -> str:
        return f"Remote({self.inner})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Remote, (self.inner,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied: Any = Remote(self.detach().inner.clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, requires_grad=self.requires_grad)
        memo[id(self)] = copied
        return copied

    @property
    def is_meta(self) -> bool:
        """False: there are numbers."""
        return False

    def tolist(self) -> Any:
        """Return the numbers."""
        return self.detach().inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Numbers(TorchFunctionMode):
    """What the other mode cannot do: it does not see how tensors of Python's numbers are made, and
    does not follow `quantile`, which changes shapes in place.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = kwargs or {}
        if function in (torch.tensor, torch.as_tensor) and given.get("device") is not None:
            device = given.pop("device")
            return function(*args, **given).to(device)
        if function is Tensor.__getitem__ and isinstance(args[1], list):
            return function(args[0], torch.tensor(args[1]))
        if function is torch.quantile and isinstance(args[0], Remote):
            if not all(isinstance(x, Remote) for x in args if isinstance(x, Tensor)):
                raise RuntimeError("quantile: found tensors on at least two devices")
            return Remote(function(*(_here(x) for x in args), **given))
        return function(*args, **given)


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """While it is entered, tensors that are put on the device that it returns are `Remote`."""
    with _Numbers(), _Operations():
        yield DEVICE


def _run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = function._schema.name.removeprefix("aten::")
    if any(
        x.is_meta and not isinstance(x, Remote)
        for x in tree_leaves((args, kwargs))
        if isinstance(x, Tensor)
    ):
        raise RuntimeError(f"{name}: numbers were lost on the way")
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    remote = [x for x in given if isinstance(x, Remote)]
    local = [x for x in given if not isinstance(x, Remote) and x.dim()]
    if name in INDEXING and isinstance(args[0], Remote):  # indices may be on the CPU
        local = [x for x in local if any(x is value for value in args[2:])]
    if remote and local and name not in MOVES - INDEXING:
        raise RuntimeError(f"{name}: found tensors on at least two devices, {DEVICE} and cpu")
    device = kwargs.get("device")
    there = bool(remote) if device is None else torch.device(device).type == DEVICE.type
    args, kwargs = tree_map(_here, (args, kwargs))
    result = function(*args, **kwargs)
    if name in READS:
        return result
    if name == "copy_":
        there = isinstance(given[0], Remote)
    known = {id(x.inner): x for x in remote}  # an operation in place returns what it was given

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor) or isinstance(x, Remote) or not there:
            return x
        return known[id(x)] if id(x) in known else Remote(x)

    return tree_map(wrapped, result)


def _here(x: Any) -> Any:
    if isinstance(x, Remote):
        return x.inner
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == DEVICE.type else x
