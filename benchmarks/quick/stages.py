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

from files import write_json
from pwm_sdk import MT80, GrowingBatch, summarize, write_atomic
from quick.final import FinalEvaluation
from quick.recipe import Preset, build, plan_of, split_tasks

Progress = Callable[[float, str], None]


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
        parts: number of processes of the seed.
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
        self.final = FinalEvaluation(preset, seed, self.tasks, self.loop, device)
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
        self._point(self.final.reading())
        self.seconds["evaluate"] += time.perf_counter() - begin

    def _point(self, episodes: Sequence[Any]) -> None:
        scores = {t.name: summarize(e) for t, e in zip(self.tasks, episodes, strict=True)}
        seconds = self.seconds["collect"] + self.seconds["train"]
        self.curve.append({"updates": self.loop.updates, "seconds": seconds, "tasks": scores})

    def _final(self) -> list[dict[str, Any]]:
        begin = time.perf_counter()
        self.progress(1.0, "final evaluation")
        rows, episodes = self.final.policies()
        self._point(episodes)
        self.seconds["evaluate"] += time.perf_counter() - begin
        for name, stage in (("baselines", self.final.baselines), ("planning", self.final.planning)):
            begin = time.perf_counter()
            self.progress(1.0, name)
            rows += stage()
            self.seconds[name] = time.perf_counter() - begin
        return rows

    def _write_log(self, path: Path) -> None:
        names = list(dict.fromkeys(name for row in self.log for name in row))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.log)
