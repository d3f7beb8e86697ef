"""A run: a loop in a folder of its own, trained to a budget, read, kept and continued."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist

from pwm_sdk.calls import checked, least, outside
from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.checkpoints.locks import FolderLock, lock_folder
from pwm_sdk.checkpoints.reading import OtherRunError, load_state
from pwm_sdk.checkpoints.runs import run_identity, write_result
from pwm_sdk.checkpoints.writing import save_state
from pwm_sdk.checks import file_path, positive, whole
from pwm_sdk.contract.agents import ActingPolicy, Loop, Report
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.runs.logger import Logger
from pwm_sdk.runs.report.plots import subplots
from pwm_sdk.runs.stopping import handled_signals, patience, stop_asked
from pwm_sdk.runs.tables import write_csv
from pwm_sdk.training.evaluate import evaluate_members

__all__ = ["Run"]

REMEDY = "delete the folder, or choose another one"
Point = dict[str, Any]


@checked(readings=least(0), episodes=least(1), save_every=least(1), wait=least(0.0))
class Run:
    """Trains a loop in a folder, to a budget, and goes on where it stopped.

    The folder holds `curve.json` (readings), `rounds.csv` (a row per round), the two newest
    checkpoints and, once the budget is spent, `policy.safetensors`, or one file for each of several
    tasks (`policy-TASK.safetensors`), which `ObservationPolicy.load` opens anywhere. All of it is
    written between rounds, each file whole or not at all. Whoever makes the same run again
    continues it: with all counters, networks, data and random states, so that only what the
    environments draw differs from a run in one piece, and two that continue from one checkpoint
    are equal to the bit (on a GPU: not seen).

    In a process group of `torch.distributed` each process has a folder of its own, and all of them
    train the same number of rounds.

    Args:
        folder: of this run alone.
        loop: what learns, such as `online_pwm(...)` or an `AgentLoop`.
        settings: what else tells it from other runs, as JSON values. With the loop's code and names
            it is in each file, and a folder of other ones is refused. A `GrowingBatch` that no
            recipe made has no code, and an `AgentLoop`'s knows no networks: here is their place.
        readings: readings of the policy on the way, spread evenly over the budget, beside one
            before any learning and one at the end; 0: none at all.
        episodes: episodes of a reading, in each environment.
        seed: of these episodes' start states, which are the same in all readings.
        save_every: rounds between two checkpoints.
        logger: gets the row of each round and the mean return of each reading, by updates.
        read: what takes a reading, a summary of episodes for each of the loop's names; None: the
            policy plays in the loop's `test_pool`, if it has one.
        wait: seconds to wait for another process that holds the folder.

    Attributes:
        curve: readings: round, updates, steps, learning seconds, and by name what `summarize` says
            of the episodes.
        log: rows of the rounds.
        seconds: spent so far, on "collect", "train" and "evaluate"; those of earlier calls count.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        loop: Loop,
        *,
        settings: object = None,
        readings: int = 10,
        episodes: int = 3,
        seed: int = 1_000_000,
        save_every: int = 5,
        logger: Logger | None = None,
        read: Callable[[], Sequence[Mapping[str, float]]] | None = None,
        wait: float = 0.0,
    ) -> None:
        self.folder, self.loop = file_path(folder=folder).expanduser().absolute(), loop
        self.readings, self.episodes, self.seed = readings, episodes, seed
        self.save_every, self.logger, self.wait, self._read = save_every, logger, wait, read
        known = {"loop": loop.code, "names": list(loop.names), "more": settings}
        self.identity = run_identity(known)
        self.seconds: dict[str, float] = {"collect": 0.0, "train": 0.0, "evaluate": 0.0}
        self.curve: list[Point] = []
        self.log: list[dict[str, float]] = []
        self._begun = False
        self._lock: FolderLock | None = None
        self._stack = ExitStack()

    @property
    def policy(self) -> ActingPolicy:
        """The policy learned so far."""
        return self.loop.policy()

    def __enter__(self) -> Self:
        """Hold the folder, so that no other process uses it until the `with` block ends."""
        self._lock = self._stack.enter_context(lock_folder(self.folder, wait=self.wait))
        return self

    def __exit__(self, *error: object) -> None:
        self._lock = None
        self._stack.close()

    def train(
        self,
        *,
        rounds: int | None = None,
        steps: int | None = None,
        updates: int | None = None,
        minutes: float | None = None,
        stop: Callable[[], bool] | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> Self:
        """Train until the first of these budgets is spent, counted from the run's beginning.

        Exploration and learning rates follow the share of the budget that is spent. Ctrl-C lets the
        round end, keeps a checkpoint and raises `KeyboardInterrupt`; a second one does so at once.

        Args:
            rounds: of the loop.
            steps: of environments, all together.
            updates: of the loop.
            minutes: of learning: updates and the collection of data, not evaluation, in all calls
                together.
            stop: asked after each round whether to end as after Ctrl-C.
            progress: called after each round with the share of the budget that is spent, and words.

        Returns:
            The run.

        Raises:
            ValueError: if there is no budget, the folder is in use, or a file is damaged or of
                another run.
            KeyboardInterrupt: if it is asked to stop; what is done is kept.
        """
        whole(1, rounds=rounds, steps=steps, updates=updates)
        budget = {"round": rounds, "steps": steps, "updates": updates}
        given = {name: value for name, value in budget.items() if value is not None}
        if minutes is not None:
            positive(minutes=minutes)
        if not given and minutes is None:
            raise ValueError("rounds, steps, updates or minutes must be given, got none")
        with ExitStack() as stack:
            if self._lock is None:
                stack.enter_context(self)
            asked = stack.enter_context(_signals())
            self._begin()
            stops = [asked] if stop is None else [asked, stop]
            self._rounds(lambda: self._share(given, minutes), stops, progress)
        return self

    def save(self) -> None:
        """Keep the state between two rounds; the two newest checkpoints stay.

        Raises:
            ValueError: if the folder was removed meanwhile.
        """
        if self._lock is not None:
            self._lock.check()
        folder = self.folder / f"checkpoint-{self.loop.round:05d}"
        self.loop.save_data(folder / "data")
        state = {
            "loop": self.loop.state_dict(),
            "seconds": self.seconds,
            "curve": self.curve,
            "log": self.log,
        }
        save_state(folder / "state.pt", state, self.identity)
        self.write()
        for _, old in self._checkpoints()[:-2]:
            shutil.rmtree(old)

    def write(self) -> None:
        """Write the tables that show how far the run is."""
        left_out = sum(row.get("left_out", 0) for row in self.log)
        found = {"curve": self.curve, "seconds": self.seconds, "left_out": int(left_out)}
        write_result(self.folder / "curve.json", found, self.identity)
        write_csv(self.folder / "rounds.csv", self.log)

    def add_reading(self, summaries: Sequence[Mapping[str, float]]) -> None:
        """Add a point to the curve.

        Args:
            summaries: of `summarize`, one for each of the loop's names.
        """
        if len(summaries) != len(self.loop.names):
            count = len(self.loop.names)
            raise ValueError(f"summaries must have {count} entries, got {len(summaries)}")
        tasks = {n: dict(found) for n, found in zip(self.loop.names, summaries, strict=True)}
        spent = self.seconds["collect"] + self.seconds["train"]
        self.curve.append({**self._counts(), "seconds": spent, "tasks": tasks})
        if self.logger is not None:
            returns = {f"return/{name}": found["return"] for name, found in tasks.items()}
            self.logger.log(returns, self.loop.updates)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Draw the readings over environment steps: mean return, shaded down to the worst episode.

        It needs the extra `[report]`.

        Args:
            path: the image; None: `curve.png` in the folder.

        Returns:
            The image's path.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        file = self.folder / "curve.png" if path is None else file_path(path=path)
        figure, ((axes,),) = subplots(size=(6.0, 3.5))
        axes.set(xlabel="environment steps", ylabel="return")
        steps = [point["steps"] for point in self.curve]
        for name in self.loop.names:
            mine = [point["tasks"][name] for point in self.curve]
            mean = [reading["return"] for reading in mine]
            worst = [reading["return_min"] for reading in mine]
            (line,) = axes.plot(steps, mean, label=name)
            axes.fill_between(steps, worst, mean, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.legend(frameon=False)
        figure.tight_layout()
        kind = file.suffix[1:] or "png"
        write_atomic(file, lambda part: figure.savefig(part, format=kind, dpi=120))
        return file

    def _begin(self) -> None:
        """Open the newest checkpoint, or collect what the first round learns from."""
        if self._begun:
            return
        newest, state = self._open_newest()
        common = int(_agree(float(newest), dist.ReduceOp.MIN))
        if common >= 0:
            if state is None or common != newest:  # another process has not come as far
                state = self._open(common)
            self.loop.load_state_dict(state["loop"])
            self.seconds, self.curve, self.log = state["seconds"], state["curve"], state["log"]
        else:
            begin = time.perf_counter()
            outside(self.loop.begin)()
            self.seconds["collect"] += time.perf_counter() - begin
        self._begun = True

    def _open_newest(self) -> tuple[int, Any]:
        """Open the newest checkpoint that is whole: its round, or -1 without one, and its state."""
        damage: ValueError | OSError | None = None
        for number, path in reversed(self._checkpoints()):
            if not (path / "state.pt").exists():  # it was not written to its end
                continue
            try:
                state = self._open(number)
            except OtherRunError:
                raise
            except (ValueError, OSError) as error:
                damage = error if damage is None else damage
                continue
            if damage is not None:
                what = f"{damage}: it continues from {path.name} instead"
                print(what, file=sys.stderr, flush=True)
            return number, state
        if damage is not None:
            raise ValueError(f"{damage}; no older checkpoint is whole: delete {self.folder}")
        return -1, None

    def _checkpoints(self) -> list[tuple[int, Path]]:
        """Return the checkpoints by their rounds; what else is called alike is left alone."""
        found = []
        for path in self.folder.glob("checkpoint-*"):
            number = path.name.removeprefix("checkpoint-")
            if number.isdecimal():
                found.append((int(number), path))
        return sorted(found)

    def _open(self, number: int) -> Any:
        """Read the data of a checkpoint and return its state."""
        folder = self.folder / f"checkpoint-{number:05d}"
        state = load_state(folder / "state.pt", self.identity, remedy=REMEDY)
        self.loop.load_data(folder / "data")
        return state

    def _counts(self) -> dict[str, int]:
        loop = self.loop
        return {"round": loop.round, "updates": loop.updates, "steps": loop.steps}

    def _share(self, budget: Mapping[str, int], minutes: float | None) -> float:
        """Share of the budget that is spent, the same number in every process."""
        counts = self._counts()
        shares = [counts[name] / most for name, most in budget.items()]
        if minutes is not None:
            spent = self.seconds["collect"] + self.seconds["train"]
            shares.append(spent / (60.0 * minutes))
        return _agree(max(shares), dist.ReduceOp.MAX)

    def _rounds(
        self,
        spent: Callable[[], float],
        stops: Sequence[Callable[[], bool]],
        progress: Callable[[float, str], None] | None,
    ) -> None:
        """Train until all of the budget is spent, and take the readings that are due."""
        share = spent()
        if not self.curve:
            self._reading()
        passed = self._passed(share)
        while share < 1.0:
            self._round(min(share, 1.0))
            share = spent()
            if self._passed(share) > passed and share < 1.0:
                self._reading()
                passed = self._passed(share)
            if progress is not None:
                outside(progress)(share, self._words())
            stop = _agree(float(any(asked() for asked in stops)), dist.ReduceOp.MAX) > 0.0
            if stop or self.loop.round % self.save_every == 0:
                self.save()
            if stop:  # all of a group, or none
                raise KeyboardInterrupt
        if not self.curve or self.curve[-1]["round"] != self.loop.round:
            self._reading()
        self.save()
        self._save_policy()

    def _passed(self, share: float) -> int:
        """Number of readings at or before a share of the budget, which is rounded as a float."""
        return int(share * (self.readings + 1) + 1e-9)

    def _round(self, share: float) -> None:
        report: Report = outside(self.loop.run_round)(share)
        self.seconds["collect"] += report.collect_seconds
        self.seconds["train"] += report.train_seconds
        row = report.row(self.loop.names)
        self.log.append({"round": self.loop.round, "steps": self.loop.steps, **row})
        if self.logger is not None:
            self.logger.log(row, self.loop.updates)

    def _reading(self) -> None:
        """Let the policy play, where readings are asked for."""
        pool, begin = self.loop.test_pool, time.perf_counter()
        if not self.readings or (self._read is None and pool is None):
            return
        if self._read is not None:
            found = outside(self._read)()
        else:
            seeds = [self.seed + i for i in range(len(self.loop.names))]
            options: Any = {"tasks": self.loop.tasks, "seeds": seeds}
            found = evaluate_members(pool, self.policy, self.episodes, **options)  # pyright: ignore
        self.add_reading(found)
        self.seconds["evaluate"] += time.perf_counter() - begin

    def _save_policy(self) -> None:
        """Write the policy, of each task by itself, where it is its networks alone."""
        policy = self.policy
        if not isinstance(policy, ObservationPolicy) or not policy.is_plain:
            return
        if policy.population is None:
            policy.save(self.folder / "policy.safetensors")
            return
        for i, name in enumerate(self.loop.names):
            policy.member(i).save(self.folder / f"policy-{name}.safetensors")

    def _words(self) -> str:
        """Say in few words how far the run is."""
        words = f"round {self.loop.round}"
        if self.curve:
            returns = [summary["return"] for summary in self.curve[-1]["tasks"].values()]
            words += f", return {sum(returns) / len(returns):.1f}"
        return words


def _agree(value: float, operation: dist.ReduceOp.RedOpType) -> float:
    """Reduce a number over the processes of a group."""
    if not dist.is_initialized():
        return value
    number = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(number, operation)
    return float(number)


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C wait; yields what tells whether it came.

    Where the program handles it otherwise, that stays.
    """
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    with handled_signals([signal.SIGINT]), patience():
        yield stop_asked
