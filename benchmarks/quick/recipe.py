"""Presets of the MT80 benchmark: tasks, rounds and evaluations of what `online_pwm` builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pwm_sdk import (
    MT80,
    EnvPool,
    GrowingBatch,
    OnlineConfig,
    RoundConfig,
    Task,
    TaskPlan,
    make_gym,
    online_pwm,
    plan_for,
)

QUICK_TASKS = (
    "mw-reach",
    "mw-button-press",
    "mw-drawer-close",
    "mw-door-close",
    "mw-window-open",
    "cartpole-swingup",
    "walker-stand",
    "cheetah-run",
)


@dataclass(frozen=True)
class Preset(OnlineConfig):
    """Everything that a run's outcome depends on, apart from its seed; the sizes are "small"."""

    tasks: tuple[str, ...] = QUICK_TASKS
    models: Literal["suite", "shared"] = "suite"
    rounds: int = 80
    readings: int = 5
    save_every: int = 5
    reading_episodes: int = 3
    select_episodes: int = 5
    final_episodes: int = 10
    plan_episodes: int = 3
    plan_samples: int = 128
    plan_iterations: int = 3
    cloning_updates: int = 400
    whole_episodes: bool = False
    batch: float = 1.0  # times the plans' rows
    capacity: int = 400_000


PRESETS = {
    "quick": Preset(),
    "smoke": Preset(
        tasks=("mw-reach", "mw-drawer-close", "cartpole-swingup"),
        rounds=2,
        readings=1,
        reading_episodes=1,
        select_episodes=1,
        final_episodes=1,
        plan_episodes=1,
        plan_samples=32,
        plan_iterations=1,
        cloning_updates=20,
        latent_dim=32,
        hidden=64,
        actor=(32, 32),
        critic=(32, 32),
        short=True,
        rounds_config=RoundConfig(updates=10, first_updates=20, decay_share=0.25, decay_floor=0.1),
    ),
}


def plan_of(task: Task, preset: Preset) -> TaskPlan:
    """Return how `task` is trained under `preset`."""
    plan = plan_for(task, preset, alone=False)
    if preset.whole_episodes:  # as many steps of data, in fewer and longer episodes
        times = task.episode_length // plan.length
        plan = replace(
            plan,
            length=task.episode_length,
            episodes=max(1, plan.episodes // times),
            seed_episodes=max(1, plan.seed_episodes // times),
        )
    return replace(plan, rows=round(plan.rows * preset.batch))


def chosen_tasks(preset: Preset) -> list[Task]:
    """Return the preset's tasks, Meta-World first: each suite is one population of policies."""
    tasks = [MT80[name] for name in preset.tasks]
    return sorted(tasks, key=lambda task: task.suite != "metaworld")


def make_pool(tasks: Sequence[Task], seed: int) -> EnvPool:
    """Return one padded environment per task; seeds differ between tasks and between pools."""
    return EnvPool([make_gym(task, seed=seed + i, padded=True) for i, task in enumerate(tasks)])


def split_tasks(preset: Preset, cores: int) -> list[list[Task]]:
    """Share the tasks out over processes: one suite each.

    A model that all suites share takes a single process where there are fewer cores than suites.
    """
    tasks = chosen_tasks(preset)
    suites = list(dict.fromkeys(task.suite for task in tasks))
    if preset.models == "shared" and cores < len(suites):
        return [tasks]
    return [[task for task in tasks if task.suite == suite] for suite in suites]


def build(
    preset: Preset, seed: int, cores: int = 1, part: int = 0, device: str = "cpu"
) -> GrowingBatch:
    """Assemble model, policies, replay and environments of one process's share of a seed."""
    shares = split_tasks(preset, cores)
    tasks, config = shares[part], preset
    if preset.models == "shared":  # made as dm_control's
        config = replace(preset, simnorm_size=8, update_share=1.0)
    loop = online_pwm(
        tasks,
        config,
        seed=seed,
        device=device,
        plans=[plan_of(task, preset) for task in tasks],
        pool=make_pool(tasks, 1000 * seed + 100 * part + 1),
        part=part,
    )
    if preset.models == "shared":
        rows = [sum(plan_of(task, preset).rows for task in share) for share in shares]
        loop.weight = len(shares) * rows[part] / sum(rows)
    return loop
