"""The measured recipe: tasks in, a loop that learns them from nothing out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.calls import checked, least
from pwm_sdk.checks import at_least, in_unit, positive, single, whole
from pwm_sdk.contract.pools import Pool
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.layers import init_fan_in
from pwm_sdk.models.normalizers import ReturnScale
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.runs.script import Script
from pwm_sdk.tasks import BUILT_IN, MT80, Task, TaskSet
from pwm_sdk.training.online import GrowingBatch
from pwm_sdk.training.settings import Learner, RoundConfig

__all__ = ["OnlineConfig", "TaskPlan", "online_pwm", "plan_for", "seed_for"]

USES = ("replay", "starts", "noise", "planner")
SUITES = ("dmcontrol", "metaworld", "simulator")  # whose rewards and ends are known
TESTS = 1_000_000  # seeds of environments of evaluations, counted from here


@checked()
@dataclass(frozen=True)
class TaskPlan:
    """How one task is trained: its discount, its share of the batches, its episodes.

    Attributes:
        gamma: discount per step, in [0, 1).
        rows: windows of the task in each batch of the world model.
        length: training episodes are cut after so many steps.
        episodes: training episodes of a round.
        seed_episodes: episodes of random actions at the start.
        horizon: imagined steps; None: those of the configuration.
        starts: imagined starts of an update; None: those of the configuration.

    Raises:
        ValueError: for settings out of range.
    """

    gamma: float
    rows: int
    length: int
    episodes: int
    seed_episodes: int
    horizon: int | None = None
    starts: int | None = None

    def __post_init__(self) -> None:
        single(gamma=self.gamma)
        if not 0.0 <= self.gamma < 1.0:
            raise ValueError(f"gamma must be in [0, 1), got {self.gamma}")
        whole(1, rows=self.rows, length=self.length, episodes=self.episodes)
        whole(1, seed_episodes=self.seed_episodes, horizon=self.horizon, starts=self.starts)


METAWORLD = TaskPlan(0.95, rows=32, length=100, episodes=2, seed_episodes=15, horizon=12, starts=16)
DMCONTROL = TaskPlan(0.99, rows=48, length=250, episodes=2, seed_episodes=10, horizon=8, starts=24)
# Where falling is absorbing, short episodes keep the data near the start; a long discount would
# inflate the value.
WALKER = replace(DMCONTROL, gamma=0.97, rows=72, length=50, episodes=10, seed_episodes=50)
CHEETAH = replace(DMCONTROL, gamma=0.97)


@checked()
@dataclass(frozen=True)
class OnlineConfig:
    """What `online_pwm` builds, whatever the tasks: "small", for two cores and minutes.

    Attributes:
        latent_dim: D of the world model.
        hidden: width of its networks.
        task_dim: size of its task embedding.
        simnorm_size: of its latents; None: 0 where all tasks are Meta-World's, else 8.
        world_model: further arguments of it, in place of these.
        model_horizon: steps of the windows that train it.
        model_lr: its learning rate.
        encoder_lr: that of its encoder.
        actor: widths of each policy.
        critic: widths of each value function.
        ensemble: heads of it.
        activation: in both.
        norm: order of LayerNorm and activation in both.
        starts: imagined starts of an update, for a task alone.
        rows: windows of a task in each batch; None: those of its plan.
        capacity: rows of the replay.
        recent: share of the windows that are drawn from the newest data.
        update_share: updates of a round, as a share of those of `rounds_config`; None: 0.6 where
            all tasks are Meta-World's, else 1.
        short: cut all plans down to what runs in seconds, for tests.
        pwm: of the policies' updates; its horizon is for a task alone.
        rounds_config: of the rounds.

    Raises:
        ValueError: for settings out of range.
    """

    latent_dim: int = 128
    hidden: int = 256
    task_dim: int = 16
    simnorm_size: int | None = None
    world_model: dict[str, Any] = field(default_factory=dict)
    model_horizon: int = 4
    model_lr: float = 1e-3
    encoder_lr: float = 3e-4
    actor: tuple[int, ...] = (128, 128)
    critic: tuple[int, ...] = (128, 128)
    ensemble: int = 2
    activation: str = "silu"
    norm: str = "before"
    starts: int = 32
    rows: int | None = None
    capacity: int = 1_000_000
    recent: float = 0.25
    update_share: float | None = None
    short: bool = False
    # The mean of all lambda-returns, a penalty on saturation, a slower actor and a target critic
    # keep the policies of falling bodies from freezing early (docs/experiments.md).
    pwm: PWMConfig = PWMConfig(
        horizon=12,
        actor_lam=0.95,
        actor_lr=5e-4,
        critic_lr=1e-3,
        betas=(0.9, 0.999),
        actor_max_norm=10.0,
        critic_max_norm=10.0,
        critic_epochs=1,
        critic_splits=2,
        critic_limit=1,
        saturation=0.1,
        target_tau=0.01,
        average_tau=0.005,
    )
    rounds_config: RoundConfig = RoundConfig(decay_share=0.3, decay_floor=0.02)

    def __post_init__(self) -> None:
        whole(1, latent_dim=self.latent_dim, hidden=self.hidden, task_dim=self.task_dim)
        whole(1, model_horizon=self.model_horizon, ensemble=self.ensemble, starts=self.starts)
        whole(1, rows=self.rows, capacity=self.capacity, actor=self.actor, critic=self.critic)
        whole(0, simnorm_size=self.simnorm_size)
        at_least(0.0, model_lr=self.model_lr, encoder_lr=self.encoder_lr)
        in_unit(recent=self.recent)
        positive(update_share=self.update_share)

    @classmethod
    def tiny(cls, **changes: Any) -> OnlineConfig:
        """Return the smallest one that runs the same path, in seconds.

        Args:
            **changes: fields in place of these.
        """
        small = {"latent_dim": 32, "hidden": 64, "actor": (32, 32), "critic": (32, 32)}
        rounds = RoundConfig(updates=10, first_updates=20)
        return cls(**{**small, "starts": 4, "short": True, "rounds_config": rounds, **changes})

    @classmethod
    def published(cls, **changes: Any) -> OnlineConfig:
        """Return one of the published sizes for one task: a model of 5M with a scalar reward.

        Args:
            **changes: fields in place of these.
        """
        sizes: dict[str, Any] = {
            "latent_dim": 512,
            "hidden": 512,
            "world_model": {"encoder_hidden": (256,), "activation": "mish"},
            "model_horizon": 16,
            "actor": (400, 200, 100),
            "critic": (400, 200),
            "ensemble": 3,
            "activation": "mish",
            "norm": "after",
            "starts": 64,
            "rows": 256,
            "pwm": replace(cls().pwm, horizon=16),
        }
        return cls(**{**sizes, **changes})


SCALES = {
    "tiny": OnlineConfig.tiny,
    "small": OnlineConfig,
    "published": OnlineConfig.published,
}


@checked()
def plan_for(task: Task, config: OnlineConfig | None = None, *, alone: bool = True) -> TaskPlan:
    """Return how a task is trained, by its kind.

    Args:
        task: a built-in task, or one of your own: cut after 250 steps, with a discount of 0.99.
        config: of the recipe; None: "small".
        alone: whether the world model has no other task. It then takes the configuration's horizon
            and starts.
    """
    plan = METAWORLD if task.suite == "metaworld" else DMCONTROL
    if task.suite == "dmcontrol" and task.name.startswith("walker"):
        plan = WALKER
    if task.suite == "dmcontrol" and task.name.startswith("cheetah"):
        plan = CHEETAH
    if config is not None and config.short:
        plan = replace(plan, rows=8, length=50, episodes=1, seed_episodes=2, starts=4)
    elif task.terminates:  # episodes of bodies that fall are short: more of them
        plan = replace(WALKER, length=min(DMCONTROL.length, task.episode_length))
    return replace(plan, horizon=None, starts=None) if alone else plan


def seed_for(use: str, seed: int) -> int:
    """Return the seed of one use in a run, whose weights are drawn from `torch.manual_seed(seed)`.

    No two uses of a run, nor of runs of different seeds, start one and the same stream.

    Args:
        use: `"replay"`, `"starts"`, `"noise"` or `"planner"`.
        seed: of the run.
    """
    children = np.random.SeedSequence(seed).spawn(len(USES))
    return int(children[USES.index(use)].generate_state(1)[0])


class _Job(NamedTuple):
    """What the parts of a loop are made for: P tasks in the order of the policies."""

    tasks: list[Task]
    plans: list[TaskPlan]
    config: OnlineConfig
    family: TaskSet | None  # whose sizes and ids all share; None: a task alone
    device: str
    end: str = ""  # of the names of what is made for a part of the tasks

    @property
    def sizes(self) -> tuple[int, int]:
        """O and A of the model."""
        known = self.tasks[0] if self.family is None else self.family
        return known.observation_dim, known.action_dim

    @property
    def ids(self) -> list[int]:
        """What the model calls the tasks."""
        return [0] if self.family is None else [task.index for task in self.tasks]

    @property
    def metaworld(self) -> bool:
        """Whether all tasks are Meta-World's."""
        return all(task.suite == "metaworld" for task in self.tasks)

    def split(self) -> list[_Job]:
        """Return a job for each set of tasks that imagine alike."""
        sets: dict[Any, list[int]] = {}
        for i, plan in enumerate(self.plans):
            sets.setdefault((plan.horizon, plan.starts), []).append(i)
        jobs = []
        for number, mine in enumerate(sets.values()):
            tasks, plans = ([part[i] for i in mine] for part in (self.tasks, self.plans))
            end = "" if len(sets) == 1 else f"_{number}"
            jobs.append(self._replace(tasks=tasks, plans=plans, end=end))
        return jobs


