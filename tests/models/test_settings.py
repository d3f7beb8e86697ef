"""Networks name the argument that is out of range, and the input that does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel

SMALL = {"latent_dim": 8, "hidden": (8,), "encoder_hidden": (8,)}


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (FirstOrderActor, {"std": 0.0}, r"std must be positive, got 0\.0"),
        (FirstOrderActor, {"min_std": -1.0}, r"min_std must be positive, got -1\.0"),
        (FirstOrderActor, {"hidden": 64}, "hidden must be a sequence of integers, got 64"),
        (FirstOrderActor, {"hidden": (64, 0)}, r"hidden must be at least 1, got \(64, 0\)"),
        (FirstOrderActor, {"population": 0}, "population must be at least 1, got 0"),
        (FirstOrderActor, {"action_dim": 0}, "action_dim must be at least 1, got 0"),
        (Critic, {"scale": 0.0}, r"scale must be positive, got 0\.0"),
        (
            Critic,
            {"scale": [1.0, -1.0], "population": 2},
            r"scale must be positive, got \[1\.0, -1",
        ),
        (Critic, {"population": 0}, "population must be at least 1, got 0"),
        (WorldModel, {"hidden": 64}, "hidden must be a sequence of integers, got 64"),
        (WorldModel, {"num_tasks": -1}, "num_tasks must be at least 0, got -1"),
        (WorldModel, {"observation_dim": 2.0}, r"observation_dim must be an integer, got 2\.0"),
    ],
)
def test_settings_out_of_range_are_named(build: Any, settings: Any, message: str) -> None:
    needed = {
        FirstOrderActor: {"latent_dim": 8, "action_dim": 1},
        Critic: {"latent_dim": 8},
        WorldModel: {"observation_dim": 3, "action_dim": 1, **SMALL},
    }
    with pytest.raises(ValueError, match=message):
        build(**needed[build] | settings)


@pytest.mark.parametrize(
    ("mean", "std", "task", "message"),
    [
        (torch.zeros(3), torch.zeros(3), 0, r"std must be positive, got 0\.0"),
        (torch.zeros(3), torch.ones(3), -1, r"task must be an id in 0\.\.1, got -1"),
        (torch.zeros(3), torch.ones(3), 2, r"task must be an id in 0\.\.1, got 2"),
        (torch.zeros(1), torch.ones(3), 0, r"mean must have shape \[3\], got \[1\]"),
        (torch.zeros(3), torch.ones(2, 3), 0, r"std must have shape \[3\], got \[2, 3\]"),
    ],
)
def test_statistics_fit_their_task(mean: Any, std: Any, task: int, message: str) -> None:
    model = WorldModel(3, 1, num_tasks=2, task_dim=2, standardize=True, **SMALL)
    with pytest.raises(ValueError, match=message):
        model.set_observation_statistics(mean, std, task)
    model.set_observation_statistics(torch.ones(3), torch.ones(3))  # of all tasks
    assert torch.equal(model.observation_mean, torch.ones(2, 3))
    alone = WorldModel(3, 1, standardize=True, **SMALL)
    with pytest.raises(ValueError, match="task must be None without tasks, got 0"):
        alone.set_observation_statistics(torch.ones(3), torch.ones(3), 0)


def test_observations_to_encode_have_a_type_and_tasks_that_broadcast() -> None:
    model = WorldModel(3, 1, num_tasks=2, task_dim=2, **SMALL)
    with pytest.raises(ValueError, match=r"observation must be torch\.float32, got torch\.float64"):
        model.encode(torch.rand(5, 3, dtype=torch.float64), torch.tensor(0))
    with pytest.raises(ValueError, match=r"observation must be torch\.float32, got torch\.int64"):
        raw = WorldModel(3, 1, standardize=False, **SMALL)
        raw.encode(torch.ones(5, 3, dtype=torch.int64))
    for wrong in (torch.zeros(4), torch.zeros(5, 1)):
        with pytest.raises(
            ValueError, match=r"task must broadcast to the observation's \[5\], got"
        ):
            model.encode(torch.rand(5, 3), wrong.long())
    with pytest.raises(ValueError, match=r"observation's \[1\], got \[5\]"):
        model.encode(torch.rand(1, 3), torch.zeros(5).long())
    assert model.encode(torch.rand(4, 5, 3), torch.zeros(5).long()).shape == (4, 5, 8)
