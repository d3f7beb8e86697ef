"""Weights of the published programs in our modules, and their networks as plain functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel

Data = dict[str, Tensor]
NORMED = ("weight", "bias", "ln.weight", "ln.bias")


def prefixed(data: Data, prefix: str) -> Data:
    """The entries whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def world_model(weights: Data, data: Data, masked: bool = False) -> WorldModel:
    """A world model of TD-MPC2 or PWM; all sizes are those of the weights."""
    names = {"_encoder.state.": "encoder.", "_encoder.": "encoder.", "_dynamics.": "dynamics."}
    names |= {"_reward.": "reward_head.", "_task_emb.weight": "task_embedding"}
    state = {}
    for name, value in weights.items():
        old = next((old for old in names if name.startswith(old)), None)
        if old is not None:
            state[name.replace(old, names[old])] = value
    widths = {
        part: [len(v) for k, v in state.items() if k.startswith(part) and k.endswith("ln.bias")]
        for part in ("encoder", "dynamics")
    }
    embedding = state.get("task_embedding", torch.empty(0, 0))
    model = WorldModel.published(
        int(data["cfg/obs_dim"]),
        int(data["cfg/action_dim"]),
        num_tasks=len(embedding),
        task_dim=embedding.shape[1],
        latent_dim=int(data["cfg/latent_dim"]),
        hidden=widths["dynamics"][:-1],
        encoder_hidden=widths["encoder"][:-1],
        num_bins=int(data["cfg/num_bins"]),
        simnorm_size=int(data.get("cfg/simnorm_dim", torch.tensor(8))),
        action_dims=data["cfg/action_dims"].tolist() if masked else None,
    )
    model.load_state_dict(state)
    return model.requires_grad_(False)


def actor_state(theirs: Data) -> Data:
    """Names of a PWM actor in ours: Linear, Mish, LayerNorm, ...; ours keep W^T."""
    depth = sum(v.dim() == 2 for v in theirs.values()) - 1
    state = {"log_std": theirs["logstd"].unsqueeze(0)}
    for i in range(depth):
        state[f"net.layers.{i}.weight"] = theirs[f"mu_net.{3 * i}.weight"].T
        state[f"net.layers.{i}.bias"] = theirs[f"mu_net.{3 * i}.bias"].unsqueeze(0)
        state[f"net.scales.{i}"] = theirs[f"mu_net.{3 * i + 2}.weight"].unsqueeze(0)
        state[f"net.shifts.{i}"] = theirs[f"mu_net.{3 * i + 2}.bias"].unsqueeze(0)
    state["net.head.weight"] = theirs[f"mu_net.{3 * depth}.weight"].T
    state["net.head.bias"] = theirs[f"mu_net.{3 * depth}.bias"].unsqueeze(0)
    return state


def critic_state(theirs: Data) -> Data:
    """Names of a PWM critic ensemble in ours: numbered parameters, heads in front."""
    numbered = [theirs[f"params.{i}"] for i in range(len(theirs))]
    state = {}
    for i in range(len(numbered) // 4):
        weight, bias, scale, shift = numbered[4 * i : 4 * i + 4]
        state[f"net.layers.{i}.weight"] = weight.mT
        state[f"net.layers.{i}.bias"] = bias.unsqueeze(1)
        state[f"net.scales.{i}"] = scale.unsqueeze(1)
        state[f"net.shifts.{i}"] = shift.unsqueeze(1)
    state["net.head.weight"] = numbered[-2].mT
    state["net.head.bias"] = numbered[-1].unsqueeze(1)
    return state


def actor(data: Data) -> FirstOrderActor:
    """PWM's actor."""
    floor = float(data["cfg/min_logstd"].exp())
    sizes = int(data["cfg/latent_dim"]), int(data["cfg/action_dim"])
    ours = FirstOrderActor.published(*sizes, data["cfg/actor_units"].tolist(), min_std=floor)
    ours.load_state_dict(actor_state(prefixed(data, "w/actor.")))
    return ours


def critic(data: Data) -> Critic:
    """PWM's critic."""
    units, heads = data["cfg/critic_units"].tolist(), int(data["cfg/num_critics"])
    ours = Critic.published(int(data["cfg/latent_dim"]), units, heads)
    ours.load_state_dict(
        {**critic_state(prefixed(data, "w/critic.")), "value_scale": torch.tensor(1.0)}
    )
    return ours


def normed(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Linear, LayerNorm, Mish."""
    x = F.linear(x, weight, bias)
    return F.mish(F.layer_norm(x, x.shape[-1:], scale, shift))


class Prior:
    """TD-MPC2's policy prior as a plain function: a squashed Gaussian with a learned spread."""

    def __init__(self, data: Data, context=None) -> None:
        self.data, self.context = data, context
        self.weights = prefixed(data, "w/_pi.")
        self.action_dim = int(data["cfg/action_dim"])

    def given(self, context) -> Prior:
        return Prior(self.data, context)

    def sample(self, latent: Tensor, noise: Tensor) -> Tensor:
        embedding = self.context.embedding.expand(*latent.shape[:-1], -1)
        x, w = torch.cat((latent, embedding), -1), self.weights
        for i in range(2):
            x = normed(
                x, *(w[f"{i}.{name}"] for name in ("weight", "bias", "ln.weight", "ln.bias"))
            )
        mean, raw = F.linear(x, w["2.weight"], w["2.bias"]).chunk(2, -1)
        mask = self.context.action_mask
        log_std = (-10 + 6 * (torch.tanh(raw) + 1)) * mask
        return torch.tanh(mean * mask + noise * mask * log_std.exp())


class Ensemble:
    """TD-MPC2's Q functions, read as the mean of two heads that are given, one pair a call."""

    def __init__(self, data: Data, heads: list[list[int]], context=None) -> None:
        self.data, self.heads, self.context = data, heads, context
        self.weights = [data[f"w/_Qs.params.{i}"] for i in range(10)]

    def given(self, context, generator=None) -> Ensemble:
        return Ensemble(self.data, self.heads, context)

    def __call__(self, latent: Tensor, action: Tensor) -> Tensor:
        embedding = self.context.embedding.expand(*latent.shape[:-1], -1)
        values = []
        for head in self.heads.pop(0):
            x, w = torch.cat((latent, embedding, action), -1), [v[head] for v in self.weights]
            x = normed(normed(x, *w[:4]), *w[4:8])
            share = F.linear(x, w[8], w[9]).softmax(-1)
            bins = torch.linspace(
                float(self.data["cfg/vmin"]), float(self.data["cfg/vmax"]), share.shape[-1]
            )
            expected = (share * bins).sum(-1, keepdim=True)
            values.append(expected.sign() * expected.abs().expm1())
        return (values[0] + values[1]) / 2
