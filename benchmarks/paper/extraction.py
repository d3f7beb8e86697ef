"""Learns policies, each of a task and a seed, as one population in a frozen world model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from files import find_result, keep_result
from pwm_sdk import (
    MT30,
    MT80,
    Critic,
    EnvPool,
    Execution,
    FirstOrderActor,
    ObservationPolicy,
    Population,
    Prefetcher,
    PWMConfig,
    ReplayBuffer,
    TaskSet,
    WorldModel,
    evaluate_members,
    fit,
    init_orthogonal,
    init_uniform,
    linear_decay,
    load_state,
    make_gym,
    run_identity,
    save_state,
    seed_for,
)
from pwm_sdk.runs import Interrupted, patience, stop_asked

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
        pretrain_updates: updates of the world model.
        pretrain_batch: windows of each.
        updates: of a policy.
        batch_size: imagined starts of each.
        readings: evaluations on the way, besides the last.
        episodes: episodes of an evaluation.
        save_every: updates between two saved states.
    """

    suite: str = "mt80"
    tasks: tuple[str, ...] = ()
    pretrain: bool = False
    size: int = 48
    pretrain_updates: int = 10_000_000
    pretrain_batch: int = 1024
    updates: int = 10_000
    batch_size: int = 512
    readings: int = 4
    episodes: int = 10
    save_every: int = 500


@dataclass(frozen=True)
class Policy:
    """One of the policies to learn."""

    task: str
    seed: int


@dataclass(frozen=True)
class Place:
    """Where policies are learned and kept.

    Attributes:
        folder: of the run; a policy has `seed<S>/<task>` in it.
        store: folder of the data.
        checkpoint: file of the world model.
        device: of the networks.
        threads: of torch in this process; None: as many as there are.
        workers: processes of this one's evaluations; 0: none besides.
        execution: how updates are run.
        settings: what all results depend on, kept in each and compared; None compares nothing.
    """

    folder: Path
    store: Path
    checkpoint: Path
    device: str
    threads: int | None
    workers: int = 0
    execution: Execution = field(default_factory=Execution)
    settings: Any = None

    def file(self, policy: Policy, name: str) -> Path:
        """Return the path of one of a policy's files."""
        return self.folder / f"seed{policy.seed}" / policy.task / name

    def run(self, task: str, seed: int) -> dict[str, Any] | None:
        """Return what tells the results of a task and a seed from those of other runs."""
        return None if self.settings is None else run_identity(self.settings, task=task, seed=seed)

    def write(self, policy: Policy, name: str, result: dict[str, Any]) -> None:
        """Write one of a policy's results."""
        keep_result(self.file(policy, name), result, self.run(policy.task, policy.seed))

    def read(self, policy: Policy, name: str) -> dict[str, Any] | None:
        """Read one of a policy's results, None where there is none."""
        return find_result(self.file(policy, name), self.run(policy.task, policy.seed))


def load_model(path: Path, tasks: TaskSet) -> WorldModel:
    """Open a world model of `tasks`: our own file, TD-MPC2's or PWM's."""
    return WorldModel.from_checkpoint(path, tasks=tasks)


def make_learners(
    model: WorldModel,
    policies: Sequence[Policy],
    device: str = "cpu",
    execution: Execution | None = None,
) -> Population:
    """Return policies of the published widths; the first weights of each depend on its seed."""
    actors, critics = [], []
    for policy in policies:
        torch.manual_seed(policy.seed)
        actors.append(init_uniform(FirstOrderActor.published(model.latent_dim, model.action_dim)))
        critics.append(init_orthogonal(Critic.published(model.latent_dim)))
    actor, critic = FirstOrderActor.stack(actors).to(device), Critic.stack(critics).to(device)
    seeds = [seed_for("noise", policy.seed) for policy in policies]
    config = PWMConfig.published(horizon=HORIZON)
    return Population(model, actor, critic, config, seeds=seeds, execution=execution)


def updates_done(policy: Policy, place: Place) -> int:
    """Return how many updates of a policy are saved."""
    file = place.file(policy, "state.pt")
    if not file.exists():
        return 0
    return load_state(file, place.run(policy.task, policy.seed))["updates"]


def learn(policies: Sequence[Policy], preset: OfflinePreset, place: Place, news: Any) -> None:
    """Learn what is not learned yet of some policies with equally many updates done."""
    if place.threads is not None:
        torch.set_num_threads(place.threads)
    Extraction(policies, preset, place, news).run()


