"""The methods of the single-task comparison that learn without a model of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pwm_sdk import (
    PPO,
    SAC,
    SHAC,
    Critic,
    FirstOrderActor,
    PPOConfig,
    RandomBehaviour,
    RunningMeanStd,
    SACConfig,
    SHACConfig,
    fit,
)
from single.physics import no_simulator, simulator_of
from single.registry import method

if TYPE_CHECKING:
    from single.jobs import Job

# What differs from SHAC's settings for bodies in contact with the ground. A fall has no gradient:
# the hopper learns to stand only from values within the window, hence a small lambda. 159 muscles
# average their noise out, hence little of it; the penalty on saturation allows the large rate.
SHAC_TASKS: dict[str, dict[str, Any]] = {
    "cartpole": {"horizon": 32, "actor_lr": 2e-3, "critic_lr": 2e-3, "cotangent_clip": None},
    "hopper-forward": {"environments": 16, "actor_lam": 0.5, "cotangent_clip": 50.0},
    "mass-spring": {
        "horizon": 24,
        "actor_lr": 8e-3,
        "critic_lr": 2e-3,
        "cotangent_clip": 300.0,
        "actor_lam": 0.9,
        "saturation": 0.1,
        "std": 0.1,
        "min_std": 0.03,
    },
    "soft-body": {"actor_lr": 2e-3, "critic_lr": 2e-3},
    "walker": {"environments": 16},  # fewer where the physics cost more
    "quadruped": {"environments": 8},
    "humanoid": {"environments": 8},
    "muscle-humanoid": {"environments": 8},
    "dog": {"environments": 4},
}


@method("shac", obstacle=no_simulator)
def shac(job: Job) -> None:
    """SHAC through the task's own dynamics; with MuJoCo everything stays on the CPU."""
    simulator = simulator_of(job.task)
    bridge = getattr(simulator, "bridge", None)
    if bridge is not None:
        bridge.centred = False  # half the cost, enough for learning
    agent = _shac(job, simulator, "cpu" if bridge is not None else job.device)
    behaviour = agent.policy().behaviour([0])
    while job.goes_on(behaviour):
        agent.set_learning_rates(max(0.05, 1.0 - job.progress))
        agent.update()
        job.count(agent.config.environments * agent.config.horizon)


def _shac(job: Job, simulator: Any, device: str) -> SHAC:
    size, actions = simulator.observation_dim, simulator.action_dim
    hidden = (64, 64) if actions < 50 else (128, 128)
    settings: dict[str, Any] = {
        "environments": 32,
        "horizon": 16,
        "actor_lr": 1e-3,
        "critic_lr": 1e-3,
        "critic_epochs": 4,
        "cotangent_clip": 10.0,
        "std": 0.5,
        "min_std": 0.1,
    }
    for start, more in SHAC_TASKS.items():
        settings |= more if job.task.name.startswith(start) else {}
    if job.tiny:
        hidden, settings = (16,), settings | {"environments": 2, "horizon": 4}
    noise = {name: settings.pop(name) for name in ("std", "min_std")}
    style = {"activation": "elu", "output_gain": 0.1}
    actor = FirstOrderActor.published(size, actions, hidden, **style, **noise)
    critic = Critic.published(size, hidden, ensemble=1, activation="elu", scale=10.0)
    return SHAC(
        simulator,
        actor.to(device),
        critic.to(device),
        SHACConfig(**settings),
        normalizer=RunningMeanStd((size,)).to(device),
    )


@method("sac")
def sac(job: Job) -> None:
    """SAC with the settings of its paper, but fewer random steps where budgets may be small."""
    configs = {
        "tiny": SACConfig(hidden=(16,), batch_size=16, random_steps=50, updates_per_step=0.1),
        "small": SACConfig(random_steps=1_000),
        "published": SACConfig(),
    }
    agent = SAC(*_sizes(job), configs[job.scale], device=job.device)
    fit(agent, agent.replayed(job.stream(agent)), None)


@method("ppo")
def ppo(job: Job) -> None:
    """PPO with the settings of its paper: 2048 steps a batch, here of eight environments."""
    config = PPOConfig(hidden=(16,), epochs=2) if job.tiny else PPOConfig()
    size, _ = _sizes(job)
    moments: Any = {"observations": RunningMeanStd((size,)), "returns": RunningMeanStd((1,))}
    agent = PPO(*_sizes(job), config, **moments, device=job.device)
    envs, steps = (2, 32) if job.tiny else (8, 256)
    for batch in job.stream(agent, envs, steps):
        agent.set_learning_rates(1.0 - job.progress)
        agent.update(batch.to(job.device))


@method("random")
def random(job: Job) -> None:
    """Uniform actions: what every method must beat."""
    job.goes_on(RandomBehaviour(1, job.task.action_dim, job.seed))


def _sizes(job: Job) -> tuple[int, int]:
    return job.task.observation_dim, job.task.action_dim
