"""What would make the host wait for its device, as an error on any machine."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

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
