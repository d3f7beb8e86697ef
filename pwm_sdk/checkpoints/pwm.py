"""What stands in a PWM file: world model, actor, critics and running statistics, in our names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pwm_sdk.calls import checked, has
from pwm_sdk.checkpoints.layout import Layer, Part, chain, need, refuse_others, section
from pwm_sdk.checkpoints.tdmpc2 import world_model_part

__all__ = ["pwm_actor", "pwm_critic", "pwm_statistics", "pwm_world_model"]

_KIND = "a PWM file"
_MIN_LOG_STD = -1.427  # not in the file; a constant of the program


def pwm_world_model(contents: object) -> Part:
    """Return the world model of a PWM file.

    Args:
        contents: of the file, with the state dict under `world_model`.

    Raises:
        ValueError: if a key is missing or unknown, or a weight has the wrong shape; the message
            names it.
    """
    state = section(contents, "world_model", _KIND)
    return world_model_part(state, "_encoder.", lambda key: False)


def pwm_actor(contents: object) -> Part:
    """Return the actor of a PWM file.

    Args:
        contents: of the file, with the state dict under `actor`.

    Raises:
        ValueError: As for `pwm_world_model`.
    """
    state = section(contents, "actor", _KIND)
    linear = [int(m[1]) for key in state if (m := re.fullmatch(r"mu_net\.(\d+)\.weight", key))]
    depth = (max(linear, default=0) + 2) // 3  # Linear, Mish, LayerNorm, ..., Linear
    names = [
        tuple(f"mu_net.{3 * i + j}.{name}" for j in (0, 2) for name in ("weight", "bias"))
        for i in range(depth)
    ]
    names.append((f"mu_net.{3 * depth}.weight", f"mu_net.{3 * depth}.bias"))
    log_std = need(state, "logstd", (None,))
    layers = chain(state, names, out_dim=len(log_std))
    refuse_others(state, ["logstd", *(key for layer in names for key in layer)], lambda key: False)
    settings = {
        "latent_dim": layers[0].weight.shape[-1],
        "action_dim": len(log_std),
        "hidden": [len(layer.bias) for layer in layers[:-1]],
        "min_std": math.exp(_MIN_LOG_STD),
    }
    return Part(settings, _stacked("net", layers) | {"log_std": log_std.unsqueeze(0)})


def pwm_critic(contents: object) -> Part:
    """Return the ensemble of critics of a PWM file.

    Args:
        contents: of the file, with the state dict under `critic`.

    Raises:
        ValueError: As for `pwm_world_model`.
    """
    state = section(contents, "critic", _KIND)
    numbers = [int(m[1]) for key in state if (m := re.fullmatch(r"params\.(\d+)", key))]
    depth = max(numbers, default=0) // 4
    names = [tuple(f"params.{4 * i + j}" for j in range(4)) for i in range(depth)]
    names.append((f"params.{4 * depth}", f"params.{4 * depth + 1}"))
    ensemble = need(state, "params.0", (None, None, None)).shape[0]
    layers = chain(state, names, stack=(ensemble,), out_dim=1)
    refuse_others(state, [key for layer in names for key in layer], lambda key: False)
    settings = {
        "latent_dim": layers[0].weight.shape[-1],
        "hidden": [layer.bias.shape[-1] for layer in layers[:-1]],
        "ensemble": ensemble,
    }
    return Part(settings, _stacked("net", layers) | {"value_scale": torch.tensor(1.0)})


@checked(contents=has("get", "keys"))
def pwm_statistics(contents: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Return the running statistics of a PWM file.

    Args:
        contents: of the file.

    Returns:
        `mean`, `var` and `count` by `obs_rms`, `rew_rms` and `ret_rms`; those that the program did
        not keep are left out.

    Raises:
        ValueError: if one of them has no such numbers.
    """
    found = {}
    for name in ("obs_rms", "rew_rms", "ret_rms"):
        if contents.get(name) is None:
            continue
        held = section(contents, name, _KIND)
        if missing := [key for key in ("mean", "var", "count") if key not in held]:
            raise ValueError(f"{name} must have {missing}, got {sorted(held)}")
        found[name] = {key: torch.as_tensor(held[key]) for key in ("mean", "var", "count")}
    return found


def _stacked(name: str, layers: list[Layer]) -> dict[str, Tensor]:
    """Name the weights as `StackedMLP` does, which keeps `[in, out]` and rows `[1, out]`."""
    *hidden, head = layers
    weights = {f"{name}.head.weight": head.weight.mT, f"{name}.head.bias": head.bias.unsqueeze(-2)}
    for i, layer in enumerate(hidden):
        weights[f"{name}.layers.{i}.weight"] = layer.weight.mT
        weights[f"{name}.layers.{i}.bias"] = layer.bias.unsqueeze(-2)
        for part, value in (("scales", layer.scale), ("shifts", layer.shift)):
            if value is not None:
                weights[f"{name}.{part}.{i}"] = value.unsqueeze(-2)
    return weights
