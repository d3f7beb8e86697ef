"""What a first-order policy climbs: gradients and landscapes in a simulator and in world models.

    python benchmarks/diagnose.py                               # two tasks, three seeds
    python benchmarks/diagnose.py --tasks mass-spring --seeds 1

For every task and seed, world models with and without SimNorm learn from the same recorded
episodes. A policy on the latents of each acts in it and in its simulator, from the same
states with the same noise. What is finished is not run again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tqdm import tqdm

from command_line import check_counts, check_once, command, refused
from files import in_folder
from pwm_sdk import (
    EncodedSimulator,
    FirstOrderActor,
    RandomBehaviour,
    ReplayBuffer,
    WorldModel,
    gradient_statistics,
    make_episode,
    make_simulator,
    optimize,
    policy_gradients,
    read_result,
    return_landscape,
    run_identity,
    seed_for,
    world_model_errors,
    world_model_loss,
    write_result,
)
from pwm_sdk.runs import JobPool, cores
from reporting.diagnostics import OFFSETS, write_report

MODELS: dict[str, dict[str, Any]] = {"SimNorm": {"simnorm_size": 8}, "plain": {"simnorm_size": 0}}
WINDOW = 8  # steps that a world model is unrolled for in training
HOLD = 10  # longest time a random action is held
GAMMA = 0.99
LANDSCAPE_STARTS = 8
STEP = 0.01  # of the norm of the policy's parameters, along a gradient


@dataclass(frozen=True)
class Settings:
    """What a job's outcome depends on, beside task and seed."""

    updates: int = 1000
    """Updates of each world model."""
    minutes: float = 5.0
    """Processor minutes after which a world model's training ends at the latest."""
    episodes: int = 20
    """Recorded episodes of random actions, each held for a random time."""
    length: int = 150
    """Steps of a recorded episode."""
    starts: int = 32
    """Recorded states that gradients are taken from."""
    horizons: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Horizons of the gradients; the landscapes show the last and the one two before."""
    hidden: int = 128
    """Width of the world models; policies have half of it."""


@dataclass(frozen=True)
class Arguments:
    """Compare policy gradients and landscapes of world models with those of the simulator."""

    tasks: tuple[str, ...] = ("cartpole-swingup", "hopper-forward")
    """Simulated tasks: one without contacts and one with many."""
    seeds: int = 3
    """Number of seeds (0, 1, ...)."""
    settings: tyro.conf.OmitArgPrefixes[Settings] = Settings()
    jobs: int = 0
    """Jobs that run at once; 0: one per core."""
    out: Path = Path("runs/diagnose")
    """Folder of the results."""


class Recording(NamedTuple):
    """Episodes of E times T steps: state `[E, T+1, D]`, action `[E, T, A]`, reward `[E, T, 1]`."""

    state: Tensor
    action: Tensor
    reward: Tensor


def main() -> None:
    """Run what is missing and write report and plots."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    check_counts(arguments, "seeds")
    check_once("--tasks", arguments.tasks)
    with refused("--tasks"):
        list(map(make_simulator, arguments.tasks))
    pairs = [(task, seed) for seed in range(arguments.seeds) for task in arguments.tasks]
    out, count = arguments.out.expanduser(), arguments.jobs or cores()
    settings, name = arguments.settings, "{} seed {}"
    with command(), in_folder(out, asdict(settings)), JobPool(count, errors=out) as pool:
        jobs = [pool.submit(run, *pair, settings, out, name=name.format(*pair)) for pair in pairs]
        for job in tqdm(as_completed(jobs), total=len(jobs), unit="job"):
            job.result()
        print(write_report(out, " ".join(sys.argv)))


def run(task: str, seed: int, settings: Settings, out: Path) -> dict[str, Any]:
    """Do one task with one seed in this process, or read what was found before."""
    path = out / f"{task}-seed{seed}.json"
    identity = run_identity(asdict(settings), task=task, seed=seed)
    result = read_result(path, identity)
    if result is None:
        result = study(task, seed, settings)
        write_result(path, result, identity)
    return result


