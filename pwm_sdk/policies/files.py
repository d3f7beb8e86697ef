"""Policies as files: parts of known kinds as settings and weights, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.modules import MLP

from pwm_sdk.checkpoints.reading import existing_file, read_tensors
from pwm_sdk.checkpoints.writing import write_tensors
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.files import Checkpointed, upgraded
from pwm_sdk.models.layers import Mish
from pwm_sdk.models.normalizers import RunningMeanStd
from pwm_sdk.models.policy_prior import PolicyPrior
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.policies.networks import LastLayer, MeanActor, Normalized
from pwm_sdk.states import state_of, uncompiled

FORMAT = "pwm_sdk.ObservationPolicy"
VERSION = 2  # 1: before the arguments' defaults were the measured ones
PARTS = ("actor", "model")
OWN = "own"  # kind of a module that no file can describe
_MOST = 1000  # layers


def _linear(layer: nn.Linear) -> dict[str, Any]:
    sizes = {"in_features": layer.in_features, "out_features": layer.out_features}
    return {**sizes, "bias": layer.bias is not None}


def _moments(moments: RunningMeanStd) -> dict[str, Any]:
    return {"shape": list(moments.mean.shape), "limit": moments.limit, "eps": moments.eps}


def _nothing(_: nn.Module) -> dict[str, Any]:
    return {}


def _settings(module: Checkpointed) -> dict[str, Any]:
    return module.settings


# What a file may name, and what it says of it besides its parts. Nothing else is ever built.
KINDS: dict[str, tuple[type[nn.Module], Callable[[Any], dict[str, Any]]]] = {
    "WorldModel": (WorldModel, _settings),
    "FirstOrderActor": (FirstOrderActor, _settings),
    "PolicyPrior": (PolicyPrior, _settings),
    "MeanActor": (MeanActor, lambda m: {"squash": m.squash, "halves": m.halves}),
    "Normalized": (Normalized, _nothing),
    "RunningMeanStd": (RunningMeanStd, _moments),
    "Sequential": (nn.Sequential, _nothing),
    "Linear": (nn.Linear, _linear),
    "LastLayer": (LastLayer, _linear),
    "ELU": (nn.ELU, _nothing),
    "Mish": (nn.Mish, _nothing),
    "QuickMish": (Mish, _nothing),
    "ReLU": (nn.ReLU, _nothing),
    "SiLU": (nn.SiLU, _nothing),
    "Tanh": (nn.Tanh, _nothing),
}
_NAMES = {kind: name for name, (kind, _) in KINDS.items()}


def described(module: nn.Module) -> dict[str, Any]:
    """Return what a file says of a module: its kind, settings and parts, JSON values."""
    module = uncompiled(module)
    mlp = type(module) is MLP and isinstance(module.out_features, int)
    name = "Sequential" if mlp else _NAMES.get(type(module), OWN)
    if name == OWN:
        return {"kind": OWN, "name": type(module).__name__}
    kind, settings = KINDS[name]
    children = {} if issubclass(kind, Checkpointed) else module._modules
    # not named_children(), which leaves out a layer that stands in several places, after the first
    inner = {key: part for key, part in children.items() if part is not None}
    about = {
        "kind": name,
        "settings": settings(module),
        "parts": {key: described(part) for key, part in inner.items()},
    }
    if name == "Normalized" and not inner:  # by moments that are no module
        return {"kind": OWN, "name": name}
    if settings is _nothing and not inner and repr(module) != repr(kind()):  # of other settings
        return {"kind": OWN, "name": repr(module)}
    return about


def own_parts(about: Mapping[str, Any]) -> list[str]:
    """Return the names of the modules in a description that no file can describe."""
    if about.get("kind") == OWN:
        return [str(about.get("name"))]
    return [name for part in about.get("parts", {}).values() for name in own_parts(part)]


def save_policy(
    path: str | os.PathLike[str], parts: Mapping[str, nn.Module | None], settings: dict[str, Any]
) -> None:
    """Write the parts of a policy and its settings to one file, atomically.

    Raises:
        ValueError: if a part is no module, or weights are not finite.
        OSError: if the file cannot be written.
    """
    about, tensors = {}, {}
    for name, part in parts.items():
        if part is None:
            continue
        if not isinstance(part, nn.Module):
            raise ValueError(f"{name} must be a module to be saved, got {type(part).__name__}")
        about[name] = described(part)
        tensors |= {f"{name}.{key}": value for key, value in state_of(part).items()}
    if wrong := sorted(key for key, value in tensors.items() if not bool(value.isfinite().all())):
        raise ValueError(f"weights must be finite, got others in {wrong[:8]}")
    said = {"format": FORMAT, "version": str(VERSION)}
    write_tensors(path, tensors, {**said, "policy": json.dumps({**settings, **about})})


def read_policy(
    path: str | os.PathLike[str], given: Mapping[str, nn.Module | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read parts and settings of a policy, the parts on the CPU.

    Args:
        path: the file.
        given: modules of the caller, by name, which get the file's weights.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, of another kind or a newer version, if weights do not fit, or
            if a part must be given.
    """
    tensors, metadata = read_tensors(existing_file(path))
    about, version = _about(metadata, path)
    parts: dict[str, nn.Module | None] = {}
    for name in PARTS:
        described, prefix = about.pop(name, None), f"{name}."
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        own = given.get(name)
        if version == 1 and isinstance(described, dict):
            described = _upgraded(described)
        if described is None and own is not None:
            raise ValueError(f"{name} must be None, as {path} holds none, got one")
        parts[name] = None if described is None else _part(name, described, weights, own, path)
    if parts["actor"] is None:
        raise ValueError(f"path must hold an actor, got none in {path}")
    return parts, about


