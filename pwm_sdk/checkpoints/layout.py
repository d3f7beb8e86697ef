"""Strict reading of a foreign state dict: every key is accounted for, every shape is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Layer", "Part", "PartReader", "chain", "need", "refuse_others", "section", "sections"]

State = Mapping[str, Any]


class Part(NamedTuple):
    """One of our modules, as it stands in a file.

    Attributes:
        settings: arguments of the module's constructor.
        weights: its `state_dict`.
    """

    settings: dict[str, Any]
    weights: dict[str, Tensor]


class Layer(NamedTuple):
    """A linear layer with the LayerNorm beside it, `[*stack, ..]` where several are stacked.

    Attributes:
        weight: `[*stack, out, in]`.
        bias: `[*stack, out]`.
        scale: of the norm, `[*stack, out]`; None without a norm.
        shift: of the norm, `[*stack, out]`; None without a norm.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None


PartReader = Callable[[Any], Part]


def section(contents: object, name: str, kind: str) -> State:
    """Return the state dict called `name` of a file.

    Raises:
        ValueError: if there is none.
    """
    contents = sections(contents)
    found = contents.get(name) if isinstance(contents, Mapping) else None
    if not isinstance(found, Mapping):
        keys = list(contents)[:8] if isinstance(contents, Mapping) else type(contents).__name__
        raise ValueError(f"{kind} must have a state dict {name!r}, got {keys}")
    return found


def sections(contents: object) -> Any:
    """Return what a file holds as its program would have saved it.

    A state dict that stands alone is put under the name that its program gives it, and what
    `torch.compile` (`_orig_mod.`) and data parallel training (`module.`) put before names is taken
    away: the latter where every name of a state dict has it.

    Args:
        contents: of the file.
    """
    if not isinstance(contents, Mapping):
        return contents
    for wrapper in ("state_dict", "model_state_dict"):
        held = contents.get(wrapper)
        if isinstance(held, Mapping) and not _ALONE.keys() & contents.keys():
            contents = held
    plain = _without_prefixes(contents)
    for name, marks in _ALONE.items():
        if any(str(key).startswith(marks) for key in plain):
            return {name: plain}
    return {
        key: _without_prefixes(value) if isinstance(value, Mapping) else value
        for key, value in contents.items()
    }


# name of a state dict in its program's files -> how names in it begin, of no other
_ALONE = {
    "model": ("_encoder.state.",),
    "world_model": ("_encoder.0.",),
    "actor": ("mu_net.",),
    "critic": ("params.",),
}


def _without_prefixes(state: State) -> State:
    """Rename the entries of a state dict as they were before it was compiled or made parallel."""
    names = {key: str(key).replace("_orig_mod.", "") for key in state}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    if any(str(key) != name for key, name in names.items()) and len(set(names.values())) == len(
        names
    ):
        return {names[key]: value for key, value in state.items()}
    return state


def need(state: State, key: str, shape: tuple[int | None, ...]) -> Tensor:
    """Return the weight `key`, whose `shape` may have any size where it says None.

    Raises:
        ValueError: if it is missing, no tensor of floating-point numbers, or of another shape.
    """
    if key not in state:
        raise ValueError(f"checkpoint must have the key {key!r}, got none")
    value = state[key]
    if not isinstance(value, Tensor) or not value.is_floating_point():
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{key} must be a tensor of floating-point numbers, got {found}")
    fits = value.dim() == len(shape) and all(
        expected in (None, size) for expected, size in zip(shape, value.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{key} must have shape [{wanted}], got {list(value.shape)}")
    return value


def chain(
    state: State,
    keys: Iterable[tuple[str, ...]],
    *,
    stack: tuple[int, ...] = (),
    in_dim: int | None = None,
    out_dim: int | None = None,
) -> list[Layer]:
    """Return the layers of an MLP, each of which takes what the one before gives.

    Args:
        state: the state dict.
        keys: of each layer, the names of weight and bias, and of scale and shift where it is
            normed.
        stack: leading sizes of every weight.
        in_dim: inputs of the first layer; None: any.
        out_dim: outputs of the last one; None: any.

    Raises:
        ValueError: if a weight is missing or does not fit the others.
    """
    layers, names = [], list(keys)
    for number, (weight, *vectors) in enumerate(names):
        out = out_dim if number == len(names) - 1 else None
        matrix = need(state, weight, (*stack, out, in_dim))
        in_dim = matrix.shape[-2]
        layers.append(Layer(matrix, *(need(state, name, (*stack, in_dim)) for name in vectors)))
    return layers


def refuse_others(state: State, known: Iterable[str], ignored: Callable[[str], bool]) -> None:
    """Check that a state dict holds nothing that is neither known nor to be ignored.

    Raises:
        ValueError: if it does; the message names the keys.
    """
    others = sorted(set(state) - set(known))
    if others := [key for key in others if not ignored(key)]:
        raise ValueError(f"checkpoint must hold only keys of a known layout, got {others[:8]}")