@checked(seed=least(0))
def online_pwm(
    task: str | Task | Sequence[str | Task],
    scale: Literal["tiny", "small", "published"] | OnlineConfig = "small",
    *,
    seed: int = 0,
    device: str = "cpu",
    plans: Sequence[TaskPlan] | None = None,
    pool: Pool | None = None,
    part: int | None = None,
) -> GrowingBatch:
    """Assemble PWM that learns from nothing: collect, train the world model, improve the policies.

    It is the recipe whose scores README and docs/benchmarks.md print, made of public parts alone:
    `print(loop.code)` shows the program that makes the same loop without this function.

    Args:
        task: what to learn: a name that `make_env` knows, a `Task`, or several, which then share
            one world model and have a policy each.
        scale: "tiny", for tests; "small", for two cores and minutes; "published", of the sizes of
            the paper; or a configuration.
        seed: of the weights, the exploration and the environments; torch's global generator is
            set to it.
        device: where networks and data live.
        plans: how each task is trained; None: by `plan_for`.
        pool: training environments, one per task, such as one with workers; None: an `EnvPool`
            of `make_gym`, and beside it one for tests.
        part: number of this process where several of a process group share the world model, each
            with tasks of its own; None: it is alone.

    Returns:
        A loop for a `Run`, or for your own: `begin()`, then `run_round(progress)`.

    Raises:
        ValueError: for an unknown task, one given twice, or another number of plans or
            environments than tasks.
        MissingSimulatorError: if a task's simulator is not installed.
    """
    job = _job(task, SCALES[scale]() if isinstance(scale, str) else scale, plans, device)
    config, script = job.config, Script()
    script.do(torch.manual_seed, seed)
    model = _model(script, job)
    groups = script.part(model.parameter_groups, config.model_lr, config.encoder_lr)
    optimizer = script.make("optimizer", torch.optim.Adam, groups, fused=True)
    stream = seed if part is None else 1000 * seed + part
    if part is not None:  # the model starts equal everywhere; now every process draws its own
        script.do(torch.manual_seed, stream)
    learners = [_learner(script, mine, model) for mine in job.split()]
    loop = _loop(script, job, (model, optimizer, learners), pool, stream)
    loop.code = script.text()
    return loop


