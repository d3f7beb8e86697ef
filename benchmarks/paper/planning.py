"""TD-MPC2 as a baseline: plans of the world model's own Q functions and policy prior, per task."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from files import find_result, keep_result
from paper.extraction import TASK_SETS, OfflinePreset, Place, load_model
from pwm_sdk import (
    MPPI,
    EnvPool,
    ObservationPolicy,
    PolicyPrior,
    PolicyValue,
    QEnsemble,
    TaskSet,
    WorldModel,
    make_gym,
    run_episodes,
    summarize,
)

Q_FILE, PRIOR_FILE = "q_ensemble.safetensors", "policy_prior.safetensors"
TIMED_CALLS = 5
SIDE_BY_SIDE = 32  # tasks that a GPU plans for at once


@dataclass(frozen=True)
class Plans:
    """How much is planned.

    Attributes:
        episodes: of each task; 0: none.
        samples: candidates of a plan; an eighth of them are elites.
    """

    episodes: int = 3
    samples: int = 512


class Parts(NamedTuple):
    """What TD-MPC2 learns with its world model and plans with."""

    q: QEnsemble
    prior: PolicyPrior


def open_parts(checkpoint: Path, model: WorldModel) -> Parts | None:
    """Open the Q functions and the policy prior that belong to a world model.

    TD-MPC2's files hold them; those of our own lie beside the model, as `pretrain` leaves them.

    Args:
        checkpoint: file of the world model.
        model: the world model.

    Returns:
        Both, or None where there are none, as with PWM's files.

    Raises:
        ValueError: for files that are damaged or do not fit the model.
    """
    if checkpoint.suffix == ".safetensors":
        files = [checkpoint.with_name(name) for name in (Q_FILE, PRIOR_FILE)]
        if not all(file.exists() for file in files):
            return None
        q = QEnsemble.from_checkpoint(files[0])
    else:
        files = [checkpoint, checkpoint]
        try:
            q = QEnsemble.from_checkpoint(checkpoint)
        except ValueError as error:  # it opened for the world model: what lacks is Q functions
            print(f"no Q functions were read: {error}", file=sys.stderr)
            return None
    prior = PolicyPrior.from_checkpoint(files[1])
    expected = PolicyPrior.for_model(model).settings
    for file, part in zip(files, (q, prior), strict=True):
        for name in ("latent_dim", "action_dim", "task_dim"):
            if part.settings[name] != expected[name]:
                raise ValueError(
                    f"{file} must have {name} {expected[name]}, as the model, "
                    f"got {part.settings[name]}"
                )
    return Parts(q.eval().requires_grad_(False), prior.eval().requires_grad_(False))


def make_planner(model: WorldModel, parts: Parts, tasks: TaskSet, samples: int) -> MPPI:
    """Return TD-MPC2's planner of many tasks with its published settings, seeded."""
    device = next(model.parameters()).device
    return MPPI(
        model,
        parts.prior,
        PolicyValue(parts.q, parts.prior),
        samples=samples,
        elites=samples // 8,
        policy_samples=3 * samples // 64,
        gamma=[task.discount for task in tasks],
        generator=torch.Generator(device).manual_seed(0),
    )


def pending(preset: OfflinePreset, place: Place, plans: Plans) -> list[list[str]]:
    """Group the tasks whose plans are not evaluated yet; a group is of equally long episodes.

    A GPU plans for many environments in little more time than for one, a CPU does not.
    """
    tasks = TASK_SETS[preset.suite]
    todo = [name for name in preset.tasks if _load(place, name, plans) is None]
    size = 1 if torch.device(place.device).type == "cpu" else SIDE_BY_SIDE
    lengths = dict.fromkeys(tasks[name].episode_length for name in todo)
    alike = [[name for name in todo if tasks[name].episode_length == n] for n in lengths]
    return [same[low : low + size] for same in alike for low in range(0, len(same), size)]


def plan(names: Sequence[str], preset: OfflinePreset, place: Place, plans: Plans, news: Any) -> int:
    """Plan episodes of some tasks side by side and keep the row of each; how many there are."""
    if place.threads is not None:
        torch.set_num_threads(place.threads)
    tasks = TASK_SETS[preset.suite]
    mine = [tasks[name] for name in names]
    model = load_model(place.checkpoint, tasks).requires_grad_(False)
    parts = open_parts(place.checkpoint, model)
    if parts is None:
        raise ValueError(f"checkpoint must come with Q functions and prior, got {place.checkpoint}")
    parts = Parts(parts.q.to(place.device), parts.prior.to(place.device))
    planner = make_planner(model.to(place.device), parts, tasks, plans.samples)
    pool = EnvPool([partial(make_gym, t, seed=42, padded=True, tasks=tasks) for t in mine])
    try:
        behaviour = ObservationPolicy(planner, choice="elite").behaviour(pool.tasks)
        quota = [plans.episodes] * len(mine)
        found = run_episodes(pool, behaviour, quota, on_step=lambda: news.put(len(mine)))
        milliseconds = _latency(planner, pool, place.device)
    finally:
        pool.close()
    for task, episodes in zip(mine, found, strict=True):
        summary = summarize(episodes)
        row = {"seed": 0, "task": task.name, "method": "tdmpc2", **summary}
        row |= {
            "score": task.score(summary["return"], summary["success_last"]),
            "ms_per_action": milliseconds,
        }
        row |= {"samples": plans.samples}
        keep_result(_file(place.folder, task.name), row, place.run(task.name, 0))
    return len(mine)


def rows_of(preset: OfflinePreset, place: Place, plans: Plans) -> list[dict[str, Any]]:
    """Return the rows of the tasks whose plans are evaluated."""
    found = [_load(place, name, plans) for name in preset.tasks]
    return [row for row in found if row is not None]


def _file(folder: Path, task: str) -> Path:
    return folder / "tdmpc2" / f"{task}.json"


def _load(place: Place, task: str, plans: Plans) -> dict[str, Any] | None:
    """Read the row of a task; None where it is missing or of other settings."""
    row = find_result(_file(place.folder, task), place.run(task, 0)) or {}
    same = (row.get("episodes"), row.get("samples")) == (plans.episodes, plans.samples)
    return row if same else None


def _latency(planner: MPPI, pool: EnvPool, device: str) -> float:
    """Median milliseconds of a plan for one observation."""
    seen = torch.as_tensor(pool.reset(0), device=device)
    times = []
    planner.reset()
    for _ in range(TIMED_CALLS):
        begin = time.perf_counter()
        planner.plan(seen, pool.tasks[0]).cpu()
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))
