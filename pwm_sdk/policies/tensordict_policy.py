"""A policy as a TensorDict module, for the environments and collectors of TorchRL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn

from pwm_sdk.contract.models import num_tasks
from pwm_sdk.keys import ACTION, OBSERVATION, TASK

if TYPE_CHECKING:
    from pwm_sdk.policies.policy import ObservationPolicy

IS_INIT = "is_init"  # TorchRL's InitTracker marks first steps by it


class TensorDictPolicy(TensorDictModuleBase):
    """Reads observation, and task and first steps where the policy needs them; writes action.

    Args:
        policy: acts, with a memory that this module has to itself.
    """

    def __init__(self, policy: ObservationPolicy) -> None:
        super().__init__()
        self.policy = policy
        parts = [part for part in (policy.actor, policy.model) if isinstance(part, nn.Module)]
        self.networks = nn.ModuleList(parts)  # so that it has their parameters
        self.asks = num_tasks(policy.model) > 0 and policy.tasks is None
        self.remembers = policy.remembers
        self.in_keys: list[Any] = [OBSERVATION, *[TASK] * self.asks, *[IS_INIT] * self.remembers]
        self.out_keys: list[Any] = [ACTION]

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the actions `[.., A]` of observations `[.., O]`, in the environment's own units.

        Raises:
            ValueError: if the policy remembers and nothing marks first steps.
        """
        seen: Any = tensordict[OBSERVATION]
        rows = seen.reshape(-1, seen.shape[-1])
        if self.remembers:
            if IS_INIT not in tensordict.keys():  # noqa: SIM118 - of a TensorDict
                raise ValueError(
                    f"tensordict must hold {IS_INIT!r} for a policy that remembers: append "
                    "torchrl.envs.InitTracker() to the environment"
                )
            first: Any = tensordict[IS_INIT]
            begun = first.reshape(-1).nonzero().flatten().tolist()
            for index in begun if len(begun) < len(rows) else [None]:  # all: perhaps of another N
                self.policy.reset(index)
        task: Any = tensordict[TASK].reshape(-1) if self.asks else None
        action: Any = self.policy.act(rows, task)
        return tensordict.set(
            ACTION, action.unflatten(0, seen.shape[:-1]) if seen.dim() > 1 else action[0]
        )
