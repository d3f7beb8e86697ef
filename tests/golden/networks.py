"""TD-MPC2's value and policy networks with the published weights."""

from __future__ import annotations

from published_weights import Data, prefixed
from torch import Tensor

from pwm_sdk.models.conditioning import TaskContext
from pwm_sdk.models.policy_prior import PolicyPrior
from pwm_sdk.models.q_ensemble import QEnsemble

NAMES = [f"{part}.{i}.{name}" for i in (0, 1) for part, name in (
    ("layers", "weight"), ("layers", "bias"), ("norms", "weight"), ("norms", "bias"))]  # fmt: skip
NAMES += ["head.weight", "head.bias"]


def sizes(data: Data, context_dim: int) -> dict:
    """Arguments that both networks share."""
    return {
        "latent_dim": int(data["cfg/latent_dim"]),
        "action_dim": int(data["cfg/action_dim"]),
        "task_dim": context_dim,
        "hidden": [int(data["cfg/mlp_dim"])] * 2,
    }


def task_dim(data: Data) -> int:
    """Size of the embedding; 0 without tasks."""
    return data["w/_task_emb.weight"].shape[1] if "w/_task_emb.weight" in data else 0


def q_ensemble(data: Data, prefix: str = "w/_Qs.params.") -> QEnsemble:
    """The Q functions of a file, without dropout, as they were recorded."""
    heads = {"ensemble": int(data["cfg/num_q"]), "num_bins": int(data["cfg/num_bins"])}
    q = QEnsemble(**sizes(data, task_dim(data)), **heads, dropout=0.0)
    q.load_state_dict({name: data[f"{prefix}{i}"] for i, name in enumerate(NAMES)})
    return q


def policy_prior(data: Data) -> PolicyPrior:
    """The policy prior of a file; its names are ours behind `net`."""
    prior = PolicyPrior(**sizes(data, task_dim(data)))
    prior.load_state_dict({f"net.{k}": v for k, v in prefixed(data, "w/_pi.").items()})
    return prior


def real_actions(context: TaskContext, like: Tensor) -> Tensor | int:
    """Number of actions that the tasks have, `[.., 1]`."""
    mask = context.action_mask
    return like.shape[-1] if mask is None else mask.sum(-1, keepdim=True)
