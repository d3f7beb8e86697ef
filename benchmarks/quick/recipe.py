"""Presets of the MT80 benchmark as data, and the components that a preset describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from pwm_sdk import (
    MT80,
    PWM,
    Critic,
    Disagreement,
    EnvPool,
    FirstOrderActor,
    GrowingBatch,
    Learner,
    PWMConfig,
    ReplayBuffer,
    RoundConfig,
    Task,
    WorldModel,
    make_gym,
    model_optimizer,
)
from quick.seeds import seed_for

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
class TaskPlan:
    """How one task is trained: its discount, its share of the batches, its episodes."""

    gamma: float
    rows: int
    length: int
    episodes: int
    seed_episodes: int


METAWORLD = TaskPlan(gamma=0.95, rows=32, length=100, episodes=2, seed_episodes=15)
DMCONTROL = TaskPlan(gamma=0.99, rows=48, length=250, episodes=2, seed_episodes=10)
# Where falling is absorbing, short episodes keep the data near the start; a long discount would
# inflate the value.
WALKER = TaskPlan(gamma=0.97, rows=72, length=50, episodes=10, seed_episodes=50)
CHEETAH = TaskPlan(gamma=0.97, rows=48, length=250, episodes=2, seed_episodes=10)


# Eight tasks learn at a slower rate than one raw state does (docs/experiments.md).
QUICK_PWM = PWMConfig(actor_lr=5e-4, critic_lr=1e-3)


@dataclass(frozen=True)
class Preset:
    """Everything that a run's outcome depends on, apart from its seed."""

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
    cloning_steps: int = 400
    model_horizon: int = 4
    latent_dim: int = 128
    hidden: int = 256
    policy_hidden: int = 128
    ensemble: int = 2
    model_lr: float = 1e-3
    encoder_lr: float = 3e-4
    recent: float = 0.25
    # By suite, Meta-World and dm_control; a model that both share is made as dm_control's.
    horizon: tuple[int, int] = (12, 8)  # of the policies, in place of that in `pwm`
    starts: tuple[int, int] = (16, 24)
    every: tuple[int, int] = (1, 1)
    update_share: tuple[float, float] = (0.6, 1.0)  # of a round's updates (docs/experiments.md)
    simnorm: tuple[int, int] = (0, 8)
    short: bool = False
    whole_episodes: bool = False
    batch: float = 1.0  # times the plans' rows
    world_model: dict[str, Any] = field(default_factory=dict)  # arguments in place of these here
    pwm: PWMConfig = QUICK_PWM
    rounds_config: RoundConfig = field(default_factory=RoundConfig)


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
        cloning_steps=20,
        latent_dim=32,
        hidden=64,
        policy_hidden=32,
        starts=(4, 4),
        short=True,
        rounds_config=RoundConfig(updates=10, first_updates=20, decay_share=0.25, decay_floor=0.1),
    ),
}


def plan_of(task: Task, preset: Preset) -> TaskPlan:
    """Return how `task` is trained under `preset`."""
    plan = METAWORLD if task.suite == "metaworld" else DMCONTROL
    if task.name.startswith("walker"):
        plan = WALKER
    if task.name.startswith("cheetah"):
        plan = CHEETAH
    if preset.short:
        plan = TaskPlan(plan.gamma, 8, 50, 1, 2)
    if preset.whole_episodes:  # as many steps of data, in fewer and longer episodes
        times = task.episode_length // plan.length
        counts = (max(1, n // times) for n in (plan.episodes, plan.seed_episodes))
        plan = TaskPlan(plan.gamma, plan.rows, task.episode_length, *counts)
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
    torch.manual_seed(seed)
    shares = split_tasks(preset, cores)
    tasks = shares[part]
    rows = [sum(plan_of(task, preset).rows for task in share) for share in shares]
    plans = [plan_of(task, preset) for task in tasks]
    suite = int(preset.models == "shared" or tasks[-1].suite != "metaworld")
    model, optimizer = make_model(preset, suite, device)
    updates = round(preset.update_share[suite] * preset.rounds_config.updates)
    # A shared model starts equal everywhere; from here on every process draws its own numbers.
    stream = 1000 * seed + part
    torch.manual_seed(stream)
    learners = []
    for k, name in enumerate(("metaworld", "dmcontrol")):
        mine = [(task, plan) for task, plan in zip(tasks, plans, strict=True) if task.suite == name]
        if mine:
            own = replace(preset, pwm=replace(preset.pwm, horizon=preset.horizon[k]))
            starts, every = preset.starts[k], preset.every[k]
            learners.append(make_learner(own, model, mine, starts, every, device))
    replay = ReplayBuffer(
        400_000,
        preset.model_horizon + 1,
        sum(plan.rows for plan in plans),
        task_weights={task.index: plan.rows for task, plan in zip(tasks, plans, strict=True)},
        recent=preset.recent,
        seed=seed_for("replay", stream),
        device=device,
    )
    return GrowingBatch(
        make_pool(tasks, 1000 * seed + 100 * part + 1),
        model,
        optimizer,
        learners,
        replay,
        replace(preset.rounds_config, updates=updates),
        reward_scale=[task.reward_scale for task in tasks],
        lengths=[plan.length for plan in plans],
        episodes=[plan.episodes for plan in plans],
        seed=stream,
        weight=len(shares) * rows[part] / sum(rows) if preset.models == "shared" else 1.0,
    )


def make_model(
    preset: Preset, suite: int = 1, device: str = "cpu"
) -> tuple[WorldModel, torch.optim.Optimizer]:
    """Return a world model for suite 0, Meta-World, or 1, dm_control or both; and its optimizer."""
    sizes = [task.action_dim for task in MT80]
    width = (preset.hidden, preset.hidden)
    options: dict[str, Any] = {"simnorm_size": preset.simnorm[suite]}
    model = WorldModel(
        MT80.observation_dim,
        MT80.action_dim,
        num_tasks=len(MT80),
        latent_dim=preset.latent_dim,
        hidden=width,
        encoder_hidden=(preset.hidden,),
        action_dims=sizes,
        **(options | preset.world_model),
    ).to(device)
    return model, model_optimizer(model, preset.model_lr, preset.encoder_lr)


def make_actor(preset: Preset, tasks: Sequence[Task]) -> FirstOrderActor:
    """Return a population of actors, one per task."""
    return FirstOrderActor(
        preset.latent_dim,
        MT80.action_dim,
        (preset.policy_hidden, preset.policy_hidden),
        population=len(tasks),
        action_dims=[task.action_dim for task in tasks],
    )


def make_learner(
    preset: Preset,
    model: WorldModel | Disagreement,
    mine: Sequence[tuple[Task, TaskPlan]],
    starts: int,
    every: int,
    device: str,
) -> Learner:
    tasks = [task for task, _ in mine]
    gammas = [plan.gamma for _, plan in mine]
    actor = make_actor(preset, tasks).to(device)
    critic = Critic(
        preset.latent_dim,
        (preset.policy_hidden, preset.policy_hidden),
        preset.ensemble,
        population=len(mine),
        scale=[0.1 / (1.0 - gamma) for gamma in gammas],
    ).to(device)
    pwm = PWM(model, actor, critic, replace(preset.pwm, gamma=tuple(gammas)))
    return Learner(pwm, [task.index for task in tasks], starts, every)
