"""What updates of three policies leave behind, where one of them is spoiled or not."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.population import take_members
from pwm_sdk.models.world_model import WorldModel

MEMBERS, BAD = 3, 1
OTHERS = [0, 2]
VALUES = {"NaN": math.nan, "inf": math.inf, "1e30": 1e30, "3e38": 3e38}


def make_model() -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel.published(
        3, 2, num_tasks=2, task_dim=4, latent_dim=8, hidden=(8,), encoder_hidden=(8,),
        simnorm_size=4, action_dims=[1, 2], num_bins=11,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model


MODEL = make_model()


def batch(number: int) -> TensorDict:
    generator = torch.Generator().manual_seed(100 + number)
    lead = (MEMBERS, 6)
    return TensorDict(
        {
            "observation": torch.randn(*lead, 3, generator=generator),
            "action": torch.rand(*lead, 2, generator=generator) - 0.5,
            "task": torch.tensor([0, 1, 1])[:, None].expand(lead).clone(),
        },
        lead,
    )


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(
    pwm: Any, spoil: Callable[[TensorDict], Any] | None = None, updates: int = 3
) -> dict[str, Any]:
    """All that some updates leave behind; the second batch is spoiled."""
    metrics, before = [], None
    with quiet():
        for number in range(updates):
            given = batch(number)
            if spoil is not None and number == 1:
                before = copy.deepcopy(pwm.state_dict())
                spoil(given)
            metrics.append({k: v for k, v in pwm.update(given).items() if v.shape == (MEMBERS,)})
    parts = [getattr(pwm, name) for name in ("actor", "critic") if hasattr(pwm, name)]
    gradients = {
        f"{i} {name}": None if parameter.grad is None else parameter.grad.clone()
        for i, part in enumerate(parts)
        for name, parameter in part.named_parameters()
    }
    state = {k: v for k, v in pwm.state_dict().items() if k != "stopped"}
    return {
        "state": copy.deepcopy(state),
        "metrics": dict(enumerate(metrics)),
        "gradients": gradients,
        "before": before,
    }


def differences(first: Any, second: Any, members: list[int], path: str = "") -> list[str]:
    """Names of the tensors in which members differ in a bit (NaN equals NaN)."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        return [
            name
            for key in first
            for name in differences(first[key], second[key], members, f"{path}/{key}")
        ]
    if not isinstance(first, Tensor) or not first.dim() or "generator" in path:
        return []
    a, b = (take_members(x, members) for x in (first, second))
    return [] if torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) else [path]


def finite(state: Any, path: str = "") -> None:
    """Nothing that is kept is NaN or infinite."""
    if isinstance(state, dict):
        for key, value in state.items():
            finite(value, f"{path}/{key}")
    elif isinstance(state, Tensor) and state.is_floating_point():
        assert torch.isfinite(state).all(), path
