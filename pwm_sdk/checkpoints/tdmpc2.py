"""What stands in a TD-MPC2 file: world model, Q functions and policy prior, in our names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pwm_sdk.calls import checked, has
from pwm_sdk.checkpoints.layout import Layer, Part, State, chain, need, refuse_others, section

__all__ = ["tdmpc2_policy_prior", "tdmpc2_q_ensemble", "tdmpc2_world_model", "world_model_part"]

_NORMED = ("weight", "bias", "ln.weight", "ln.bias")
_SIMNORM = 8  # not in the file; the same in every published model
_EMBEDDING, _MASKS, _LOG_STD = "_task_emb.weight", "_action_masks", ("log_std_min", "log_std_dif")
_Q_PREFIXES = {False: ("_Qs.params.",), True: ("_target_Qs.params.", "_target_Qs_params.")}


def tdmpc2_world_model(contents: object) -> Part:
    """Return the world model of a TD-MPC2 file, of one task or of many.

    Action masks are those that the file has; files before late 2024 have none.

    Args:
        contents: of the file, with the state dict under `model`.

    Raises:
        ValueError: if a key is missing or unknown, or a weight has the wrong shape; the message
            names it.
    """
    state = section(contents, "model", "a TD-MPC2 file")
    part = world_model_part(state, "_encoder.state.", _ignored)
    if part.settings["num_bins"] == 0:
        raise ValueError("_reward must end in at least 2 bins of a two-hot reward, got 1 output")
    return part


@checked(contents=has("get", "keys"))
def tdmpc2_q_ensemble(contents: object, target: bool = False) -> Part:
    """Return the Q functions of a TD-MPC2 file, in the old style or the new one.

    Args:
        contents: of the file, with the state dict under `model`.
        target: the slowly moving copy that TD targets come from.

    Raises:
        ValueError: As for `tdmpc2_world_model`.
    """
    state = section(contents, "model", "a TD-MPC2 file")
    sizes = _sizes(state)
    prefix = next((p for p in _Q_PREFIXES[target] if _begins(state, p)), _Q_PREFIXES[target][-1])
    names, heads = _q_names(state, prefix), _stacked(state, prefix)
    joint = sizes["latent_dim"] + sizes["task_dim"] + sizes["action_dim"]
    *hidden, head = chain(state, names, stack=(heads,), in_dim=joint)
    weights = {"head.weight": head.weight, "head.bias": head.bias}
    for i, layer in enumerate(hidden):
        weights |= _named(f"layers.{i}", layer.weight, layer.bias)
        weights |= _named(f"norms.{i}", layer.scale, layer.shift)
    widths = [layer.bias.shape[-1] for layer in hidden]
    bins = head.bias.shape[-1]
    more = {"hidden": widths, "ensemble": heads, "num_bins": bins if bins > 1 else 0}
    return Part(sizes | more, weights)


@checked(contents=has("get", "keys"))
def tdmpc2_policy_prior(contents: object) -> Part:
    """Return the policy prior of a TD-MPC2 file.

    Args:
        contents: of the file, with the state dict under `model`.

    Raises:
        ValueError: As for `tdmpc2_world_model`.
    """
    state = section(contents, "model", "a TD-MPC2 file")
    sizes = _sizes(state)
    layers = _mlp(
        state, "_pi.", sizes["latent_dim"] + sizes["task_dim"], 2 * sizes["action_dim"], True
    )
    settings: dict[str, Any] = sizes | {"hidden": [len(layer.bias) for layer in layers[:-1]]}
    if all(key in state for key in _LOG_STD):
        low, spread = (float(state[key]) for key in _LOG_STD)
        settings["log_std"] = [low, low + spread]
    return Part(settings, _sequential("net", layers))


def world_model_part(state: State, encoder: str, ignored: Callable[[str], bool]) -> Part:
    """Read a world model in the names that TD-MPC2 and PWM share.

    Args:
        state: the state dict.
        encoder: prefix of the encoder's layers.
        ignored: tells whether an unknown key belongs to another part.

    Raises:
        ValueError: if a key is missing or unknown, or a weight has the wrong shape.
    """
    tasks, task_dim = _embedding(state)
    first = _mlp(state, encoder)
    latent, observation = len(first[-1].bias), first[0].weight.shape[1] - task_dim
    dynamics = _mlp(state, "_dynamics.", out_dim=latent)
    joint = dynamics[0].weight.shape[1]
    reward = _mlp(state, "_reward.", joint, plain_last=True)
    bins, hidden = len(reward[-1].bias), [len(layer.bias) for layer in dynamics[:-1]]
    _check_widths("_reward", reward, hidden)
    action = joint - latent - task_dim
    _check_positive(encoder, observation, action)
    settings = {
        "observation_dim": observation,
        "action_dim": action,
        "num_tasks": tasks,
        "task_dim": task_dim,
        "latent_dim": latent,
        "hidden": hidden,
        "encoder_hidden": [len(layer.bias) for layer in first[:-1]],
        "num_bins": bins if bins > 1 else 0,
        "simnorm_size": _SIMNORM,
        "action_dims": _action_dims(state, tasks, action),
    }
    if latent % _SIMNORM:
        raise ValueError(f"latents must be divisible by {_SIMNORM}, got {latent} of {encoder}")
    weights = {
        **_sequential("encoder", first),
        **_sequential("dynamics", dynamics),
        **_sequential("reward_head", reward),
    }
    known = [*_keys(state, encoder), *_keys(state, "_dynamics."), *_keys(state, "_reward.")]
    if _begins(state, "_termination."):
        end = _mlp(state, "_termination.", latent + task_dim, 1, plain_last=True)
        _check_widths("_termination", end, hidden)
        weights |= _sequential("termination_head", end)
        settings["episodic"] = True
        known += _keys(state, "_termination.")
    if tasks:
        weights["task_embedding"] = state[_EMBEDDING]
    refuse_others(state, [*known, _EMBEDDING, _MASKS], ignored)
    return Part(settings, weights)


def _ignored(key: str) -> bool:
    """Tell the keys of a TD-MPC2 file that say nothing of the world model."""
    return key.startswith("_pi.") or "Qs" in key or key in _LOG_STD


def _begins(state: State, prefix: str) -> bool:
    """Tell whether any key begins with `prefix`."""
    return any(key.startswith(prefix) for key in state)


def _embedding(state: State) -> tuple[int, int]:
    """Return the number of tasks and the size of their embeddings, or zeros."""
    if _EMBEDDING not in state:
        return 0, 0
    tasks, size = need(state, _EMBEDDING, (None, None)).shape
    return tasks, size


def _depth(state: State, prefix: str) -> int:
    """Return the number of layers below `prefix`, at least 1."""
    numbers = [int(m[1]) for key in state if (m := re.match(re.escape(prefix) + r"(\d+)\.", key))]
    return max(numbers, default=0) + 1


def _keys(state: State, prefix: str) -> list[str]:
    """Return the names that an MLP may have below `prefix`."""
    return [f"{prefix}{i}.{name}" for i in range(_depth(state, prefix)) for name in _NORMED]


def _mlp(
    state: State,
    prefix: str,
    in_dim: int | None = None,
    out_dim: int | None = None,
    plain_last: bool = False,
) -> list[Layer]:
    """Read normed layers, the last one plain where `plain_last` says so."""
    names = [tuple(f"{prefix}{i}.{n}" for n in _NORMED) for i in range(_depth(state, prefix))]
    if plain_last:
        names[-1] = names[-1][:2]
    return chain(state, names, in_dim=in_dim, out_dim=out_dim)


def _named(name: str, weight: Tensor | None, bias: Tensor | None) -> dict[str, Tensor]:
    """Name a weight and a bias, where there are some."""
    found = {f"{name}.weight": weight, f"{name}.bias": bias}
    return {key: value for key, value in found.items() if value is not None}


def _sequential(name: str, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """Name the weights as `world_model_mlp` does."""
    weights: dict[str, Tensor] = {}
    for i, layer in enumerate(layers):
        weights |= _named(f"{name}.{i}", layer.weight, layer.bias)
        weights |= _named(f"{name}.{i}.ln", layer.scale, layer.shift)
    return weights


def _sizes(state: State) -> dict[str, int]:
    """Return the sizes that Q functions and policy share with the world model."""
    _, task_dim = _embedding(state)
    dynamics = _mlp(state, "_dynamics.")
    latent, joint = len(dynamics[-1].bias), dynamics[0].weight.shape[1]
    action = joint - latent - task_dim
    _check_positive("_dynamics.", 1, action)
    return {"latent_dim": latent, "action_dim": action, "task_dim": task_dim}


def _q_names(state: State, prefix: str) -> list[tuple[str, ...]]:
    """Return the names of the layers of an ensemble: numbered (old style) or like an MLP."""
    old = f"{prefix}0" in state
    if old:
        last = max(int(k.removeprefix(prefix)) for k in state if re.fullmatch(f"{prefix}\\d+", k))
        count = last // 4
        names = [tuple(f"{prefix}{4 * i + j}" for j in range(4)) for i in range(count)]
        return [*names, (f"{prefix}{4 * count}", f"{prefix}{4 * count + 1}")]
    depth = _depth(state, prefix)
    names = [tuple(f"{prefix}{i}.{n}" for n in _NORMED) for i in range(depth)]
    return [*names[:-1], names[-1][:2]]


def _stacked(state: State, prefix: str) -> int:
    """Return the number of Q functions."""
    first = f"{prefix}0" if f"{prefix}0" in state else f"{prefix}0.weight"
    return need(state, first, (None, None, None)).shape[0]


def _action_dims(state: Mapping[str, Any], tasks: int, action: int) -> list[int] | None:
    """Return the number of real actions of each task, where the file has masks."""
    if _MASKS not in state or not tasks:
        return None
    mask = need(state, _MASKS, (tasks, action))
    sizes = mask.sum(-1).long()
    expected = (sizes.unsqueeze(-1) > sizes.new_tensor(range(action))).to(mask)
    if not mask.equal(expected) or int(sizes.min()) < 1:
        raise ValueError(f"{_MASKS} must be ones followed by zeros in each row, got {mask}")
    return sizes.tolist()


def _check_widths(name: str, layers: Sequence[Layer], hidden: list[int]) -> None:
    """Raise ValueError unless an MLP has the hidden widths of the dynamics."""
    found = [len(layer.bias) for layer in layers[:-1]]
    if found != hidden:
        raise ValueError(f"{name} must have the hidden widths {hidden} of _dynamics, got {found}")


def _check_positive(name: str, observation: int, action: int) -> None:
    """Raise ValueError for inputs too small for what they must hold."""
    if observation < 1 or action < 1:
        raise ValueError(
            f"{name} must have room for latent, task embedding, observation and action, got "
            f"observation size {observation} and action size {action}"
        )
