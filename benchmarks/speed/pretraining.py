"""The group `model`: one training step of a world model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from tensordict import TensorDict

from pwm_sdk import MT80, WorldModel, optimize, world_model_loss
from speed.bench import Bench, Variant
from speed.rows import Group, Row
from speed.timing import added_bytes, operations, repeated

GROUP = Group(
    "model",
    "One training step of a world model",
    "`world_model_loss` on windows of 16 steps, backward, clip and a fused Adam step. MB: tensors "
    "held beyond those\nbefore the step. It is in no transcription, so there is nothing to compare "
    "with.",
    count="windows",
)
HORIZON, STEP = 16, "world-model step"


def rows_of_training(bench: Bench, sizes: Sequence[int], batches: Sequence[int]) -> list[Row]:
    """Time a training step of every size and batch."""
    rows: list[Row] = []
    for size in sizes:
        torch.manual_seed(0)
        model = WorldModel.from_size(size, MT80).to(bench.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, fused=True)
        mine: list[Row] = []
        for count in sorted(batches):
            if note := bench.forecast(mine, count):
                rows.append(Row(GROUP.name, STEP, size, count, "ours", note=note))
                continue
            call = partial(train, model, optimizer, windows(count, bench.device))
            read = repeated(STEP, call, bench.seconds)
            megabytes = added_bytes(call, bench.device) / 1e6
            ours = Variant("ours", read, operations(read), megabytes=megabytes)
            mine = bench.measure(GROUP, size, count, [ours])
            rows += mine
    return rows


def train(model: WorldModel, optimizer: torch.optim.Optimizer, batch: TensorDict) -> None:
    """One step."""
    optimize(world_model_loss(model, batch, rho=0.99), optimizer, max_norm=20.0)


def windows(count: int, device: torch.device) -> TensorDict:
    """A batch of random windows of all tasks."""
    steps = (count, HORIZON)
    batch = {
        "observation": torch.randn(count, HORIZON + 1, MT80.observation_dim),
        "action": torch.rand(*steps, MT80.action_dim) * 2.0 - 1.0,
        "reward": torch.rand(*steps, 1),
        "task": torch.randint(len(MT80), (count,)),
    }
    return TensorDict(batch, batch_size=[count]).to(device)