def _task_of(name: str | Task) -> Task:
    if isinstance(name, Task):
        return name
    if name in BUILT_IN:
        return BUILT_IN[name]
    env = make_gym(name)
    env.close()
    return env.task


def _job(
    task: str | Task | Sequence[str | Task],
    config: OnlineConfig,
    plans: Sequence[TaskPlan] | None,
    device: str,
) -> _Job:
    """Look the tasks up, and put those that imagine alike beside one another."""
    alone = isinstance(task, str | Task)
    tasks = [_task_of(name) for name in ([task] if isinstance(task, str | Task) else task)]
    if len({one.name for one in tasks}) != len(tasks) or not tasks:
        raise ValueError(f"task must name each task once, got {[one.name for one in tasks]}")
    if plans is None:
        plans = [plan_for(one, config, alone=alone) for one in tasks]
    if len(plans) != len(tasks):
        raise ValueError(f"plans must have one entry per task ({len(tasks)}), got {len(plans)}")
    alike = list(dict.fromkeys((plan.horizon, plan.starts) for plan in plans))
    pairs = list(zip(tasks, plans, strict=True))
    pairs.sort(key=lambda pair: alike.index((pair[1].horizon, pair[1].starts)))
    family = None
    if not alone:
        family = MT80 if all(one in MT80 for one in tasks) else TaskSet(tasks)
    return _Job([one for one, _ in pairs], [plan for _, plan in pairs], config, family, device)


def _model(script: Script, job: _Job) -> WorldModel:
    """Make the world model, with ids where it has several tasks."""
    config, family = job.config, job.family
    settings: dict[str, Any] = {}
    if family is not None:
        count = 1 + max(task.index for task in family)
        if family is MT80:
            sizes, text = [task.action_dim for task in MT80], "[task.action_dim for task in MT80]"
            script.use("MT80")
        else:
            known, most = {task.index: task.action_dim for task in family}, family.action_dim
            sizes = [known.get(i, most) for i in range(count)]
            text = f"[{known}.get(i, {most}) for i in range({count})]"
        sizes = script.name(sizes, text)
        settings = {"num_tasks": count, "task_dim": config.task_dim, "action_dims": sizes}
    small = 0 if job.metaworld else 8
    settings |= {
        "latent_dim": config.latent_dim,
        "hidden": (config.hidden, config.hidden),
        "encoder_hidden": (config.hidden,),
        "num_bins": 0,
        "simnorm_size": small if config.simnorm_size is None else config.simnorm_size,
        "activation": "silu",
        "standardize": True,
        "episodic": any(task.terminates or task.suite not in SUITES for task in job.tasks),
    }
    model = script.make("model", WorldModel, *job.sizes, **(settings | config.world_model))
    script.do(init_fan_in, model)
    if job.device != "cpu":
        script.do(model.to, job.device)
    return model


