"""The methods of the single-task comparison that learn a world model of the task."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pwm_sdk import (
    MPPI,
    TDMPC2,
    DreamerV3,
    DreamerV3Config,
    ObservationPolicy,
    PolicyPrior,
    PolicyValue,
    QEnsemble,
    RandomBehaviour,
    ReplayBuffer,
    TDMPC2Config,
    WorldModel,
    online_pwm,
    seed_for,
)
from single import sizes
from single.registry import method

if TYPE_CHECKING:
    from single.jobs import Job


@method("pwm")
def pwm(job: Job) -> None:
    """PWM online: a growing batch with one task."""
    pool = job.make_pool()
    loop = online_pwm(job.task, sizes.PWM[job.scale], seed=job.seed, device=job.device, pool=pool)
    behaviour = loop.policy().behaviour(loop.tasks)
    loop.begin()
    while job.goes_on(behaviour):
        loop.run_round(job.progress)
    job.left_out = loop.left_out


@method("tdmpc2")
def tdmpc2(job: Job) -> None:
    """TD-MPC2 online: random steps, as many updates at once, then an update per planned step."""
    size = sizes.TDMPC2[job.scale]
    agent, replay = _tdmpc2(job, size)
    random_steps = seed_steps(size, job.task.episode_length)
    planner = partial(
        MPPI,
        agent.model,
        agent.prior,
        PolicyValue(agent.q, agent.prior),
        gamma=job.task.discount,
        **plan_of_size(size, job.task.action_dim),
    )
    policy = ObservationPolicy(planner()).behaviour([0])
    explore = ObservationPolicy(planner(), choice="explore").behaviour([0])
    acting = Warmup(job, random_steps, explore)
    owed = 0  # steps without their update
    for step in job.play(acting, policy, replay, 50 if job.tiny else None):
        owed += 1
        while owed >= size.every and step >= random_steps and len(replay) and job.goes_on(policy):
            agent.update(replay.sample())
            owed -= size.every


def seed_steps(size: sizes.TDMPC2Size, episode_length: int) -> int:
    """Count TD-MPC2's random steps: as published five episodes and at least 1000."""
    return size.seed_steps or max(1_000, 5 * episode_length)


def plan_of_size(size: sizes.TDMPC2Size, actions: int) -> dict[str, Any]:
    """Return the planner's arguments; as published, many actions take two more iterations."""
    return size.plan or ({"iterations": 8} if actions >= 20 else {})


@method("dreamerv3")
def dreamerv3(job: Job) -> None:
    """DreamerV3; an update every few steps."""
    size = sizes.DREAMER[job.scale]
    agent = DreamerV3(*_sizes(job), DreamerV3Config(**size.config), device=job.device)
    replay = _replay(job, size.window + 1, size.rows)
    policy = agent.policy().behaviour([None])
    acting = Warmup(job, size.seed_steps, agent.explorer().behaviour([None]))
    for step in job.play(acting, policy, replay, 50 if job.tiny else None):
        if step % size.every == 0 and len(replay):
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


def _tdmpc2(job: Job, size: sizes.TDMPC2Size) -> tuple[TDMPC2, ReplayBuffer]:
    model = WorldModel.published(*_sizes(job), **size.model, episodic=job.task.terminates)
    q = QEnsemble.for_model(model, ensemble=size.heads)
    prior = PolicyPrior.for_model(model)
    for part in (model, q, prior):
        part.to(job.device)
    agent = TDMPC2(model, q, prior, TDMPC2Config(gamma=job.task.discount))
    return agent, _replay(job, 4, size.rows)


def _replay(job: Job, slice_len: int, rows: int) -> ReplayBuffer:
    seed = seed_for("replay", job.seed)
    return ReplayBuffer(1_000_000, slice_len, rows, seed=seed, device=job.device)


def _sizes(job: Job) -> tuple[int, int]:
    return job.task.observation_dim, job.task.action_dim
