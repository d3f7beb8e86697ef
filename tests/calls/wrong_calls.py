"""What is put in an argument's place to make a call wrong, by what belongs there."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

Wrong = tuple[str, Any]
STRANGER = object()


def _tensor(value: Tensor) -> Iterator[Wrong]:
    yield from (("None", None), ("str", "x"), ("object", STRANGER))
    yield "list", value.tolist()
    yield "numpy", value.detach().numpy()
    yield "meta", value.to("meta")
    floats = value.is_floating_point()
    yield "dtype", value.to(torch.int64 if floats else torch.float32)
    yield "complex", value.to(torch.complex64)
    if value.dtype == torch.float32:
        yield "double", value.double()
    if value.dtype != torch.bool and not floats:
        yield "bool", value.bool()
        yield "negative", -value - 1
        yield "too large", value + 1000
    if value.dim():
        yield "rank", value.sum() if floats else value.reshape(-1)[0]
        yield "last axis", torch.cat((value, value[..., :1]), -1)
        yield "more axes", value.unsqueeze(0).unsqueeze(0).expand(3, 5, *value.shape)
    if floats:
        yield "nan", torch.full_like(value, math.nan)
        yield "inf", torch.full_like(value, math.inf)


def _batch(value: TensorDictBase) -> Iterator[Wrong]:
    yield from (("None", None), ("str", "x"), ("object", STRANGER), ("dict", {}))
    yield "empty", TensorDict({}, value.batch_size)
    yield "list", [value]
    yield "numpy", np.zeros(3)
    yield "meta", value.to("meta")
    for key in value.keys():  # noqa: SIM118 - a TensorDict iterates over its rows
        yield f"without {key}", value.exclude(key)


def _number(value: float) -> Iterator[Wrong]:
    yield from (("str", "3"), ("bool", True), ("object", STRANGER), ("list", [value, value]))
    yield from (("None", None), ("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf))
    yield from (("negative", -abs(value) - 1.0), ("complex", 1j), ("large", abs(value) + 1.5))
    yield "huge", 10**400


def _count(value: int) -> Iterator[Wrong]:
    yield from (("str", "3"), ("bool", True), ("object", STRANGER), ("list", [value, value]))
    yield from (("None", None), ("nan", math.nan), ("float", float(value)), ("half", 1.5))
    yield from (("negative", -3), ("numpy float", np.float64(value)), ("zero", 0))


def _sequence(value: Any) -> Iterator[Wrong]:
    yield from (("None", None), ("object", STRANGER), ("int", 3), ("str", "xyz"), ("empty", []))
    yield "longer", [*value, *value, *value]
    if not len(value):
        return
    first = value[0]
    if isinstance(first, (int, float)):
        rest = list(value[1:])
        yield from (("of None", [None, *rest]), ("of str", ["3", *rest]))
        yield from (("of bool", [True, *rest]), ("of nan", [math.nan, *rest]))
        yield from (("of negatives", [-3, *rest]), ("numpy 2d", np.zeros((2, 2))))
        if isinstance(first, int):
            yield "of halves", [1.5, *rest]
    else:
        yield from (("of None", [None]), ("of int", [3]), ("of str", ["x"]))


def _array(value: np.ndarray) -> Iterator[Wrong]:
    yield from (("None", None), ("str", "x"), ("object", STRANGER), ("int", 3))
    yield "objects", np.full(value.shape, None)
    yield "more axes", np.stack([value] * 3)
    yield "last axis", np.concatenate((value, value[..., :1]), -1)
    if value.dtype.kind == "f":
        yield "nan", np.full_like(value, math.nan)


def wrong_values(value: Any) -> Iterator[Wrong]:
    """Yield labels and what does not belong where `value` does."""
    if isinstance(value, (bool, np.bool_)):
        yield from (("None", None), ("int", 1), ("str", "yes"), ("object", STRANGER), ("nan", 0.5))
    elif isinstance(value, int):
        yield from _count(value)
    elif isinstance(value, float):
        yield from _number(value)
    elif isinstance(value, (str, Path)):
        yield from (("None", None), ("int", 3), ("object", STRANGER), ("list", ["x"]))
        if isinstance(value, str):
            yield "unknown", "nonsense"
    elif isinstance(value, Tensor):
        yield from _tensor(value)
    elif isinstance(value, TensorDictBase):
        yield from _batch(value)
    elif isinstance(value, np.ndarray):
        yield from _array(value)
    elif isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        yield from _sequence(value)
    elif isinstance(value, nn.Module):
        yield from (("None", None), ("str", "x"), ("object", STRANGER), ("class", type(value)))
        yield from (("int", 3), ("list", [value]))
    elif value is None or isinstance(value, (torch.device, torch.dtype)):
        yield from (("str", "nonsense"), ("object", STRANGER), ("half", 1.5))
    else:  # objects with attributes, functions, settings
        yield from (("None", None), ("str", "x"), ("object", STRANGER), ("int", 3))


def answer(call: Callable[..., Any], settings: Mapping[str, Any], name: str, wrong: Any) -> str:
    """Return "" for an error that names the argument, else what happened."""
    try:
        result = call(**{**settings, name: wrong})
        if isinstance(result, Iterator):
            next(result, None)
    except (ValueError, TypeError) as error:
        named = re.search(rf"\b{re.escape(name)}\b", str(error))
        return "" if named else f"{type(error).__name__}: {error}"
    except Exception as error:  # whatever else comes is what the test is for
        return f"{type(error).__name__}: {error}"
    return "accepted"