def _learner(script: Script, job: _Job, model: WorldModel) -> Learner:
    """Make the policies and values of tasks that imagine alike, a population where several may."""
    config, end, several = job.config, job.end, job.family is not None
    style: dict[str, Any] = {"activation": config.activation, "norm": config.norm}
    scales, masked = [0.1 / (1.0 - plan.gamma) for plan in job.plans], {}
    if several:
        style["population"] = len(job.tasks)
        masked = {"action_dims": [task.action_dim for task in job.tasks]}
    actor = script.make(
        f"actor{end}",
        FirstOrderActor,
        config.latent_dim,
        job.sizes[1],
        config.actor,
        std=config.rounds_config.std[0],
        learn_std=False,
        noise="after",
        output_gain=0.1,
        **style,
        **masked,
    )
    critic = script.make(
        f"critic{end}",
        Critic,
        config.latent_dim,
        config.critic,
        config.ensemble,
        reduce="mean",
        scale=scales if several else scales[0],
        output_gain=0.01,
        **style,
    )
    scale = script.make(f"scale{end}", ReturnScale, *([len(job.tasks)] if several else []))
    if job.device != "cpu":
        for module in (actor, critic, scale):
            script.do(module.to, job.device)
    plan = job.plans[0]
    horizon = config.pwm.horizon if plan.horizon is None else plan.horizon
    gamma = tuple(plan.gamma for plan in job.plans)
    settings = replace(config.pwm, horizon=horizon, gamma=gamma if several else gamma[0])
    pwm = script.make(f"pwm{end}", PWM, model, actor, critic, settings, return_scale=scale)
    return script.part(Learner, pwm, job.ids, plan.starts or config.starts)


def _loop(
    script: Script,
    job: _Job,
    parts: tuple[WorldModel, torch.optim.Optimizer, list[Learner]],
    pool: Pool | None,
    stream: int,
) -> GrowingBatch:
    """Put the parts together with data and environments."""
    config, tests = job.config, None
    rows = [config.rows or plan.rows for plan in job.plans]
    weights = None if job.family is None else dict(zip(job.ids, rows, strict=True))
    replay = script.make(
        "replay",
        ReplayBuffer,
        config.capacity,
        config.model_horizon + 1,
        sum(rows),
        task_weights=weights,
        recent=config.recent,
        seed=seed_for("replay", stream),
        device=job.device,
    )
    if pool is None:
        pool = _pool(script, "pool", job, 1000 * stream)
        tests = _pool(script, "test_pool", job, TESTS + 1000 * stream)
    else:
        script.say("pool: the environments that were given")
        script.name(pool, "pool")
    share = config.update_share or (0.6 if job.metaworld else 1.0)
    rounds = replace(config.rounds_config, updates=round(share * config.rounds_config.updates))
    return script.make(
        "loop",
        GrowingBatch,
        pool,
        *parts,
        replay,
        rounds,
        reward_scale=[_scale_of(task) for task in job.tasks],
        lengths=[plan.length for plan in job.plans],
        episodes=[plan.episodes for plan in job.plans],
        seed_episodes=[plan.seed_episodes for plan in job.plans],
        names=[task.name for task in job.tasks],
        test_pool=tests,
        seed=stream,
    )


def _pool(script: Script, name: str, job: _Job, seed: int) -> EnvPool:
    """Make one environment per task; seeds differ between tasks and between pools."""
    padded: dict[str, Any] = {} if job.family is None else {"padded": True}
    if job.family not in (None, MT80):
        padded["tasks"] = job.family
    envs = []
    for i, task in enumerate(job.tasks):
        known = task.name if _is_known(task) else task
        envs.append(script.part(make_gym, known, seed=seed + i, **padded))
    return script.make(name, EnvPool, envs)


def _is_known(task: Task) -> bool:
    """Tell whether a task's name alone leads to it."""
    try:
        return _task_of(task.name) == task
    except ValueError:
        return False


def _scale_of(task: Task) -> float | None:
    """Return what rewards are divided by; None: what the seed episodes show."""
    if task.suite not in SUITES and task.reward_scale in (0.0, 1.0):  # the default says nothing
        return None
    return task.reward_scale or 1.0
