"""The measured recipe: tasks in, a loop that learns them from nothing out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch

from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.calls import checked, least, one_of
from pwm_sdk.contract.pools import Pool
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.envs.any_pool import make_pool
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.optim import model_optimizer
from pwm_sdk.runs.online_config import SCALES, OnlineConfig, TaskPlan, plan_for, seed_for
from pwm_sdk.runs.script import Script
from pwm_sdk.tasks import BUILT_IN, MT80, Task, TaskSet
from pwm_sdk.training.online import GrowingBatch
from pwm_sdk.training.settings import Learner

__all__ = ["online_pwm"]

SUITES = ("dmcontrol", "metaworld", "simulator")  # whose rewards and ends are known
TESTS = 1_000_000  # seeds of environments of evaluations, counted from here


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
    def batched(self) -> bool:
        """Whether a simulator steps all episodes of a round at once."""
        return self.family is None and self.tasks[0].suite == "simulator"

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


@checked(seed=least(0), part=least(0))
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
            one world model and have a policy each. Those that imagine alike stand beside one
            another in the loop, whose `names` say the order.
        scale: "tiny", for tests; "small", for two cores and minutes; "published", of the sizes of
            the paper; or a configuration.
        seed: of the weights, the exploration and the environments; torch's global generator is
            set to it.
        device: where networks and data live.
        plans: how each task is trained; None: by `plan_for`.
        pool: training environments, one per task in the order of the loop's `names`, such as one
            with workers; None: an `EnvPool` of `make_gym`, and beside it one for tests.
        part: number of this process where several of a process group share the world model, each
            with tasks of its own; None: it is alone.

    Returns:
        A loop for a `Run`, or for your own: `begin()`, then `run_round(progress)`.

    Raises:
        ValueError: if a task is unknown or given twice, there are not as many plans and
            environments as tasks, or environments show tasks in another order.
        MissingSimulatorError: if a task's simulator is not installed.
    """
    if not isinstance(scale, OnlineConfig):
        one_of(*SCALES)(scale=scale)
    config = scale if isinstance(scale, OnlineConfig) else SCALES[scale]()
    job = _job(task, config, plans, device)
    script = Script()
    script.do(torch.manual_seed, seed)
    if job.family not in (None, MT80):
        _name_family(script, job.family)
    model = _model(script, job)
    rates = {"lr": config.model_lr, "encoder_lr": config.encoder_lr}
    optimizer = script.make("optimizer", model_optimizer, model, **rates)
    stream = seed if part is None else (1000 * seed + part) % 2**32
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


def _name_family(script: Script, family: TaskSet) -> None:
    """Note the tasks whose sizes and ids all parts share, where they are not those of MT80."""
    for task in family:
        if task in MT80:
            script.use("MT80")
            script.name(task, f'MT80["{task.name}"]')
    script.make("tasks", TaskSet, list(family))
    script.name(family, "tasks")


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
        "simnorm_size": small if config.simnorm_size is None else config.simnorm_size,
        "episodic": any(task.terminates or task.suite not in SUITES for task in job.tasks),
    }
    model = script.make("model", WorldModel, *job.sizes, **(settings | config.world_model))
    if job.device != "cpu":
        script.do(model.to, job.device)
    return model


def _learner(script: Script, job: _Job, model: WorldModel) -> Learner:
    """Make the policies and values of tasks that imagine alike, a population where several may."""
    config, end, several = job.config, job.end, job.family is not None
    style: dict[str, Any] = {"activation": config.activation, "norm": config.norm}
    scales = [round(0.1 / (1.0 - plan.gamma), 9) for plan in job.plans]  # the same float32
    masked: dict[str, Any] = {}
    if several:
        style["population"] = len(job.tasks)
        masked = {"action_dims": [task.action_dim for task in job.tasks]}
    actor = script.make(
        f"actor{end}",
        FirstOrderActor,
        config.latent_dim,
        job.sizes[1],
        hidden=config.actor,
        **style,
        **masked,
    )
    critic = script.make(
        f"critic{end}",
        Critic,
        config.latent_dim,
        hidden=config.critic,
        ensemble=config.ensemble,
        scale=scales if several else scales[0],
        **style,
    )
    if job.device != "cpu":
        for module in (actor, critic):
            script.do(module.to, job.device)
    plan = job.plans[0]
    horizon = config.pwm.horizon if plan.horizon is None else plan.horizon
    gamma = tuple(plan.gamma for plan in job.plans)
    settings = replace(config.pwm, horizon=horizon, gamma=gamma if several else gamma[0])
    pwm = script.make(f"pwm{end}", PWM, model, actor, critic, settings)
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
        at_once = job.plans[0].episodes if job.batched else 1
        pool = _pool(script, "pool", job, 1000 * stream, at_once)
        tests = _pool(script, "test_pool", job, TESTS + 1000 * stream)
    else:
        _check_order(pool, job)
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


def _pool(script: Script, name: str, job: _Job, seed: int, rows: int = 1) -> Pool:
    """Make one environment per task, or a simulator's; seeds differ between all of them."""
    if job.batched:
        return script.make(name, make_pool, job.tasks[0].name, batch=rows, seed=seed)
    padded: dict[str, Any] = {} if job.family is None else {"padded": True}
    if job.family not in (None, MT80):
        padded["tasks"] = job.family
    envs = []
    for i, task in enumerate(job.tasks):
        known = task.name if _is_known(task) else task
        envs.append(script.part(make_gym, known, seed=(seed + i) % 2**32, **padded))
    return script.make(name, EnvPool, envs)


def _check_order(pool: Pool, job: _Job) -> None:
    """Raise ValueError for environments that show the tasks of others' policies."""
    if job.family is None or len(pool) != len(job.ids):
        return
    if any(shown not in (None, own) for shown, own in zip(pool.tasks, job.ids, strict=True)):
        raise ValueError(
            f"pool must hold environments of {[task.name for task in job.tasks]} in this order "
            f"(tasks {job.ids}), got tasks {pool.tasks}"
        )


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
