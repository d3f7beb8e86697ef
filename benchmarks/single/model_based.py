"""The methods of the single-task comparison that learn a world model of the task."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pwm_sdk import (
    MPPI,
    PWM,
    TDMPC2,
    Critic,
    DreamerV3,
    DreamerV3Config,
    FirstOrderActor,
    GrowingBatch,
    LatentBehaviour,
    Learner,
    PlannerBehaviour,
    PolicyPrior,
    PolicyValue,
    QEnsemble,
    RandomBehaviour,
    RecurrentBehaviour,
    ReplayBuffer,
    ReturnScale,
    TDMPC2Config,
    WorldModel,
    init_fan_in,
)
from quick.recipe import PRESETS, WALKER, Preset, plan_of
from single.registry import method

if TYPE_CHECKING:
    from single.jobs import Job

STARTS = 32  # imagined starts per update of PWM
SEED_STEPS = 1_000  # random steps before TD-MPC2 and DreamerV3 learn
EVERY = 4  # steps per update of DreamerV3: each step is replayed 16 * 16 / 4 = 64 times
DREAMER: dict[str, Any] = {"belief": 128, "categoricals": 8, "classes": 8}  # half of the defaults
# TD-MPC2 for two cores and minutes, its model as large as PWM's. The published program: latents and
# widths of 512, mish, five Q functions, batches of 256; 512 samples, 64 elites, 24 of the prior, 6
# iterations, 2 more from 20 actions on.
TDMPC2_SIZES: dict[str, Any] = {
    "latent_dim": 128,
    "hidden": (256, 256),
    "encoder_hidden": (256,),
    "activation": "silu",
}
TDMPC2_HEADS, TDMPC2_ROWS = 2, 64
TDMPC2_PLAN: dict[str, Any] = {"samples": 64, "elites": 8, "policy_samples": 8, "iterations": 3}


@method("pwm")
def pwm(job: Job) -> None:
    """PWM online: a growing batch with one task."""
    loop, seed_episodes = growing_batch(job)
    behaviour = LatentBehaviour(loop.model, [loop.learners[0].pwm.average], loop.tasks)
    loop.collect_seed([seed_episodes])
    while job.goes_on(behaviour):
        loop.run_round(job.progress)


@method("tdmpc2")
def tdmpc2(job: Job) -> None:
    """TD-MPC2 online: random steps, as many updates at once, then an update per planned step."""
    agent, replay = _tdmpc2(job)
    seed_steps, every = (50, 10) if job.tiny else (SEED_STEPS, 1)
    plan = {"samples": 8, "elites": 4, "policy_samples": 2, "iterations": 1}
    planner = partial(
        MPPI,
        agent.model,
        agent.prior,
        PolicyValue(agent.q, agent.prior),
        gamma=job.task.discount,
        **(plan if job.tiny else TDMPC2_PLAN),
    )
    policy = PlannerBehaviour(planner(), [0])
    acting = Warmup(job, seed_steps, PlannerBehaviour(planner(), [0], choice="explore"))
    owed = 0  # steps without their update
    for step in job.play(acting, policy, replay, 50 if job.tiny else None):
        owed += 1
        while owed >= every and step >= seed_steps and len(replay) and job.goes_on(policy):
            agent.update(replay.sample())
            owed -= every


@method("dreamerv3")
def dreamerv3(job: Job) -> None:
    """DreamerV3 with small networks; an update every few steps."""
    tiny = DreamerV3Config(hidden=16, layers=1, belief=16, blocks=2, categoricals=2, classes=4)
    agent = DreamerV3(*_sizes(job), tiny if job.tiny else DreamerV3Config(**DREAMER))
    agent.loss.to(job.device)
    replay = ReplayBuffer(1_000_000, 17, 16, seed=job.seed, device=job.device)
    policy = RecurrentBehaviour(agent.act, device=job.device)
    explore = RecurrentBehaviour(partial(agent.act, explore=True), device=job.device)
    acting = Warmup(job, 50 if job.tiny else SEED_STEPS, explore)
    for step in job.play(acting, policy, replay, 50 if job.tiny else None):
        if step % (50 if job.tiny else EVERY) == 0 and len(replay):
            agent.update(replay.sample())


class Warmup:
    """Random actions for a job's first steps, then those of a behaviour.

    Args:
        job: counts the steps.
        steps: number of random ones.
        behaviour: acts afterwards, in one environment.
    """

    def __init__(self, job: Job, steps: int, behaviour: Any) -> None:
        self.job, self.steps, self.behaviour = job, steps, behaviour
        self.random = RandomBehaviour(1, job.task.action_dim, job.seed)

    def start(self, index: int) -> None:
        """Note that an episode begins."""
        self.random.start(index)
        self.behaviour.start(index)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[1, A]`."""
        acting = self.random if self.job.steps < self.steps else self.behaviour
        return acting(observation)


def _tdmpc2(job: Job) -> tuple[TDMPC2, ReplayBuffer]:
    sizes = {"latent_dim": 16, "hidden": (16, 16), "encoder_hidden": (16,)}
    model = WorldModel(
        *_sizes(job), **(sizes if job.tiny else TDMPC2_SIZES), episodic=job.task.terminates
    )
    q = QEnsemble.for_model(model, ensemble=TDMPC2_HEADS)
    prior = PolicyPrior.for_model(model)
    for part in (model, q, prior):
        part.to(job.device)
    agent = TDMPC2(model, q, prior, TDMPC2Config(gamma=job.task.discount))
    rows = 8 if job.tiny else TDMPC2_ROWS
    return agent, ReplayBuffer(1_000_000, 4, rows, seed=job.seed, device=job.device)


def _sizes(job: Job) -> tuple[int, int]:
    return job.task.observation_dim, job.task.action_dim


def growing_batch(job: Job) -> tuple[GrowingBatch, int]:
    """Assemble PWM for the one task of a job; also return how many seed episodes it wants."""
    preset = PRESETS["smoke" if job.tiny else "quick"]
    plan = plan_of(job.task, preset)
    if job.task.terminates and not job.tiny:  # episodes of bodies that fall are short: more of them
        plan = replace(WALKER, length=job.task.episode_length)
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
        episodic=job.task.terminates,
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