def study(task: str, seed: int, settings: Settings) -> dict[str, Any]:
    """Do one task with one seed."""
    torch.set_num_threads(1)
    begin = time.process_time()
    result: dict[str, Any] = {"task": task, "seed": seed, "models": {}}
    simulator = make_simulator(task, threads=1)
    if getattr(simulator, "terminated", None) is not None:
        simulator.terminated = None  # an end would hide what contacts do to later steps
    recording = record(simulator, settings, seed)
    for name, options in MODELS.items():
        torch.manual_seed(seed)
        model, errors = learn(simulator, recording, settings, seed, options)
        widths = (settings.hidden // 2,) * 2
        actor = FirstOrderActor.published(model.latent_dim, simulator.action_dim, widths)
        measured = measure(simulator, model, actor, recording.state, settings, seed)
        result["models"][name] = errors | measured
    result["minutes"] = (time.process_time() - begin) / 60.0
    return result


@torch.no_grad()
def record(simulator: Any, settings: Settings, seed: int) -> Recording:
    """Let random actions play; episodes of one seed are the same for every model."""
    count = settings.episodes
    behaviour = RandomBehaviour(count, simulator.action_dim, seed, HOLD)
    for episode in range(count):
        behaviour.start(episode)
    states = [simulator.reset(count, torch.Generator().manual_seed(seed_for("starts", seed)))]
    actions, rewards = [], []
    for _ in range(settings.length):
        actions.append(torch.from_numpy(behaviour(np.empty(0))))
        following, reward, *_ = simulator.step(states[-1], actions[-1])
        states.append(following)
        rewards.append(reward)
    return Recording(*(torch.stack(parts, 1) for parts in (states, actions, rewards)))


def learn(
    simulator: Any,
    recording: Recording,
    settings: Settings,
    seed: int,
    options: Mapping[str, Any],
) -> tuple[WorldModel, dict[str, float]]:
    """Train a world model on recorded episodes; also return what it cost and its errors."""
    observation = simulator.features(recording.state)
    replay = ReplayBuffer(observation[..., 0].numel(), WINDOW + 1, 64, seed=seed)
    for parts in zip(observation, recording.action, recording.reward, strict=True):
        replay.add(make_episode(*parts, 0))
    width = settings.hidden
    model = WorldModel(
        simulator.observation_dim,
        simulator.action_dim,
        latent_dim=max(8, width // 2),
        hidden=(width, width),
        encoder_hidden=(width,),
        **options,
    )
    rows = observation.flatten(0, 1)
    model.set_observation_statistics(rows.mean(0), rows.std(0).clamp_min(1e-3))
    variance = recording.reward.var().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    begin, done = time.process_time(), 0.0
    for updates in range(1, settings.updates + 1):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, 4.0 * (1.0 - done) + 0.02)
        loss = world_model_loss(model, replay.sample(), rho=0.9, reward=1.0 / variance)
        optimize(loss, optimizer, max_norm=10.0)
        spent = (time.process_time() - begin) / 60.0
        done = max(updates / settings.updates, spent / settings.minutes)
        if done >= 1.0:
            break
    with torch.no_grad():
        _, reward_error = world_model_errors(model, replay.sample(512), rho=1.0)
    error = reward_error.mean().item() / variance
    return model.requires_grad_(False), {"updates": updates, "reward_error": error}


def measure(
    simulator: Any,
    model: WorldModel,
    actor: FirstOrderActor,
    recorded: Tensor,
    settings: Settings,
    seed: int,
) -> dict[str, Any]:
    """Return gradients and landscapes in the model, and in the simulator behind it."""
    generator = torch.Generator().manual_seed(seed_for("noise", seed))
    rows = recorded.flatten(0, 1)
    chosen = rows[torch.randperm(len(rows), generator=generator)[: 2 * settings.starts]]
    states, others = chosen.chunk(2)
    shape = (max(settings.horizons), len(states), actor.action_dim)
    noise, other_noise = (torch.randn(shape, generator=generator) for _ in range(2))
    seen = EncodedSimulator(simulator, model)
    worlds = {
        "simulator": (seen, states),
        "model": (model, model.encode(simulator.features(states))),
    }
    gradients = {
        name: policy_gradients(world, actor, start, settings.horizons, gamma=GAMMA, noise=noise)
        for name, (world, start) in worlds.items()
    }
    gradients["score"] = policy_gradients(
        seen, actor, states, settings.horizons, gamma=GAMMA, noise=noise, estimator="score"
    )
    statistics = {}
    for name, found in gradients.items():
        columns = gradient_statistics(found, gradients["simulator"])
        ascent = found.double().mean(1)
        columns["gain"] = gains(seen, actor, others, ascent, settings.horizons, other_noise)
        statistics[name] = {key: value.tolist() for key, value in columns.items()}
    direction = torch.randn(actor_size(actor), generator=generator)
    shown = settings.horizons[-3::2]
    landscapes = {
        name: landscape_of(world, actor, start[:LANDSCAPE_STARTS], direction, shown)
        for name, (world, start) in worlds.items()
    }
    return {"gradients": statistics, "landscape": landscapes}


def actor_size(actor: FirstOrderActor) -> int:
    """Number of an actor's parameters."""
    return sum(parameter.numel() for parameter in actor.parameters())


def gains(
    seen: EncodedSimulator,
    actor: FirstOrderActor,
    states: Tensor,
    directions: Tensor,
    horizons: Sequence[int],
    noise: Tensor,
) -> Tensor:
    """Return what a small step along each horizon's direction `[H, N]` adds to the real return."""
    offsets, added = torch.tensor([0.0, STEP]), []
    for direction, horizon in zip(directions, horizons, strict=True):
        line, draw = as_long(direction, actor), noise[:horizon]
        (found,) = return_landscape(
            seen, actor, states, line, offsets, [horizon], gamma=GAMMA, noise=draw
        )
        added.append((found[1] - found[0]).mean())
    return torch.stack(added)


def as_long(direction: Tensor, actor: FirstOrderActor) -> Tensor:
    """Scale a direction to the norm of the actor's parameters."""
    origin = torch.nn.utils.parameters_to_vector(actor.parameters()).detach()
    return (direction * (origin.norm() / direction.norm())).to(origin.dtype)


def landscape_of(
    world: Any,
    actor: FirstOrderActor,
    start: Tensor,
    direction: Tensor,
    horizons: Sequence[int],
) -> dict[str, Any]:
    """Return mean returns `[K]` along a line, and their roughness, by horizon."""
    line, offsets = as_long(direction, actor), torch.tensor(OFFSETS)
    found = return_landscape(world, actor, start, line, offsets, horizons, gamma=GAMMA)
    return {
        str(horizon): {"return": values.mean(1).tolist(), "roughness": roughness(values).item()}
        for horizon, values in zip(horizons, found, strict=True)
    }


def roughness(values: Tensor) -> Tensor:
    """Total variation over range of curves `[K, B]`, averaged: 1 monotone, 2 one hill or valley."""
    reach = values.max(0).values - values.min(0).values
    return (values.diff(dim=0).abs().sum(0) / reach.clamp_min(1e-12)).mean()


if __name__ == "__main__":
    main()
