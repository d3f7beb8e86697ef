"""The stages of one seed: rounds, final evaluation, baselines. Each can resume."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pwm_sdk import MT80, GrowingBatch, Run, read_result, summarize, write_result
from pwm_sdk.runs import Interrupted, patience, stop_asked
from quick.final import FinalEvaluation
from quick.recipe import Preset, build, split_tasks

Progress = Callable[[float, str], None]


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
        self.preset, self.folder, self.budget, self.progress = preset, folder, budget, progress
        self.loop: GrowingBatch = build(preset, seed, parts, part, device)
        tasks = split_tasks(preset, parts)[part]
        self.final = FinalEvaluation(preset, seed, tasks, self.loop, device)
        settings = {"preset": dataclasses.asdict(preset), "budget": budget}
        self.rounds = Run(
            folder,
            self.loop,
            settings={**settings, "seed": seed, "part": [part, parts]},
            readings=preset.readings,
            save_every=preset.save_every,
            read=lambda: _summaries(self.final.reading()),
            wait=10.0,
        )

    def run(self) -> list[dict[str, Any]]:
        """Run what is not done yet and return the rows of the table.

        Raises:
            ValueError: if another process works in the folder, or a file in it is damaged or of
                another run.
            Interrupted: if the program is told to stop; what is done is kept.
        """
        done, run = self.folder / "scores.json", self.rounds.identity
        with self.rounds:
            found = read_result(done, run, remedy=f"choose another --name or delete {done}")
            if found is None:
                with patience():
                    self._train()
                found = {"rows": self._final()}
                self._export()
                self.rounds.write()
                write_result(done, found, run)  # the last: all else can be done again
        return found["rows"]

    def _train(self) -> None:
        minutes = None if self.budget is None else self.budget / 60.0
        self.progress(0.0, "seed data")
        try:
            self.rounds.train(
                rounds=self.preset.rounds,
                minutes=minutes,
                stop=lambda: stop_asked(),
                progress=self.progress,
            )
        except KeyboardInterrupt:
            raise Interrupted from None

    def _export(self) -> None:
        """Leave model, policies and data as files that the SDK opens by name."""
        self.loop.model.save(self.folder / "model.safetensors")
        for learner in self.loop.learners:
            name = "-".join(dict.fromkeys(MT80[task].suite for task in learner.tasks))
            learner.pwm.actor.save(self.folder / f"actors-{name}.safetensors")
            learner.pwm.critic.save(self.folder / f"critics-{name}.safetensors")
        self.loop.replay.save(self.folder / "data")

    def _final(self) -> list[dict[str, Any]]:
        seconds, curve, begin = self.rounds.seconds, self.rounds.curve, time.perf_counter()
        self.progress(1.0, "final evaluation")
        rows, episodes = self.final.policies()
        if curve and curve[-1]["round"] == self.loop.round:
            curve.pop()  # this one has more episodes
        self.rounds.add_reading(_summaries(episodes))
        seconds["evaluate"] += time.perf_counter() - begin
        for name, stage in (("baselines", self.final.baselines), ("planning", self.final.planning)):
            begin = time.perf_counter()
            self.progress(1.0, name)
            rows += stage()
            seconds[name] = time.perf_counter() - begin
        return rows


def _summaries(episodes: Sequence[Any]) -> list[dict[str, float]]:
    return [summarize(mine) for mine in episodes]
