"""Methods of the comparison that learn through a model, against random actions on a point mass."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from pwm_sdk import SimulatorEnv, Task, register_task
from single import find_method, sizes
from single.jobs import Job, Settings


class Point:
    """v' = 0.9 v + 0.3 a, p' = p + 0.3 v', reward exp(-p'^2); starts at rest, 1 to 2 from 0."""

    latent_dim = observation_dim = 2
    action_dim = 1
    episode_length = 50

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def features(self, latent: Tensor) -> Tensor:
        return latent

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        place = 1.0 + torch.rand(count, generator=generator)
        side = torch.randint(2, (count,), generator=generator) * 2 - 1
        return torch.stack((place * side, torch.zeros(count)), -1)

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        place, speed = latent.unbind(-1)
        speed = 0.9 * speed + 0.3 * action[..., 0].clamp(-1.0, 1.0)
        place = place + 0.3 * speed
        return torch.stack((place, speed), -1), (-place.square()).exp().unsqueeze(-1)


TASK = Task("point", -1, "mine", 2, 1, 50, 1, reward_scale=1.0, score_scale=50.0)


def score(name: str, steps: int, folder: Path) -> float:
    """Return of a method after so many steps."""
    task = register_task(TASK, lambda: SimulatorEnv(Point()))
    settings = Settings(steps=steps, readings=1, reading_episodes=1, final_episodes=10)
    job = Job(name, task, 0, settings, folder)
    find_method(name)(job)
    return job.finish()["return"]


SMALL = {"hidden": 32, "layers": 1, "belief": 32, "blocks": 4, "categoricals": 4, "classes": 4}
SHORT = {"bins": 41, "horizon": 8, "gamma": 0.95, "lr": 2e-3}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps"), [("shac", 20_000), ("tdmpc2", 500), ("dreamerv3", 2200)]
)
def test_methods_beat_random_actions(
    name: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner, dreamer = sizes.TDMPC2["small"], sizes.DREAMER["small"]
    monkeypatch.setitem(sizes.TDMPC2, "small", replace(planner, seed_steps=250))
    # A step of a window costs the same for many windows as for few: fewer and larger updates.
    quick = {"rows": 48, "window": 8, "every": 6, "seed_steps": 250}
    monkeypatch.setitem(sizes.DREAMER, "small", replace(dreamer, config=SMALL | SHORT, **quick))
    learned = score(name, steps, tmp_path)
    assert learned > 30.0
    assert learned > 2.0 * score("random", 1, tmp_path)
