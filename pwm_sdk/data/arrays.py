"""Numbers that a caller hands over, copied into tensors of the type that is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_numbers", "copied"]


def copied(name: str, value: Any, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Return a copy of numbers as a tensor that shares no memory with the caller's.

    Args:
        name: of the argument, for messages.
        value: a tensor, a NumPy array (read-only ones too), a number, or a list of any of these.
        dtype: type of the copy; for bool, the numbers must be 0 and 1.
        device: of the copy; None: where the tensor is, or the CPU.

    Raises:
        ValueError: if `value` holds anything but numbers, or rows of different lengths.
    """
    found = as_numbers(name, value)
    if dtype == torch.bool and found.dtype != torch.bool and ((found != 0) & (found != 1)).any():
        raise ValueError(f"{name} must be true or false, got {found.unique()[:8].tolist()}")
    return found.to(device=found.device if device is None else device, dtype=dtype, copy=True)


def as_numbers(name: str, value: Any) -> Tensor:
    """Return numbers as a tensor of their own type, without gradient; arrays and lists are copied.

    Raises:
        ValueError: if `value` holds anything but numbers, or rows of different lengths.
    """
    if isinstance(value, list | tuple) and len(value) and all(isinstance(v, Tensor) for v in value):
        if len(shapes := {tuple(v.shape) for v in value}) > 1:
            raise ValueError(f"{name} must have rows of one shape, got {sorted(shapes)}")
        value = torch.stack(list(value))
    if not isinstance(value, Tensor):
        value = _from_array(name, value)
    if value.is_complex() or value.layout != torch.strided or value.is_quantized:
        raise ValueError(f"{name} must hold real numbers, got {value.dtype} ({value.layout})")
    return value.detach()


def _from_array(name: str, value: Any) -> Tensor:
    """Copy what NumPy takes for an array of numbers."""
    try:
        array = np.array(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU, ...
        raise ValueError(
            f"{name} must be a tensor, an array or a list of rows of one length, "
            f"got {type(value).__name__} ({error})"
        ) from error
    if array.dtype.kind not in "biuf":
        given = repr(value) if array.ndim == 0 else f"{type(value).__name__} of {array.dtype}"
        raise ValueError(f"{name} must hold numbers, got {given}")
    kind, size = array.dtype.kind, array.dtype.itemsize
    wide = np.dtype({"f": np.float64, "u": np.int64}.get(kind, array.dtype))
    plain = wide if size > 8 or (kind == "u" and size == 8) else array.dtype.newbyteorder("=")
    return torch.from_numpy(array.astype(plain, order="C", copy=False))
