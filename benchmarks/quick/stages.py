"""The stages of one seed: seed data, rounds, final evaluation, baselines.

Each stage leaves a file and can resume.
"""

from __future__ import annotations

import csv
import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pwm_sdk import (
    MT80,
    FolderLock,
    GrowingBatch,
    OtherRunError,
    load_state,
    lock_folder,
    read_result,
    run_identity,
    save_state,
    summarize,
    write_atomic,
    write_result,
)
from pwm_sdk.runs import Interrupted, patience, stop_asked
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

    Every file says which run it is of; files of another one, or damaged ones, are refused by name.

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
        settings = {"preset": dataclasses.asdict(preset), "budget": budget}
        self.identity = run_identity(
            settings, seed=seed, part=[part, parts], tasks=[task.name for task in self.tasks]
        )
        self._lock: FolderLock | None = None
        self.loop: GrowingBatch = build(preset, seed, parts, part, device)
        self.seconds: dict[str, float] = {"collect": 0.0, "train": 0.0, "evaluate": 0.0}
        self.final = FinalEvaluation(preset, seed, self.tasks, self.loop, device)
        self.curve: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []

    def run(self) -> list[dict[str, Any]]:
        """Run what is not done yet and return the rows of the table.

        Raises:
            ValueError: if another process works in the folder, or a file in it is damaged or of
                another run.
            Interrupted: if the program is told to stop; what is done is kept.
        """
        done = self.folder / "scores.json"
        with lock_folder(self.folder, wait=10.0) as self._lock:
            found = read_result(
                done, self.identity, remedy=f"choose another --name or delete {done}"
            )
            if found is None:
                self._resume()
                with patience():
                    self._rounds()
                found = {"rows": self._final()}
                self._export()
                self._write_progress()
                write_result(done, found, self.identity)  # the last: all else can be done again
        return found["rows"]

    def save(self) -> None:
        """Save networks, optimisers, random states and data; keep the two newest checkpoints."""
        if self._lock is not None:
            self._lock.check()
        folder = self.folder / f"checkpoint-{self.loop.round:05d}"
        self.loop.replay.save(folder / "data")
        state = {
            "loop": self.loop.state_dict(),
            "seconds": self.seconds,
            "curve": self.curve,
            "log": self.log,
        }
        save_state(folder / "state.pt", state, self.identity)
        self._write_progress()
        for old in sorted(self.folder.glob("checkpoint-*"))[:-2]:
            shutil.rmtree(old)

    def _write_progress(self) -> None:
        """Write what shows how far the run is."""
        table: dict[str, Any] = {"curve": self.curve, "seconds": self.seconds}
        table["left_out"] = self.loop.left_out
        write_result(self.folder / "curve.json", table, self.identity)
        write_atomic(self.folder / "rounds.csv", self._write_log)

    def _export(self) -> None:
        """Leave model, policies and data as files that the SDK opens by name."""
        self.loop.model.save(self.folder / "model.safetensors")
        for learner in self.loop.learners:
            name = "-".join(dict.fromkeys(MT80[task].suite for task in learner.tasks))
            learner.pwm.actor.save(self.folder / f"actors-{name}.safetensors")
            learner.pwm.critic.save(self.folder / f"critics-{name}.safetensors")
        self.loop.replay.save(self.folder / "data")

    def _resume(self) -> None:
        newest, state = self._open_newest()
        common = int(agree(float(newest), dist.ReduceOp.MIN))
        if common >= 0:
            if state is None or common != newest:  # another process has not come as far
                state = self._open(common)
            self.loop.load_state_dict(state["loop"])
            self.seconds, self.curve, self.log = state["seconds"], state["curve"], state["log"]
            return
        begin = time.perf_counter()
        self.progress(0.0, "seed data")
        self.loop.collect_seed([plan_of(task, self.preset).seed_episodes for task in self.tasks])
        self.seconds["collect"] += time.perf_counter() - begin

    def _open_newest(self) -> tuple[int, Any]:
        """Open the newest checkpoint that is whole: its round, or -1 without one, and its state."""
        damage: ValueError | OSError | None = None
        for path in sorted(self.folder.glob("checkpoint-*/state.pt"), reverse=True):
            number = int(path.parent.name.split("-")[1])
            try:
                state = self._open(number)
            except OtherRunError:
                raise
            except (ValueError, OSError) as error:
                damage = error if damage is None else damage
                continue
            if damage is not None:
                what = f"{damage}: it continues from {path.parent.name} instead"
                print(what, file=sys.stderr, flush=True)
            return number, state
        if damage is not None:
            raise ValueError(f"{damage}; no older checkpoint is whole: delete {self.folder}")
        return -1, None

    def _open(self, number: int) -> Any:
        """Read the data of a checkpoint and return its state."""
        folder = self.folder / f"checkpoint-{number:05d}"
        state = load_state(folder / "state.pt", self.identity, remedy="it cannot be used")
        self.loop.replay.load(folder / "data")
        return state

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
            row["left_out"] = report.left_out
            for name, column in {"train_return": report.train_return, **report.alarms}.items():
                row.update(
                    {f"{name}/{t.name}": float(v) for t, v in zip(self.tasks, column, strict=True)}
                )
            self.log.append(row)
            if share * (self.preset.readings + 1) >= len(self.curve) + 1:
                self._reading()
            gap = np.abs(report.alarms["gap"]).max()
            self.progress(share, f"round {self.loop.round}, worst gap {gap:.1f}")
            stop = agree(float(stop_asked()), dist.ReduceOp.MAX) > 0.0  # all of a seed, or none
            if stop or self.loop.round % self.preset.save_every == 0:
                self.save()
            if stop:
                raise Interrupted
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
        run = {"run": self.identity["settings"], "seed": self.seed}
        names = list(dict.fromkeys(name for row in [run, *self.log] for name in row))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(run | row for row in self.log)
