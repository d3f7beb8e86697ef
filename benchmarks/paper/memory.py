"""How much memory a policy takes while it learns, and how much there is."""

from __future__ import annotations

import operator
import os
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict

from paper.extraction import OfflinePreset, Policy, make_learners
from pwm_sdk import WorldModel

PROBE = 8  # starts of the update whose memory is measured
SPARE = 2.0  # for what no graph keeps: gradients on their way, the packed trajectory
COPIES = 9  # of a weight: itself, its gradient, two moments, what saving copies, and what is put
# back where a policy diverges: weight and moments


@dataclass(frozen=True)
class Footprint:
    """Bytes that one policy of a population takes while it learns."""

    weights: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.activations


def footprint(model: WorldModel, preset: OfflinePreset) -> Footprint:
    """Measure one policy's memory: what a small update keeps for its backward passes, scaled up."""
    learners = make_learners(model, [Policy(preset.tasks[0], 0)])
    own = [*learners.actor.parameters(), *learners.critic.parameters()]
    observation = torch.randn(1, PROBE, model.observation_dim)
    task = torch.zeros(1, PROBE, dtype=torch.int64)
    batch = TensorDict({"observation": observation, "task": task}, [1, PROBE])
    kept = _Kept([*model.parameters(), *own])
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, operator.attrgetter("tensor")):
        learners.update(batch)
    weights = sum(p.numel() * p.element_size() for p in own)
    return Footprint(COPIES * weights, int(SPARE * kept.peak * preset.batch_size / PROBE))


class _Holder:
    """What a graph keeps in place of a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class _Kept:
    """Counts the bytes that graphs keep at once, weights left out; they go when a graph does."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        self.weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self.holders: Counter[int] = Counter()
        self.held = self.peak = 0

    def pack(self, tensor: torch.Tensor) -> _Holder:
        """Take note of a tensor, until the graph drops what this returns."""
        holder, storage = _Holder(tensor), tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key not in self.weights:
            self.held += 0 if self.holders[key] else size
            self.peak = max(self.peak, self.held)
            self.holders[key] += 1
            weakref.finalize(holder, self._drop, key, size)
        return holder

    def _drop(self, key: int, size: int) -> None:
        self.holders[key] -= 1
        self.held -= 0 if self.holders[key] else size


def free_bytes(device: str) -> int:
    """Bytes that a new program may take on a device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    table = Path("/proc/meminfo")
    if table.exists():  # what files hold in memory can be had as well
        fields = dict(line.split(":", 1) for line in table.read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")
    limit, held = group / "memory.max", group / "memory.current"
    if limit.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(held.read_text()))
    return max(free, 0)