def _about(metadata: Mapping[str, str], path: str | os.PathLike[str]) -> tuple[dict[str, Any], int]:
    """Read what a file says of its policy, and its version."""
    if metadata.get("format") != FORMAT:
        raise ValueError(f"path must hold a {FORMAT}, got {metadata.get('format')} in {path}")
    version = metadata.get("version", "")
    if not (version.isascii() and version.isdigit() and 1 <= int(version[:9]) <= VERSION):
        raise ValueError(
            f"version must be at most {VERSION} and at least 1, got {version!r} in {path}"
        )
    try:
        about = json.loads(metadata["policy"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"policy must be undamaged JSON, got others in {path}") from error
    if not isinstance(about, dict) or not {"tasks", "low", "high"} <= set(about):
        raise ValueError(f"policy must be a dictionary of tasks and bounds, got others in {path}")
    return about, int(version)


def _upgraded(about: dict[str, Any]) -> dict[str, Any]:
    """Return the description that one of version 1 stands for; damage stays as it is."""
    kind = KINDS.get(str(about.get("kind")), (nn.Module, None))[0]
    settings, parts = about.get("settings"), about.get("parts")
    if issubclass(kind, Checkpointed) and isinstance(settings, dict):
        about = {**about, "settings": upgraded(kind, settings)}
    if isinstance(parts, dict):
        inner = {k: _upgraded(v) if isinstance(v, dict) else v for k, v in parts.items()}
        about = {**about, "parts": inner}
    return about


def _part(
    name: str,
    about: Mapping[str, Any],
    weights: dict[str, Tensor],
    own: nn.Module | None,
    path: str | os.PathLike[str],
) -> nn.Module:
    """Build a part, or take the caller's, and give it its weights."""
    try:
        if own is None and (unknown := own_parts(about)):
            raise ValueError(
                f"{name} must be given, as {path} holds weights of {', '.join(unknown)} alone"
            )
        kind: Any = about.get("kind")
        checkpointed = KINDS.get(kind, (nn.Module, None))[0]
        if own is None and issubclass(checkpointed, Checkpointed):
            return checkpointed._build(about["settings"], weights, path)
        if own is None:
            with torch.device("meta"):
                _check(_built(about).state_dict(), weights)
        module = _built(about) if own is None else own
        _check(state_of(module), weights)
    except ValueError:
        raise
    except Exception as error:  # damaged settings can fail in any way
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name} must be undamaged, got {path} ({reason})") from error
    if own is None:
        module.load_state_dict(weights, assign=True)
    else:
        uncompiled(module).load_state_dict(weights)
    return module


def _built(about: Mapping[str, Any]) -> nn.Module:
    """Build a module from its description, with weights that are replaced later."""
    kind, _ = KINDS[about["kind"]]
    if len(about["parts"]) > _MOST:
        raise ValueError(f"parts must be at most {_MOST}, got {len(about['parts'])}")
    numbers = [key for key in about["parts"] if key.isdecimal()]
    if numbers != [str(i) for i in range(len(numbers))]:  # files of before left out repeated layers
        raise ValueError(f"numbers of parts must be 0 to {len(numbers) - 1}, got {numbers}")
    with torch.random.fork_rng(devices=[]):
        parts = OrderedDict((key, _built(part)) for key, part in about["parts"].items())
        return kind(parts) if kind is nn.Sequential else kind(**about["settings"], **parts)


def _check(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError for weights that are missing, unknown, not finite or of other shapes."""
    if other := sorted(wanted.keys() ^ weights.keys()):
        raise ValueError(f"weights must fit the network, got missing or unknown {other[:8]}")
    for key, value in weights.items():
        if value.shape != wanted[key].shape:
            raise ValueError(
                f"{key} must have shape {list(wanted[key].shape)}, got {list(value.shape)}"
            )
        if not bool(value.isfinite().all()):
            raise ValueError(f"weights must be finite, got others in {key}")
