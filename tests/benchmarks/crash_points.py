"""Kills a small run at each of its writes, runs it again, and prints what came out.

    python tests/benchmarks/crash_points.py FOLDER POINTS

Prints JSON: for each point, where it was killed, the scores and the readings after the run that
followed, and the files that were left. The first is of a run that was not killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import gymnasium
import numpy as np
import torch

import quick.recipe
from pwm_sdk import MT80, RoundConfig, Task, make_gym, register_task
from pwm_sdk.checkpoints import writing
from quick.recipe import PRESETS
from quick.stages import SeedRun

PRESET = replace(
    PRESETS["smoke"],
    tasks=("cartpole-swingup",),
    rounds=2,
    save_every=1,
    select_episodes=2,
    plan_episodes=0,
    cloning_updates=2,
    rounds_config=RoundConfig(updates=3, first_updates=3),
)
OWN = replace(MT80["cartpole-swingup"], name="drift", episode_length=60, action_repeat=1)


class Drift(gymnasium.Env):
    """A point that drifts with the action, from the same place whatever the seed.

    A resumed run draws other starts where there are any; here it must equal one in a piece.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OWN.observation_dim,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (OWN.action_dim,))

    def reset(self, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(**settings)
        self.place = np.linspace(-1.0, 1.0, OWN.observation_dim)
        return self.place.copy(), {}

    def step(self, action: Any) -> Any:
        self.place = 0.95 * self.place + 0.1 * float(action[0])
        return self.place.copy(), float(np.exp(-np.abs(self.place).sum())), False, False, {}


def counted(owner: Any, name: str, count: Callable[[str], None]) -> None:
    """Let a function tell of its calls."""
    function = getattr(owner, name)

    def call(*args: Any, **settings: Any) -> Any:
        count(name)
        return function(*args, **settings)

    setattr(owner, name, call)


def work(folder: Path, kill_at: int) -> list[str]:
    """Run, and die at a write; return what was written where it is not reached."""
    done: list[str] = []

    def count(what: str) -> None:
        done.append(what)
        if len(done) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in (
        (Path, "replace"),
        (Path, "unlink"),
        (shutil, "rmtree"),
        (torch, "save"),
        (writing, "_header"),
    ):
        counted(owner, name, count)
    torch.set_num_threads(1)
    SeedRun(PRESET, 0, 1, 0, folder, device="cpu", budget=None, progress=lambda *_: None).run()
    return done


def forked(folder: Path, kill_at: int) -> list[str] | None:
    """Work in a process of its own; None where it was killed."""
    reading, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(work(folder, kill_at)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reading, "rb") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not text and not killed:
        raise RuntimeError(f"the run of {folder} failed")
    return json.loads(text) if text else None


def outcome(folder: Path) -> dict[str, Any]:
    """Return what a run has found, without times, and its files."""
    rows = json.loads((folder / "scores.json").read_text())["rows"]
    for row in rows:
        row.pop("ms_per_action", None)
    curve = json.loads((folder / "curve.json").read_text())["curve"]
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    numbered = re.compile(r"(^|/)data/(rows|episodes)-\d+\.")  # by the number of saves
    return {
        "rows": rows,
        "curve": [{**point, "seconds": None} for point in curve],
        "rounds": len((folder / "rounds.csv").read_text().splitlines()),
        "files": [file for file in files if not numbered.search(file)],
        "count": len(files),
    }


def main() -> None:
    """Kill a run at some of its writes."""
    out, points = Path(sys.argv[1]), int(sys.argv[2])
    register_task(replace(OWN, index=-1), Drift)

    def make(task: Task, **settings: Any) -> Any:
        return make_gym(replace(OWN, index=task.index), **settings)

    quick.recipe.make_gym = make
    writes = forked(out / "whole", -1) or []
    found = [{"point": 0, "writes": len(writes), **outcome(out / "whole")}]
    late = {len(writes) - i for i in range(points // 2)}  # from the last save to the scores
    early = {1 + i * len(writes) // points for i in range(points - len(late))}
    for point in sorted(early | late):
        folder = out / str(point)
        if forked(folder, point) is not None:
            raise RuntimeError(f"write {point} was not reached")
        forked(folder, -1)
        found.append({"point": point, "what": writes[point - 1], **outcome(folder)})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