class Extraction:
    """Policies that are learned at once, each kept and scored on its own.

    Args:
        policies: of equally many updates.
        preset: what to run.
        place: where.
        news: takes the number of updates done since the last message.
    """

    def __init__(
        self, policies: Sequence[Policy], preset: OfflinePreset, place: Place, news: Any
    ) -> None:
        self.policies, self.preset, self.place, self.news = list(policies), preset, place, news
        known = TASK_SETS[preset.suite]
        self.tasks = [known[policy.task] for policy in policies]
        self.model = load_model(place.checkpoint, known).to(place.device).requires_grad_(False)
        self.learners = make_learners(self.model, policies, place.device, place.execution)
        replay = ReplayBuffer.from_dataset(
            place.store,
            tasks=sorted({task.index for task in self.tasks}),
            slice_len=HORIZON + 1,
        )
        seeds = [seed_for("starts", policy.seed) for policy in policies]
        starts = replay.starts([t.index for t in self.tasks], preset.batch_size, seeds)
        self.starts = Prefetcher(starts, place.device)
        self.curves = [self._load_curve(policy) for policy in policies]
        # Returns in the last update, of a policy that is stopped in the last that it took part in.
        self.imagined = torch.zeros(len(policies), device=place.device)
        self._resume()

    def run(self) -> None:
        """Train to the end, evaluate every policy and keep it."""
        preset, every = self.preset, max(1, self.preset.updates // (self.preset.readings + 1))
        begin = time.perf_counter()

        def on_update(done: int, metrics: Mapping[str, torch.Tensor]) -> None:
            now = metrics["return"]
            self.imagined = torch.where(now.isfinite(), now, self.imagined)
            self.news.put(len(self.policies))
            if done % preset.save_every == 0 or done == preset.updates or stop_asked():
                self._save()
            if stop_asked():
                raise Interrupted
            if done % every == 0 and done < preset.updates:
                self._read(pool, done, time.perf_counter() - begin)

        with self.starts, contextlib.closing(self._open()) as pool:
            left = preset.updates - self.learners.updates
            if left:
                with patience():
                    fit(self.learners, self.starts, left, schedule=self._rates, hooks=[on_update])
            scores = self._read(pool, preset.updates, time.perf_counter() - begin)
        stopped = self.learners.stopped
        for i, policy in enumerate(self.policies):
            self.learners.actor.member(i).save(self.place.file(policy, "actor.safetensors"))
            self.learners.critic.member(i).save(self.place.file(policy, "critic.safetensors"))
            row = {"seed": policy.seed, "task": policy.task, "method": "pwm", **scores[i]}
            row["score"] = self.tasks[i].score(scores[i]["return"], scores[i]["success_last"])
            row["imagined"] = float(self.imagined[i])
            if i in stopped:
                row["stopped"] = 1
            self.place.write(policy, "scores.json", row)

    def _rates(self, _: float) -> float:
        """Return the published factor of the learning rates, over all updates of all calls."""
        return linear_decay(self.learners.updates / self.preset.updates)

    def _open(self) -> EnvPool:
        """Make an environment for each policy, for all of its evaluations."""
        kind = {"padded": True, "tasks": TASK_SETS[self.preset.suite]}
        return EnvPool([partial(make_gym, task, **kind) for task in self.tasks], self.place.workers)

    def _read(self, pool: EnvPool, updates: int, seconds: float) -> list[dict[str, float]]:
        """Evaluate all policies, every time from the same seeds; a point of each one's curve."""
        seeds, episodes = [42 + policy.seed for policy in self.policies], self.preset.episodes
        policy = ObservationPolicy(self.learners.actor, model=self.model)
        scores = evaluate_members(pool, policy, episodes, seeds=seeds)
        for policy, curve, own in zip(self.policies, self.curves, scores, strict=True):
            point = {"updates": updates, "seconds": seconds, "tasks": {policy.task: own}}
            curve[:] = [*(old for old in curve if old["updates"] < updates), point]
            table = {"curve": curve, "seconds": {"train": seconds}}
            self.place.write(policy, "curve.json", table)
        return scores

    def _save(self) -> None:
        """Keep everything that learning changes, a file for each policy."""
        streams = self.starts.generator.get_state()
        for i, policy in enumerate(self.policies):
            own = {"starts": streams[i], "imagined": self.imagined[i]}
            state = {**self.learners.member_state(i), **own}
            run = self.place.run(policy.task, policy.seed)
            save_state(self.place.file(policy, "state.pt"), state, run)

    def _resume(self) -> None:
        files = [self.place.file(policy, "state.pt") for policy in self.policies]
        if files[0].exists():
            runs = [self.place.run(policy.task, policy.seed) for policy in self.policies]
            states = [load_state(file, run) for file, run in zip(files, runs, strict=True)]
            self.starts.generator.set_state(torch.stack([s.pop("starts") for s in states]))
            self.imagined = torch.stack([s.pop("imagined") for s in states]).to(self.place.device)
            self.learners.load_members(states)

    def _load_curve(self, policy: Policy) -> list[dict[str, Any]]:
        self.place.file(policy, "curve.json").parent.mkdir(parents=True, exist_ok=True)
        return (self.place.read(policy, "curve.json") or {"curve": []})["curve"]
