"""Settings of the measured recipe: what is built, and how a task of each kind is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.calls import checked, least, one_of
from pwm_sdk.checks import at_least, in_unit, positive, single, whole
from pwm_sdk.tasks import Task
from pwm_sdk.training.settings import RoundConfig

__all__ = ["SCALES", "OnlineConfig", "TaskPlan", "plan_for", "seed_for"]

USES = ("replay", "starts", "noise", "planner")


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
        ValueError: if a setting is out of range.
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


# Eight tasks learn at a slower rate than one raw state does (docs/experiments.md).
PWM_SETTINGS = PWMConfig(actor_lr=5e-4, critic_lr=1e-3)


@checked(norm=one_of("pre_activation", "post_activation", "none"))
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
        ValueError: if a setting is out of range.
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
    norm: str = "pre_activation"
    starts: int = 32
    rows: int | None = None
    capacity: int = 1_000_000
    recent: float = 0.25
    update_share: float | None = None
    short: bool = False
    pwm: PWMConfig = PWM_SETTINGS
    rounds_config: RoundConfig = field(default_factory=RoundConfig)

    def __post_init__(self) -> None:
        whole(1, latent_dim=self.latent_dim, hidden=self.hidden, task_dim=self.task_dim)
        whole(1, model_horizon=self.model_horizon, ensemble=self.ensemble, starts=self.starts)
        whole(1, rows=self.rows, capacity=self.capacity, actor=self.actor, critic=self.critic)
        whole(0, simnorm_size=self.simnorm_size)
        at_least(0.0, model_lr=self.model_lr, encoder_lr=self.encoder_lr)
        in_unit(recent=self.recent)
        positive(update_share=self.update_share)

    @classmethod
    def tiny(cls, **changes: object) -> OnlineConfig:
        """Return the smallest one that runs the same path, in seconds.

        Args:
            **changes: fields in place of these.
        """
        small: dict[str, Any] = {
            "latent_dim": 32,
            "hidden": 64,
            "actor": (32, 32),
            "critic": (32, 32),
        }
        rounds = RoundConfig(updates=10, first_updates=20, decay_share=0.25, decay_floor=0.1)
        small |= {"starts": 4, "short": True, "rounds_config": rounds, **changes}
        return cls(**small)

    @classmethod
    def published(cls, **changes: object) -> OnlineConfig:
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
            "norm": "post_activation",
            "starts": 64,
            "rows": 256,
            "pwm": replace(PWM_SETTINGS, horizon=16),
        }
        sizes |= changes
        return cls(**sizes)


SCALES: dict[str, Callable[[], OnlineConfig]] = {
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


@checked(use=one_of(*USES), seed=least(0))
def seed_for(use: str, seed: int) -> int:
    """Return the seed of one use in a run, whose weights are drawn from `torch.manual_seed(seed)`.

    No two uses of a run, nor of runs of different seeds, start one and the same stream.

    Args:
        use: `"replay"`, `"starts"`, `"noise"` or `"planner"`.
        seed: of the run.
    """
    children = np.random.SeedSequence(seed).spawn(len(USES))
    return int(children[USES.index(use)].generate_state(1)[0])
