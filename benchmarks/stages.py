"""The stages of one seed: seed data, rounds, final evaluation, baselines.

Each stage leaves a file and can resume.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from recipe import Preset, build, make_actor, make_pool, plan_of, split_tasks

from pwm_sdk import (
    MT80,
    GrowingBatch,
    LatentBehaviour,
    RandomBehaviour,
    behaviour_loss,
    optimize,
    run_episodes,
    summarize,
    write_atomic,
)

Progress = Callable[[float, str], None]


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, lambda part: part.write_text(json.dumps(value, indent=1) + "\n"))


def agree(value: float, operation: Any) -> float:
    """Reduce a number over the processes of a seed."""
    if not dist.is_initialized():
        return value
    number = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(number, operation)
    return float(number)


class SeedRun:
    """One process's share of one seed, in a folder of its own.

    Args:
        preset: what to run.
        seed: the seed.
        parts: number of processes that share the seed.
        part: which of them this is.
        folder: where everything of this part goes; an interrupted run continues from it.
        device: where networks and data live.
        budget: seconds for seed data and rounds, None: as long as the preset's rounds take.
        progress: told the share done and a short status.
    """

    def __init__(
        self,
        preset: Preset,
        seed: int,
        parts: int,
        part: int,
        folder: Path,
        *,
        device: str,
        budget: float | None,
        progress: Progress,
    ) -> None:
        self.preset, self.seed, self.folder, self.budget = preset, seed, folder, budget
        self.device, self.progress = device, progress
        self.tasks = split_tasks(preset, parts)[part]
        folder.mkdir(parents=True, exist_ok=True)
        self.loop: GrowingBatch = build(preset, seed, parts, part, device)
        self.seconds: dict[str, float] = {"collect": 0.0, "train": 0.0, "evaluate": 0.0}
        self.curve: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []

    def run(self) -> list[dict[str, Any]]:
        """Run what is not done yet and return the rows of the table."""
        done = self.folder / "scores.json"
        if not done.exists():
            self._resume()
            self._rounds()
            rows = self._final()
            self.save()
            self._export()
            write_json(done, rows)
        return json.loads(done.read_text())

    def save(self) -> None:
        """Save networks, optimisers, random states and data; keep the two newest checkpoints."""
        folder = self.folder / f"checkpoint-{self.loop.round:05d}"
        self.loop.replay.save(folder / "data")
        state = {
            "loop": self.loop.state_dict(),
            "seconds": self.seconds,
            "curve": self.curve,
            "log": self.log,
        }
        write_atomic(folder / "state.pt", lambda part: torch.save(state, part))
        write_json(self.folder / "curve.json", {"curve": self.curve, "seconds": self.seconds})
        write_atomic(self.folder / "rounds.csv", self._write_log)
        for old in sorted(self.folder.glob("checkpoint-*"))[:-2]:
            shutil.rmtree(old)

    def _export(self) -> None:
        """Leave model, policies and data as files that the SDK opens by name."""
        self.loop.model.save(self.folder / "model.safetensors")
        for learner in self.loop.learners:
            name = "-".join(dict.fromkeys(MT80[task].suite for task in learner.tasks))
            learner.pwm.actor.save(self.folder / f"actors-{name}.safetensors")
            learner.pwm.critic.save(self.folder / f"critics-{name}.safetensors")
        self.loop.replay.save(self.folder / "data")

    def _resume(self) -> None:
        saved = sorted(self.folder.glob("checkpoint-*/state.pt"))
        newest = int(saved[-1].parent.name.split("-")[1]) if saved else -1
        common = int(agree(float(newest), dist.ReduceOp.MIN))
        if common >= 0:
            folder = self.folder / f"checkpoint-{common:05d}"
            state = torch.load(folder / "state.pt", weights_only=True)
            self.loop.load_state_dict(state["loop"])
            self.seconds, self.curve, self.log = state["seconds"], state["curve"], state["log"]
            self.loop.replay.load(folder / "data")
            return
        begin = time.perf_counter()
        self.progress(0.0, "seed data")
        self.loop.collect_seed([plan_of(task, self.preset).seed_episodes for task in self.tasks])
        self.seconds["collect"] += time.perf_counter() - begin

    def _share(self) -> float:
        """Share of the budget that is spent, the same number in every process."""
        spent = self.seconds["collect"] + self.seconds["train"]
        by_time = 0.0 if self.budget is None else spent / self.budget
        return agree(max(self.loop.round / self.preset.rounds, by_time), dist.ReduceOp.MAX)

    def _rounds(self) -> None:
        while (share := self._share()) < 1.0:
            report = self.loop.run_round(share)
            self.seconds["collect"] += report.collect_seconds
            self.seconds["train"] += report.train_seconds
            row = {"round": self.loop.round, "updates": report.updates, **report.metrics}
            for name, column in {"train_return": report.train_return, **report.alarms}.items():
                row.update(
                    {f"{name}/{t.name}": float(v) for t, v in zip(self.tasks, column, strict=True)}
                )
            self.log.append(row)
            if share * (self.preset.readings + 1) >= len(self.curve) + 1:
                self._reading()
            gap = np.abs(report.alarms["gap"]).max()
            self.progress(share, f"round {self.loop.round}, worst gap {gap:.1f}")
            if self.loop.round % self.preset.save_every == 0:
                self.save()
        self.save()

    def _reading(self) -> None:
        begin = time.perf_counter()
        episodes = self._play(self._behaviour("actor"), self.preset.reading_episodes, 1)
        point: dict[str, Any] = {"updates": self.loop.updates, "seconds": self._learning_seconds()}
        point["tasks"] = {t.name: summarize(e) for t, e in zip(self.tasks, episodes, strict=True)}
        self.curve.append(point)
        self.seconds["evaluate"] += time.perf_counter() - begin

    def _learning_seconds(self) -> float:
        return self.seconds["collect"] + self.seconds["train"]

    def _behaviour(self, which: str) -> LatentBehaviour:
        actors = [getattr(learner.pwm, which) for learner in self.loop.learners]
        return LatentBehaviour(self.loop.model, actors, self.loop.tasks)

    def _play(self, behaviour: Any, episodes: int, stream: int) -> list[Any]:
        """Run whole episodes in fresh environments; each `stream` has seeds of its own."""
        pool = make_pool(self.tasks, 1_000_000 * stream + 1000 * self.seed)
        try:
            return run_episodes(pool, behaviour, [episodes] * len(self.tasks))
        finally:
            pool.close()

    def _final(self) -> list[dict[str, Any]]:
        begin = time.perf_counter()
        self.progress(1.0, "final evaluation")
        self._select()
        episodes = self._play(self._behaviour("actor"), self.preset.final_episodes, 3)
        self.seconds["evaluate"] += time.perf_counter() - begin
        alarms = self.loop.alarms(episodes, deterministic=True)
        rows = self._rows("pwm", episodes)
        for i, row in enumerate(rows):
            row.update({name: float(column[i]) for name, column in alarms.items()})
        self.curve.append(
            {
                "updates": self.loop.updates,
                "seconds": self._learning_seconds(),
                "tasks": {t.name: summarize(e) for t, e in zip(self.tasks, episodes, strict=True)},
            }
        )
        begin = time.perf_counter()
        self.progress(1.0, "baselines")
        cloned = self._clone()
        rows += self._rows("cloning", self._play(cloned, self.preset.final_episodes, 3))
        noise = RandomBehaviour(len(self.tasks), MT80.action_dim, self.seed)
        rows += self._rows("random", self._play(noise, self.preset.final_episodes, 3))
        self.seconds["baselines"] = time.perf_counter() - begin
        return rows

    def _select(self) -> None:
        """Give each learner the averaged actor where that one did better on episodes of its own."""
        if not self.preset.select_episodes:
            return
        scores = {}
        for which in ("actor", "average"):
            episodes = self._play(self._behaviour(which), self.preset.select_episodes, 2)
            scores[which] = torch.tensor(
                [float(np.mean([e.total for e in mine])) for mine in episodes]
            )
        low = 0
        for learner in self.loop.learners:
            high = low + len(learner.tasks)
            better = scores["average"][low:high] > scores["actor"][low:high]
            with torch.no_grad():
                pairs = zip(
                    learner.pwm.actor.parameters(), learner.pwm.average.parameters(), strict=True
                )
                for raw, average in pairs:
                    raw[better] = average[better]
            low = high

    def _clone(self) -> LatentBehaviour:
        """Clone the training data's actions on the same latents, one policy per task."""
        actor = make_actor(self.preset, self.tasks).to(self.device)
        optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3, fused=True)
        indices = [task.index for task in self.tasks]
        rows = {i: self.loop.replay.episodes(i) for i in indices}
        generator = np.random.default_rng(self.seed)
        for _ in range(self.preset.cloning_steps):
            batch = [_pairs(rows[i], 64, generator) for i in indices]
            observation, action = (torch.stack(x) for x in zip(*batch, strict=True))
            with torch.no_grad():
                task = torch.tensor(indices, device=self.device).unsqueeze(1).expand(-1, 64)
                latent = self.loop.model.encode(observation, task)
            optimize(
                behaviour_loss(actor, latent, action), optimizer, 10.0, population=len(indices)
            )
        return LatentBehaviour(self.loop.model, [actor], indices)

    def _rows(self, method: str, episodes: Sequence[Any]) -> list[dict[str, Any]]:
        rows = []
        for task, mine in zip(self.tasks, episodes, strict=True):
            summary = summarize(mine)
            score = (
                summary["success_last"] if task.suite == "metaworld" else summary["return"] / 1000.0
            )
            rows.append(
                {"seed": self.seed, "task": task.name, "method": method, **summary, "score": score}
            )
        return rows

    def _write_log(self, path: Path) -> None:
        names = list(dict.fromkeys(name for row in self.log for name in row))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.log)


def _pairs(
    episodes: Sequence[Any], count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw observations and the actions taken at them."""
    picks = [episodes[int(rng.integers(len(episodes)))] for _ in range(count)]
    times = [int(rng.integers(len(episode) - 1)) for episode in picks]
    observation = torch.stack([e["observation"][t] for e, t in zip(picks, times, strict=True)])
    action = torch.stack([e["action"][t + 1] for e, t in zip(picks, times, strict=True)])
    return observation, action
