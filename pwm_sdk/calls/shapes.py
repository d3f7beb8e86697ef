"""Shapes and places of the tensors of one call: they fit each other and the object called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from pwm_sdk.calls.rules import of_tensors

# What tensors of these names are, everywhere; `shaped` replaces it where an argument is another.
LEGEND: dict[str, tuple[Any, ...]] = {
    "latent": (..., "D"),
    "observation": (..., "O"),
    **dict.fromkeys(("action", "noise", "loc", "log_std"), (..., "A")),
    "logits": (..., None),
}
LETTERS = {"D": "latent_dim", "A": "action_dim", "O": "observation_dim"}  # sizes of an object
MEETING = ("latent", "latents", "next_latent", "action", "noise", "direction")  # weights, as it is
OWN = ("actor", "encoder", "model", "policy")  # parts that tell where an object lies


def shaped(*sizes: object) -> Callable[..., Any]:
    """Return a rule for the shape of a tensor.

    Args:
        sizes: of the axes; None: any; a letter: the same in all tensors of a call, and D, A and O
            those of the object that is called; an ellipsis in front: any further axes before them,
            with letters after it the same ones in all tensors.
    """
    free = bool(sizes) and sizes[0] is ...
    last = sizes[1:] if free else sizes
    words = ", ".join(".." if s is ... else "any" if s is None else str(s) for s in sizes)

    @of_tensors
    def check(**settings: object) -> None:
        for name, value in settings.items():
            if not isinstance(value, Tensor):
                continue
            shape = tuple(value.shape)
            fits = len(shape) >= len(last) if free else len(shape) == len(last)
            tail = shape[len(shape) - len(last) :]
            if not fits or any(
                isinstance(e, int) and e != s for e, s in zip(last, tail, strict=True)
            ):
                raise ValueError(f"{name} must have shape [{words}], got {list(shape)}")

    check.dims = sizes  # pyright: ignore[reportFunctionMemberAccess]
    return check


def measure(owner: object, given: Mapping[str, Any], dims: Mapping[str, Any], ids: object) -> None:
    """Compare the tensors of a call with each other and with the object that is called.

    Args:
        owner: the object, or None.
        given: arguments by name.
        dims: whether further axes lead, and the last ones as in `shaped`, of those with letters.
        ids: of tasks, which broadcast to the leading shape, or what else tells tasks.

    Raises:
        ValueError: if one does not fit.
    """
    sizes: dict[Any, tuple[Any, str]] = {}
    for name, (lead, letters) in dims.items():
        value = given.get(name)
        if not isinstance(value, Tensor):
            continue
        shape = value.shape
        split = len(shape) - len(letters)
        for letter, size in zip(letters, shape[split:], strict=True):
            if letter.__class__ is not str:
                continue
            if letter not in sizes:
                own = getattr(owner, LETTERS[letter], None) if letter in LETTERS else None
                sizes[letter] = (own, "") if isinstance(own, int) else (size, name)
            expected, other = sizes[letter]
            if size != expected:
                raise ValueError(
                    f"{name} must have size {expected} as {other}, got {list(shape)}"
                    if other
                    else _own_sizes(given, dims, owner)
                )
        if lead:
            expected, other = sizes.setdefault(..., (shape[:split], name))
            if shape[:split] != expected and not _repeats(shape[:split], expected):
                raise ValueError(
                    f"{name} must have leading shape {list(expected)} as {other}, got {list(shape)}"
                )
    if ... in sizes and isinstance(ids, Tensor):
        check_ids(ids, *sizes[...])


def _repeats(size: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Tell whether leading shapes differ in axes of size 1 alone."""
    pairs = zip(size, expected, strict=False)
    return len(size) == len(expected) and all(a == b or 1 in (a, b) for a, b in pairs)


def _own_sizes(given: Mapping[str, Any], dims: Mapping[str, Any], owner: object) -> str:
    """What is wrong with tensors that do not have the sizes of the object they are given to."""
    tensors = {n: v for n in dims if isinstance(v := given.get(n), Tensor)}
    own = {n: getattr(owner, LETTERS.get(dims[n][1][-1], ""), None) for n in tensors}
    own = {name: size for name, size in own.items() if isinstance(size, int)}
    words = "sizes" if len(own) > 1 else "size"
    wanted = " and ".join(str(size) for size in own.values())
    got = " and ".join(str(list(tensors[name].shape)) for name in own)
    return f"{' and '.join(own)} must have {words} {wanted}, got {got}"


def check_ids(task: Tensor, lead: tuple[int, ...], other: str) -> None:
    """Raise ValueError unless task ids broadcast to the leading shape of another tensor."""
    ends = zip(reversed(task.shape), reversed(lead), strict=False)
    if task.dim() > len(lead) or any(own not in (1, size) for own, size in ends):
        raise ValueError(
            f"task must broadcast to the {other}'s {list(lead)}, got {list(task.shape)}"
        )


def check_dtypes(owner: object, given: Mapping[str, Any]) -> None:
    """Raise ValueError for latents, actions or noise of another type than the weights they meet.

    Args:
        owner: the object that is called, or None.
        given: arguments by name.
    """
    meeting = {name: v for name in MEETING if isinstance(v := given.get(name), Tensor)}
    if not meeting:
        return
    parts = [owner] if isinstance(owner, nn.Module) else []
    parts += [getattr(owner, "model", None), given.get("model"), getattr(owner, "policy", None)]
    parts += [value for value in given.values() if isinstance(value, nn.Module)]
    part = next((part for part in parts if part is not None), None)
    weight = _first(part) if isinstance(part, nn.Module) else None
    if weight is None or not weight.is_floating_point():
        return
    for name, value in meeting.items():
        if value.dtype != weight.dtype:
            raise ValueError(f"{name} must be {weight.dtype} as the weights, got {value.dtype}")


def place(value: object) -> torch.device | None:
    """Return where a tensor, a batch or a module lies; None for what can be used anywhere."""
    if isinstance(value, Tensor):
        return None if value.dim() == 0 and value.device.type == "cpu" else value.device
    if isinstance(value, nn.Module):
        found = _first(value)
        return None if found is None else found.device
    if isinstance(value, TensorDictBase):
        leaves = value.values(include_nested=True, leaves_only=True)
        return value.device or next((leaf.device for leaf in leaves), None)
    return None


def _first(module: nn.Module) -> Tensor | None:
    """Return the first parameter, or else the first buffer; cheaper than `parameters()`."""
    waiting, buffer = [module], None
    while waiting:
        part = waiting.pop()
        for parameter in part._parameters.values():
            if parameter is not None:
                return parameter
        if buffer is None:
            buffer = next((b for b in part._buffers.values() if b is not None), None)
        waiting.extend(m for m in part._modules.values() if m is not None)
    return buffer


def own_tensor(owner: object) -> Tensor | None:
    """Return a tensor that tells where an object lies: one of its own or of a part."""
    if isinstance(owner, nn.Module):
        return _first(owner)
    modules = [p for name in OWN if isinstance(p := getattr(owner, name, None), nn.Module)]
    return next((found for m in modules if (found := _first(m)) is not None), None)
