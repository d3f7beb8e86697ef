"""Tiny models, policies, data and loops, from which legal calls are made."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict

import pwm_sdk as sdk
from pwm_sdk import keys

B, H, P, O, A, D = 4, 3, 2, 3, 2, 8  # noqa: E741 - the legend of shapes
COUNTER = itertools.count()
# what reads files of other programs, of which there is none here
FOREIGN = {"from_tdmpc2_chunks"}
Call = tuple[Callable[..., Any], dict[str, Any]]


class Point(gymnasium.Env):
    """A point in O dimensions that an action moves; truncates after 5 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (O,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (A,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.left = 5
        return np.zeros(O, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.left -= 1
        seen = np.full(O, float(np.asarray(action).mean()), np.float32)
        return seen, 1.0, False, self.left == 0, {}


def windows(tasks: bool = False) -> TensorDict:
    """Windows `[B]` of H steps."""
    return TensorDict(
        {
            keys.OBSERVATION: torch.randn(B, H + 1, O),
            keys.ACTION: torch.rand(B, H, A) * 2 - 1,
            keys.REWARD: torch.rand(B, H, 1),
            keys.TERMINATED: torch.zeros(B, H, 1, dtype=torch.bool),
            keys.TASK: torch.arange(B) % 2 if tasks else torch.zeros(B, dtype=torch.int64),
        },
        [B],
    )


def transitions_of(count: tuple[int, ...]) -> TensorDict:
    """Transitions `[N, T]` as `transitions` yields them."""
    after = {
        keys.OBSERVATION: torch.randn(*count, O),
        keys.REWARD: torch.rand(*count, 1),
        keys.TERMINATED: torch.zeros(*count, 1, dtype=torch.bool),
        keys.TRUNCATED: torch.zeros(*count, 1, dtype=torch.bool),
        keys.DONE: torch.zeros(*count, 1, dtype=torch.bool),
    }
    rows = {keys.OBSERVATION: torch.randn(*count, O), keys.ACTION: torch.rand(*count, A) * 2 - 1}
    return TensorDict({**rows, keys.NEXT: TensorDict(after, count)}, count)


def episode(steps: int = 6, task: int = 0) -> TensorDict:
    """An episode of random rows."""
    rng = np.random.default_rng(0)
    return sdk.make_episode(
        rng.normal(size=(steps + 1, O)), rng.uniform(-1, 1, (steps, A)), rng.random(steps), task
    )


def minari_like() -> Any:
    """What is used of a `minari.MinariDataset`, with one episode."""
    flags = np.zeros(6, bool)
    rows = SimpleNamespace(observations=np.zeros((7, O)), actions=np.zeros((6, A)), rewards=flags,
                           terminations=flags, truncations=flags)  # fmt: skip
    return SimpleNamespace(action_space=Point.action_space, iterate_episodes=lambda: iter([rows]))


def replay() -> Any:
    """A replay with two episodes."""
    buffer = sdk.ReplayBuffer(100, H + 1, B, seed=0)
    buffer.add(episode())
    buffer.add(episode())
    return buffer


def recorded() -> Any:
    """An episode as `run_episodes` returns it."""
    rng = np.random.default_rng(0)
    f, ends = np.float32, np.zeros(20, bool)
    seen, acts = rng.normal(size=(21, O)).astype(f), rng.uniform(-1, 1, (20, A)).astype(f)
    return sdk.Episode(seen, acts, rng.random(20).astype(f), ends, ends.copy())


def world_model(**settings: Any) -> Any:
    """A tiny world model."""
    small = {"latent_dim": D, "hidden": (8,), "encoder_hidden": (8,), "num_bins": 11}
    return sdk.WorldModel(O, A, **{**small, "simnorm_size": 4, **settings})


@functools.cache
def parts() -> SimpleNamespace:
    """Everything that calls need, tiny."""
    torch.manual_seed(0)
    p = SimpleNamespace()
    p.model = world_model(standardize=True)
    p.tasked = world_model(num_tasks=2, task_dim=4, episodic=True, standardize=True)
    p.actor, p.critic = sdk.FirstOrderActor(D, A, (8,)), sdk.Critic(D, (8,), 2)
    p.actors = sdk.FirstOrderActor(D, A, (8,), population=P, learn_std=False)
    p.critics = sdk.Critic(D, (8,), 2, population=P)
    p.q, p.prior = sdk.QEnsemble.for_model(p.model), sdk.PolicyPrior.for_model(p.model)
    p.latent, p.noise = torch.randn(B, D), torch.randn(B, A)
    p.latents, p.action = torch.randn(P, B, D), torch.rand(B, A) * 2 - 1
    p.observation, p.seen = torch.randn(B, O), np.zeros((1, O), np.float32)
    p.task = torch.arange(B) % 2
    p.reward, p.marks = torch.rand(B, H, 1), torch.zeros(B, H, 1, dtype=torch.bool)
    p.rollout = sdk.LatentRollout(p.model, p.actor, H)
    p.trajectory = p.rollout(p.latent).detach()
    p.batch, p.replay, p.episode = windows(), replay(), recorded()
    p.context = p.model.context(None)
    p.simulator = sdk.MassSpring(2, 2, substeps=2, episode_length=5)
    p.state = p.simulator.reset(B)
    springs = p.simulator.action_dim
    p.pull = torch.zeros(B, springs)
    p.sim_actor = sdk.FirstOrderActor(16, springs, (8,))
    p.sim_critic = sdk.Critic(16, (8,), 2)
    p.pool = sdk.EnvPool([Point()])
    p.policy = sdk.RandomBehaviour(1, A, 0)
    p.acting = sdk.ObservationPolicy(p.actor, model=p.model)
    p.team = sdk.ObservationPolicy(p.actors, model=p.model)
    p.folder = Path(tempfile.mkdtemp())
    p.actor.save(p.folder / "actor.safetensors")
    p.critic.save(p.folder / "critic.safetensors")
    p.model.save(p.folder / "model.safetensors")
    p.acting.save(p.folder / "acting.safetensors")
    p.q.save(p.folder / "q.safetensors")
    p.prior.save(p.folder / "prior.safetensors")
    numbers = {"mean": torch.zeros(1), "var": torch.ones(1), "count": torch.ones(())}
    torch.save({"world_model": {}, "rew_rms": numbers}, p.folder / "pwm.pt")
    return p


def pwm() -> Any:
    """A PWM of one policy."""
    p = parts()
    config = sdk.PWMConfig(horizon=H, critic_epochs=1, critic_splits=2)
    return sdk.PWM(p.model, sdk.FirstOrderActor(D, A, (8,)), sdk.Critic(D, (8,), 2), config)


def population() -> Any:
    """A population of P policies."""
    p = parts()
    config = sdk.PWMConfig(horizon=H, critic_epochs=1, critic_splits=2)
    actor = sdk.FirstOrderActor(D, A, (8,), population=P)
    return sdk.Population(
        p.model, actor, sdk.Critic(D, (8,), 2, population=P), config, seeds=[1, 2]
    )


def population_of_one() -> Any:
    """A PWM with a population of one policy."""
    p = parts()
    actor = sdk.FirstOrderActor(D, A, (8,), population=1, learn_std=False)
    critic = sdk.Critic(D, (8,), 2, population=1)
    config = sdk.PWMConfig(horizon=2, critic_epochs=1, critic_splits=1)
    return sdk.PWM(p.model, actor, critic, config)


def planner() -> Any:
    """A planner with eight candidates."""
    p = parts()
    sizes = {"horizon": 2, "samples": 8, "elites": 2, "policy_samples": 2, "iterations": 1}
    return sdk.MPPI(p.model, p.actor, p.critic, **sizes)


def td_mpc2() -> Any:
    """A TD-MPC2."""
    model = world_model()
    return sdk.TDMPC2(model, sdk.QEnsemble.for_model(model), sdk.PolicyPrior.for_model(model))


def dreamer() -> Any:
    """A DreamerV3 of 8 units."""
    sizes = {"hidden": 8, "layers": 1, "belief": 8, "blocks": 2, "categoricals": 2, "classes": 2}
    return sdk.DreamerV3(O, A, sdk.DreamerV3Config(**sizes, bins=11, horizon=2))


def fresh(folder: Any) -> Any:
    """An empty folder inside a folder; what is no path stays as it is."""
    return tempfile.mkdtemp(dir=folder) if isinstance(folder, Path) else folder


def named(name: Any) -> Any:
    """A name that no data set has yet; what is no name stays as it is."""
    return name.replace("point", f"point{next(COUNTER)}") if isinstance(name, str) else name
