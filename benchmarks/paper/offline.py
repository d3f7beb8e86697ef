"""The published protocol: from fixed data and one world model to policies and plans."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from command_line import refused
from files import in_folder
from paper.extraction import HORIZON, TASK_SETS, OfflinePreset, Place, Policy, learn, load_model
from paper.inputs import check_inputs, open_data
from paper.planning import PRIOR_FILE, Q_FILE, Plans, open_parts, pending, plan, rows_of
from paper.sharing import share_out
from pwm_sdk import (
    TDMPC2,
    Execution,
    PolicyPrior,
    Prefetcher,
    QEnsemble,
    ReplayBuffer,
    TDMPC2Config,
    WorldModel,
    fit,
    model_size,
    seed_for,
)
from pwm_sdk.runs import Interrupted, JobPool, cores, patience, stop_asked


def run_published(arguments: Any, folder: Path) -> list[dict[str, Any]]:
    """Run what the command line asks for; rows of the table."""
    pretrain = arguments.preset == "published-pretrain"
    chosen = check_inputs(arguments, TASK_SETS[arguments.suite])
    names = ("size", "pretrain_updates", "pretrain_batch", "updates", "batch_size", "episodes")
    preset = OfflinePreset(
        suite=arguments.suite,
        tasks=tuple(task.name for task in chosen),
        pretrain=pretrain,
        **{name: getattr(arguments, name) for name in names},
    )
    ways = {name: getattr(arguments, name) for name in ("precision", "compile", "cuda_graphs")}
    execution = Execution(**ways).on(torch.device(arguments.device))
    # The other two change numbers by rounding only, as does another device.
    config = {"preset": dataclasses.asdict(preset), "precision": execution.precision}
    if arguments.checkpoint is not None:
        config["checkpoint"] = _digest(arguments.checkpoint)
    with in_folder(folder, config):
        return run_offline(
            preset,
            folder,
            plans=Plans(arguments.plan_episodes, arguments.plan_samples),
            data=arguments.data,
            checkpoint=arguments.checkpoint,
            seeds=arguments.seeds,
            jobs=arguments.jobs or (cores() if arguments.device == "cpu" else 1),
            population=arguments.population,
            device=arguments.device,
            execution=execution,
            settings=config,
        )


def run_offline(
    preset: OfflinePreset,
    folder: Path,
    *,
    plans: Plans,
    data: Path,
    checkpoint: Path | None,
    seeds: int,
    jobs: int,
    population: int | None,
    device: str,
    execution: Execution,
    settings: Any = None,
) -> list[dict[str, Any]]:
    """Convert the data, get the world model, learn every task with every seed, plan; rows of all.

    Each part leaves a file and is skipped where its file is there.
    """
    tasks = TASK_SETS[preset.suite]
    chosen = [tasks[name] for name in preset.tasks]
    store = open_data(data, folder / "data", tasks, chosen, HORIZON + 1)
    if preset.pretrain:
        checkpoint = pretrain(preset, store, folder, device, execution)
    if checkpoint is None:
        raise SystemExit("--checkpoint must name a file of a world model, got none")
    model = load_model(checkpoint, tasks)  # a wrong file ends here, before any process starts
    policies = [Policy(name, seed) for seed in range(seeds) for name in preset.tasks]
    spare = cores() // jobs  # a single one steps environments as fast as their policies' process
    place = Place(
        folder,
        store,
        checkpoint,
        device,
        threads=None if jobs == 1 else 1,
        workers=spare if spare > 1 else 0,
        execution=execution,
        settings=settings,
    )
    plans = _possible(plans, place, model)
    groups = share_out(policies, preset, place, model, jobs, population)
    planned = pending(preset, place, plans) if plans.episodes else []
    steps = sum(tasks[name].episode_length for mine in planned for name in mine)
    with JobPool(jobs, errors=folder) as pool:
        news = pool.news()
        with tqdm(total=len(policies) * preset.updates, desc="policies", unit="update") as bar:
            work = [
                pool.submit(learn, mine, preset, place, news, name=_called(mine)) for mine in groups
            ]
            pool.follow(work, news, bar.update)
        with tqdm(total=steps * plans.episodes, desc="TD-MPC2's plans", unit="step") as bar:
            work = [
                pool.submit(plan, mine, preset, place, plans, news, name=f"plans of {mine[0]}")
                for mine in planned
            ]
            pool.follow(work, news, bar.update)
    scores = [place.read(policy, "scores.json") for policy in policies]
    return [row for row in scores if row] + (
        rows_of(preset, place, plans) if plans.episodes else []
    )


def _called(policies: Sequence[Policy]) -> str:
    """Name a group of policies."""
    more = f" and {len(policies) - 1} others" if len(policies) > 1 else ""
    return f"policy of {policies[0].task}, seed {policies[0].seed}{more}"


def _possible(plans: Plans, place: Place, model: WorldModel) -> Plans:
    """Plan nothing where the model comes without Q functions and prior, and say so."""
    if not plans.episodes:
        return plans
    with refused(f"--checkpoint {place.checkpoint}"):
        parts = open_parts(place.checkpoint, model)
    if parts is not None:
        return plans
    print(
        f"no TD-MPC2 plans: {place.checkpoint} comes without Q functions and policy prior",
        file=sys.stderr,
    )
    return dataclasses.replace(plans, episodes=0)


def _digest(path: Path) -> str:
    """Return a digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def pretrain(
    preset: OfflinePreset,
    store: Path,
    folder: Path,
    device: str,
    execution: Execution | None = None,
) -> Path:
    """Train a world model, with its own values and policy prior, as PWM's was (rho 0.99)."""
    file = folder / "model.safetensors"
    if file.exists():
        return file
    torch.manual_seed(0)
    tasks = TASK_SETS[preset.suite]
    model = WorldModel.from_size(preset.size, tasks).to(device)
    heads = model_size(preset.size, tasks).ensemble
    q = QEnsemble.for_model(model, ensemble=heads).to(device)
    prior = PolicyPrior.for_model(model).to(device)
    config = TDMPC2Config.pwm_pretraining(gamma=[task.discount for task in tasks])
    if execution is not None:  # of which the rest is for updates of policies
        execution = Execution(precision=execution.precision)
    algorithm = TDMPC2(model, q, prior, config, execution=execution)
    replay = ReplayBuffer.from_dataset(
        store,
        slice_len=HORIZON + 1,
        batch_size=preset.pretrain_batch,
        seed=seed_for("replay", 0),
    )
    with (
        patience(),
        Prefetcher(replay, device) as batches,
        tqdm(total=preset.pretrain_updates, desc="world model", unit="update") as bar,
    ):

        def on_update(done: int, metrics: Any) -> None:
            bar.update(done - bar.n)
            if done % 100 == 0:
                bar.set_postfix_str(f"loss {float(metrics['total_loss']):.3f}", refresh=False)
            if stop_asked():
                raise Interrupted  # the loop keeps its state first

        fit(
            algorithm,
            batches,
            preset.pretrain_updates,
            path=folder / "pretraining.pt",
            save_every=preset.save_every,
            hooks=[on_update],
        )
    q.save(folder / Q_FILE)
    prior.save(folder / PRIOR_FILE)
    model.save(file)
    return file
