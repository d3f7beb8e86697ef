"""The methods of the single-task comparison: a registry, and the entry of each built-in one."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from recipe import PRESETS, Preset, plan_of

from pwm_sdk import (
    PPO,
    PWM,
    SAC,
    Critic,
    DreamerV3,
    DreamerV3Config,
    FirstOrderActor,
    GrowingBatch,
    LatentBehaviour,
    Learner,
    PPOConfig,
    RandomBehaviour,
    RecurrentBehaviour,
    ReplayBuffer,
    ReturnScale,
    RunningMeanStd,
    SACConfig,
    WorldModel,
    init_fan_in,
    make_episode,
    run_episodes,
)

if TYPE_CHECKING:
    from jobs import Job

Method = Callable[["Job"], None]
METHODS: dict[str, Method] = {}
STARTS = 32  # imagined starts per update of PWM
TRAIN_RATIO = 64  # replayed steps per environment step of DreamerV3


def method(name: str) -> Callable[[Method], Method]:
    """Enter a function under `name`; it trains until its `Job` no longer `goes_on`.

    A method of your own, in a file handed to `--plugin`:

        @method("mine")
        def mine(job):
            MyAgent(job.task.observation_dim, job.task.action_dim).fit(job)
    """

    def enter(function: Method) -> Method:
        METHODS[name] = function
        return function

    return enter


def find_method(name: str) -> Method:
    """Return the method of a name.

    Raises:
        ValueError: for an unknown one; the message has the nearest.
    """
    if name not in METHODS:
        nearest = difflib.get_close_matches(name, METHODS, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(nearest)}; " if nearest else ""
        raise ValueError(f"method must be known, got {name!r}; {hint}known: {', '.join(METHODS)}")
    return METHODS[name]


def load_plugins(files: Iterable[Path]) -> None:
    """Run the user's files, which enter methods (`@method`) and tasks (`register_task`).

    Raises:
        ValueError: if there is no such file.
    """
    for file in files:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        if not file.is_file() or spec is None or spec.loader is None:
            raise ValueError(f"plugin must be a python file, got {file}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)


@method("pwm")
def pwm(job: Job) -> None:
    """PWM online: a growing batch with one task."""
    loop, seed_episodes = growing_batch(job)
    behaviour = LatentBehaviour(loop.model, [loop.learners[0].pwm.average], loop.tasks)
    loop.collect_seed([seed_episodes])
    while job.goes_on(behaviour):
        loop.run_round(job.progress)


@method("sac")
def sac(job: Job) -> None:
    """SAC with the settings of its paper, but fewer random steps: budgets may be small."""
    tiny = SACConfig(hidden=(16,), batch_size=16, random_steps=50, updates_per_step=0.1)
    agent = SAC(*_sizes(job), tiny if job.tiny else SACConfig(random_steps=1_000))
    agent.loss.to(job.device)
    agent.fit(job.stream(agent))


@method("ppo")
def ppo(job: Job) -> None:
    """PPO with the settings of its paper: 2048 steps a batch, here of eight environments."""
    config = PPOConfig(hidden=(16,), epochs=2) if job.tiny else PPOConfig()
    size, _ = _sizes(job)
    moments = {"observations": RunningMeanStd((size,)), "returns": RunningMeanStd((1,))}
    agent = PPO(*_sizes(job), config, **moments)
    for part in (agent.loss, *moments.values()):
        part.to(job.device)
    envs, steps = (2, 32) if job.tiny else (8, 256)
    for batch in job.stream(agent, envs, steps):
        agent.set_learning_rates(1.0 - job.progress)
        agent.update(batch.to(job.device))


@method("dreamerv3")
def dreamerv3(job: Job) -> None:
    """DreamerV3 with small networks, an episode and its updates in turn."""
    tiny = DreamerV3Config(hidden=16, layers=1, belief=16, blocks=2, categoricals=2, classes=4)
    agent = DreamerV3(*_sizes(job), tiny if job.tiny else None)
    agent.loss.to(job.device)
    replay = ReplayBuffer(1_000_000, 17, 16, seed=job.seed, device=job.device)
    pool, policy = job.make_pool(), RecurrentBehaviour(agent.act, device=job.device)
    collector: Any = RandomBehaviour(1, job.task.action_dim, job.seed)
    while job.goes_on(policy):
        for e in run_episodes(pool, collector, [1])[0]:
            replay.add(make_episode(e.observation, e.action, e.reward, 0, e.terminated))
            updates = len(e.reward) * TRAIN_RATIO // (16 * 16)
            agent.fit(replay, 1 if job.tiny else max(1, updates))
        collector = RecurrentBehaviour(partial(agent.act, explore=True), device=job.device)


@method("random")
def random(job: Job) -> None:
    """Uniform actions: what every method must beat."""
    job.goes_on(RandomBehaviour(1, job.task.action_dim, job.seed))


def _sizes(job: Job) -> tuple[int, int]:
    return job.task.observation_dim, job.task.action_dim


def growing_batch(job: Job) -> tuple[GrowingBatch, int]:
    """Assemble PWM for the one task of a job; also return how many seed episodes it wants."""
    preset = PRESETS["smoke" if job.tiny else "quick"]
    plan = plan_of(job.task, preset)
    model, optimizer = _world_model(job, preset)
    agent = _agent(job, preset, model, plan.gamma)
    replay = ReplayBuffer(
        1_000_000,
        preset.model_horizon + 1,
        plan.rows,
        recent=preset.recent,
        seed=job.seed,
        device=job.device,
    )
    loop = GrowingBatch(
        job.make_pool(),
        model,
        optimizer,
        [Learner(agent, [0], starts=STARTS)],
        replay,
        preset.rounds_config,
        reward_scale=[job.task.reward_scale or 1.0],
        lengths=[plan.length],
        episodes=[plan.episodes],
        seed=job.seed,
    )
    return loop, plan.seed_episodes


def _world_model(job: Job, preset: Preset) -> tuple[WorldModel, torch.optim.Optimizer]:
    model = WorldModel(
        *_sizes(job),
        num_tasks=1,
        task_dim=preset.task_dim,
        latent_dim=preset.latent_dim,
        hidden=(preset.hidden, preset.hidden),
        encoder_hidden=(preset.hidden,),
        num_bins=0,
        activation="silu",
        standardize=True,
    )
    init_fan_in(model).to(job.device)
    encoder = list(model.encoder.parameters())
    known = {id(p) for p in encoder}
    rest = [p for p in model.parameters() if id(p) not in known]
    rates = {"lr": preset.model_lr, "fused": True}
    optimizer = torch.optim.Adam(
        [{"params": encoder, "lr": preset.encoder_lr}, {"params": rest}], **rates
    )
    return model, optimizer


def _agent(job: Job, preset: Preset, model: WorldModel, gamma: float) -> PWM:
    hidden = (preset.policy_hidden, preset.policy_hidden)
    style: dict[str, Any] = {"activation": "silu", "norm": "before"}
    actor = FirstOrderActor(
        preset.latent_dim,
        job.task.action_dim,
        hidden,
        population=1,
        std=preset.rounds_config.std[0],
        learn_std=False,
        noise="after",
        output_gain=0.1,
        **style,
    )
    critic = Critic(
        preset.latent_dim,
        hidden,
        preset.ensemble,
        population=1,
        reduce="mean",
        scale=[0.1 / (1.0 - gamma)],
        output_gain=0.01,
        **style,
    )
    return PWM(
        model,
        actor.to(job.device),
        critic.to(job.device),
        replace(preset.pwm, gamma=gamma),
        return_scale=ReturnScale(1).to(job.device),
    )
