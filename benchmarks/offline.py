"""The published protocol: from fixed data and one world model to one policy per task and seed."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from final import score_of
from inputs import check_inputs, open_data
from machine import cores, settle
from stages import keep_config, write_json
from tqdm import tqdm

from pwm_sdk import (
    MT30,
    MT80,
    PWM,
    TDMPC2,
    Critic,
    FirstOrderActor,
    PolicyPrior,
    PWMConfig,
    QEnsemble,
    ReplayBuffer,
    TaskSet,
    TDMPC2Config,
    WorldModel,
    evaluate,
    init_orthogonal,
    init_uniform,
    make_gym,
    model_size,
    train_offline,
)

TASK_SETS = {"mt30": MT30, "mt80": MT80}
HORIZON = 16  # of policies and of the windows that train the model


@dataclass(frozen=True)
class OfflinePreset:
    """Everything that a run of the published protocol depends on, apart from its seeds.

    Attributes:
        suite: "mt80" or "mt30", the tasks of data and model.
        tasks: names of the tasks to learn.
        pretrain: train the world model from the data; otherwise it is opened from a file.
        size: of the world model to train, in millions of TD-MPC2's parameters.
        pretrain_steps: updates of the world model.
        pretrain_batch: windows of each.
        steps: updates of a policy.
        batch_size: imagined starts of each.
        readings: evaluations on the way, besides the last.
        episodes: episodes of an evaluation.
        save_every: updates between two saved states.
    """

    suite: str = "mt80"
    tasks: tuple[str, ...] = ()
    pretrain: bool = False
    size: int = 48
    pretrain_steps: int = 10_000_000
    pretrain_batch: int = 1024
    steps: int = 10_000
    batch_size: int = 512
    readings: int = 4
    episodes: int = 10
    save_every: int = 500


def run_published(arguments: Any, folder: Path) -> list[dict[str, Any]]:
    """Run what the command line asks for; rows of the table."""
    pretrain = arguments.preset == "published-pretrain"
    chosen = check_inputs(arguments, TASK_SETS[arguments.suite])
    names = ("size", "pretrain_steps", "pretrain_batch", "steps", "batch_size", "episodes")
    preset = OfflinePreset(
        suite=arguments.suite,
        tasks=tuple(task.name for task in chosen),
        pretrain=pretrain,
        **{name: getattr(arguments, name) for name in names},
    )
    keep_config(folder, {"preset": dataclasses.asdict(preset)})
    settle()
    return run_offline(
        preset,
        folder,
        data=arguments.data,
        checkpoint=arguments.checkpoint,
        seeds=arguments.seeds,
        jobs=arguments.jobs or (cores() if arguments.device == "cpu" else 1),
        device=arguments.device,
    )


def run_offline(
    preset: OfflinePreset,
    folder: Path,
    *,
    data: Path,
    checkpoint: Path | None,
    seeds: int,
    jobs: int,
    device: str,
) -> list[dict[str, Any]]:
    """Convert the data, get the world model, learn every task with every seed; rows of the table.

    Each part leaves a file and is skipped where its file is there.
    """
    tasks = TASK_SETS[preset.suite]
    chosen = [tasks[name] for name in preset.tasks]
    store = open_data(data, folder / "data", tasks, chosen, HORIZON + 1)
    if preset.pretrain:
        checkpoint = pretrain(preset, store, folder, device)
    if checkpoint is None:
        raise SystemExit("--checkpoint must name a file of a world model, got none")
    load_model(checkpoint, tasks)  # a wrong file ends here, before any process starts
    context = multiprocessing.get_context("spawn")
    bar = tqdm(total=len(preset.tasks) * seeds, desc="policies", unit="policy")
    with ProcessPoolExecutor(jobs, mp_context=context) as executor, bar:
        work = [
            executor.submit(
                learn_policy, preset, name, seed, store, checkpoint, folder, device, jobs
            )
            for seed in range(seeds)
            for name in preset.tasks
        ]
        for job in as_completed(work):
            row = job.result()
            bar.set_postfix_str(f"{row['task']} {row['return']:.0f}", refresh=False)
            bar.update()
        return [job.result() for job in work]


def load_model(path: Path, tasks: TaskSet) -> WorldModel:
    """Open a world model of `tasks`: our own file, TD-MPC2's or PWM's."""
    return WorldModel.from_checkpoint(path, tasks=tasks)


def pretrain(preset: OfflinePreset, store: Path, folder: Path, device: str) -> Path:
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
    algorithm = TDMPC2(model, q, prior, config)
    replay = ReplayBuffer.from_dataset(
        store,
        slice_len=HORIZON + 1,
        batch_size=preset.pretrain_batch,
        device=device,
        seed=0,
    )
    with tqdm(total=preset.pretrain_steps, desc="world model", unit="update") as bar:

        def on_step(done: int, metrics: Any) -> None:
            bar.update(done - bar.n)
            if done % 100 == 0:
                bar.set_postfix_str(f"loss {float(metrics['total_loss']):.3f}", refresh=False)

        train_offline(
            algorithm,
            replay,
            preset.pretrain_steps,
            floor=1.0,
            path=folder / "pretraining.pt",
            save_every=preset.save_every,
            on_step=on_step,
        )
    q.save(folder / "q_ensemble.safetensors")
    prior.save(folder / "policy_prior.safetensors")
    model.save(file)
    return file


def learn_policy(
    preset: OfflinePreset,
    name: str,
    seed: int,
    store: Path,
    checkpoint: Path,
    folder: Path,
    device: str,
    jobs: int,
) -> dict[str, Any]:
    """Learn one policy for one task, evaluate it and keep it; the row of the table."""
    own = folder / f"seed{seed}" / name
    done = own / "scores.json"
    if done.exists():
        return json.loads(done.read_text())
    own.mkdir(parents=True, exist_ok=True)
    if jobs > 1:
        torch.set_num_threads(1)
    torch.manual_seed(seed)
    tasks = TASK_SETS[preset.suite]
    task, config = tasks[name], PWMConfig.published()
    model = load_model(checkpoint, tasks).to(device)
    replay = ReplayBuffer.from_dataset(
        store,
        tasks=[task.index],
        slice_len=config.horizon + 1,
        batch_size=preset.batch_size,
        device=device,
        seed=seed,
    )
    pwm = PWM(model, *policy_networks(model, device), config)
    env = make_gym(task, seed=42 + seed, padded=True, tasks=tasks)
    log = own / "curve.json"
    curve: list[dict[str, Any]] = json.loads(log.read_text())["curve"] if log.exists() else []
    every = max(1, preset.steps // (preset.readings + 1))
    begin = time.perf_counter()

    def note(step: int) -> dict[str, Any]:
        """Evaluate, and keep the result as a point of the curve."""
        trained = time.perf_counter() - begin
        scores = evaluate(env, model, pwm.actor, preset.episodes, task=task.index)
        kept = [point for point in curve if point["updates"] < step]
        curve[:] = [*kept, {"updates": step, "seconds": trained, "tasks": {name: scores}}]
        write_json(log, {"curve": curve, "seconds": {"train": trained}})
        return scores

    def read(step: int, metrics: Any) -> None:
        if step % every == 0 and step < preset.steps:
            note(step)

    metrics = train_offline(
        pwm, replay, preset.steps, path=own / "state.pt", save_every=preset.save_every, on_step=read
    )
    scores = note(preset.steps)
    pwm.actor.save(own / "actor.safetensors")
    pwm.critic.save(own / "critic.safetensors")
    row = {"seed": seed, "task": name, "method": "pwm", **scores, "score": score_of(task, scores)}
    row["imagined"] = metrics.get("return", float("nan"))
    write_json(done, row)
    return row


def policy_networks(model: WorldModel, device: str) -> tuple[FirstOrderActor, Critic]:
    """Return actor and critic of the published widths and first weights."""
    actor = FirstOrderActor(model.latent_dim, model.action_dim, (400, 200, 100))
    critic = Critic(model.latent_dim, (400, 200), ensemble=3)
    return init_uniform(actor).to(device), init_orthogonal(critic).to(device)
