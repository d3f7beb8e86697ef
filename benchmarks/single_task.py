"""Compare methods on single tasks under equal budgets, side by side, and print the table.

    python benchmarks/single_task.py                    # preset "quick"
    python benchmarks/single_task.py --preset smoke     # the same path, tiny
    python benchmarks/single_task.py --preset comparison --seeds 3
    python benchmarks/single_task.py --methods pwm sac --tasks walker-walk hopper-hop --seeds 5 \
        --budget-steps 1000000 --name million
    python benchmarks/single_task.py --plugin mine.py --methods mine ppo   # a method of your own

Everything goes to runs/<name>/: report.md, scores.csv, curves.png and one folder per job (task,
method, seed) with its curve and result. Jobs that are finished are not run again: give the same
command again after an interruption, or add methods, tasks and seeds to it.
"""

from __future__ import annotations

import sys
import time
import traceback
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent))
from command_line import check_counts, check_device, check_once, command
from files import in_folder, run_path
from pwm_sdk.runs import JobPool, cores

TASKS = {
    "quick": ("cartpole-swingup", "walker-stand"),
    "comparison": ("cartpole-swingup", "hopper-forward", "walker-walk", "mass-spring"),
    "paper": (
        "hopper-forward",
        "walker-walk",
        "quadruped-walk",
        "humanoid-forward",
        "muscle-humanoid",
    ),
    "smoke": ("cartpole-swingup",),
}
METHODS = ("pwm", "shac", "tdmpc2", "sac", "ppo", "dreamerv3", "random")
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"minutes": 1.25, "readings": 5, "reading_episodes": 2, "final_episodes": 6},
    "comparison": {"minutes": 1.0, "readings": 5, "reading_episodes": 2, "final_episodes": 6},
    "paper": {"steps": 1_000_000, "readings": 20, "scale": "published"},
    "smoke": {
        "steps": 300,
        "readings": 2,
        "reading_episodes": 1,
        "final_episodes": 1,
        "scale": "tiny",
    },
}
SEEDS = {"paper": 5}


@dataclass(frozen=True)
class Arguments:
    """Compare methods on single tasks under equal budgets.

    Results go to OUT/NAME. Give the same command again to continue an interrupted comparison.
    """

    preset: Literal["quick", "comparison", "paper", "smoke"] = "quick"
    """Budget of a job. quick: 75 seconds on 2 tasks. comparison: a minute on 4 tasks of 1 to 159
    actions. paper: a million steps on 5 tasks, networks and plans of published sizes, 5 seeds.
    smoke: a few hundred steps on a task."""
    methods: tuple[str, ...] = METHODS
    """Which methods, by name."""
    tasks: tuple[str, ...] = ()
    """Which tasks, by name, instead of the preset's."""
    seeds: int | None = None
    """Number of seeds (0, 1, ...); the preset's by default: 5 for paper, else 1."""
    budget_minutes: float | None = None
    """Learning minutes of each job instead of the preset's budget; evaluation comes on top."""
    budget_steps: int | None = None
    """Environment steps of each job instead of the preset's budget; with both, the first to end."""
    jobs: int = 0
    """Jobs that run at once; 0: one per core."""
    device: str = "cpu"
    """Where networks and data live: cpu, cuda, cuda:1, ..."""
    baseline: str = "ppo"
    """Method whose best return on a task counts as 1."""
    plugin: tuple[Path, ...] = ()
    """Python files that enter methods and tasks of your own."""
    out: Path = Path("runs")
    """Folder of all runs."""
    name: str | None = None
    """Folder of this run; single-PRESET by default."""


class Entry(NamedTuple):
    """A job to run: what its process is told."""

    method: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """What the job is called in messages."""
        return f"{self.task} {self.method} seed {self.seed}"

    def folder(self, root: Path) -> Path:
        """Return where the job's files go."""
        return root / self.task / self.method / f"seed{self.seed}"


def main() -> None:
    """Run the comparison."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    with command():
        _run(arguments)


def _run(arguments: Arguments) -> None:
    """Run the jobs and write the report; what is wrong raises ValueError."""
    from single.comparison import write_comparison

    folder = run_path(arguments.out, arguments.name or f"single-{arguments.preset}")
    begin = time.perf_counter()
    settings, entries, absent = plan(arguments)
    with in_folder(folder, asdict(settings)):
        keep_absent(folder, absent)
        failed = run_all(entries, settings, folder, arguments)
    about = {
        "command": " ".join(sys.argv),
        "minutes": (time.perf_counter() - begin) / 60.0,
        "baseline": arguments.baseline,
    }
    if len(failed) < len(entries):
        print(write_comparison(folder, about))
    if failed:
        names = ", ".join("/".join(map(str, entry)) for entry in failed)
        raise SystemExit(f"{len(failed)} of {len(entries)} jobs failed (see error.txt): {names}")


def plan(arguments: Arguments) -> tuple[Any, list[Entry], dict[tuple[str, str], str]]:
    """Check the command line.

    Returns:
        The settings of a job, the jobs, and why a task and method that were asked for have none.

    Raises:
        ValueError: for unknown methods, tasks or files, senseless numbers, or a method that can
            learn none of the tasks.
    """
    from pwm_sdk import make_gym
    from single import find_method, load_plugins, obstacle
    from single.jobs import Settings

    load_plugins(arguments.plugin)
    count = SEEDS.get(arguments.preset, 1) if arguments.seeds is None else arguments.seeds
    if count < 1:
        raise ValueError(f"seeds must be at least 1, got {count}")
    check_counts(arguments, "jobs", least=0)
    check_device(arguments.device)
    check_once("--methods", arguments.methods)
    for name in (*arguments.methods, arguments.baseline):
        find_method(name)
    tasks = arguments.tasks or TASKS[arguments.preset]
    check_once("--tasks", tasks)
    absent = {}
    for name in tasks:
        env = make_gym(name)
        env.close()
        reasons = {method: obstacle(method, env.task) for method in arguments.methods}
        absent |= {(name, method): why for method, why in reasons.items() if why is not None}
    for name in arguments.methods:
        if all((task, name) in absent for task in tasks):
            why = absent[tasks[0], name]
            raise ValueError(f"tasks must hold one for {name}, got {', '.join(tasks)}: {why}")
    values = dict(PRESETS[arguments.preset])
    if arguments.budget_minutes is not None or arguments.budget_steps is not None:
        values.update(minutes=arguments.budget_minutes, steps=arguments.budget_steps)
    pairs = [(m, t) for t in tasks for m in arguments.methods if (t, m) not in absent]
    entries = [Entry(*pair, seed) for seed in range(count) for pair in pairs]
    return Settings(device=arguments.device, **values), list(dict.fromkeys(entries)), absent


def keep_absent(folder: Path, absent: dict[tuple[str, str], str]) -> None:
    """Note in each job's place why it is not run, and tell."""
    for (task, method), why in absent.items():
        place = folder / task / method
        place.mkdir(parents=True, exist_ok=True)
        (place / "absent.txt").write_text(why)
        print(f"{task} {method}: not run, {why}", file=sys.stderr, flush=True)


def run_all(entries: list[Entry], settings: Any, folder: Path, arguments: Arguments) -> list[Entry]:
    """Run the jobs that are not finished, each in a fresh process; return those that failed."""
    from single.jobs import load_result

    waiting = [e for e in entries if load_result(e.folder(folder), settings) is None]
    failed = []
    with JobPool(arguments.jobs or cores()) as pool:
        jobs = {
            pool.submit(
                run_job, entry, settings, entry.folder(folder), arguments.plugin, name=entry.name
            ): entry
            for entry in waiting
        }
        for left, job in zip(range(len(jobs) - 1, -1, -1), as_completed(jobs), strict=True):
            entry = jobs[job]
            result = load_result(entry.folder(folder), settings)
            if result is None:
                failed.append(entry)
            _tell(entry, result, left, job.exception())
    return failed


def run_job(entry: Entry, settings: Any, folder: Path, plugins: tuple[Path, ...]) -> None:
    """Run one job in this process; an error goes to error.txt in its folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").unlink(missing_ok=True)
        import torch

        from pwm_sdk import make_gym
        from single import find_method, load_plugins
        from single.jobs import Job

        torch.set_num_threads(1)
        load_plugins(plugins)
        job = Job(entry.method, make_gym(entry.task).task, entry.seed, settings, folder)
        find_method(entry.method)(job)
        job.finish()
    except Exception:  # whatever a user's method raises must not end the other jobs
        (folder / "error.txt").write_text(traceback.format_exc())


def _tell(
    entry: Entry, result: dict[str, Any] | None, left: int, error: BaseException | None
) -> None:
    """Print how a job ended; `error` is of its process."""
    what = "FAILED"
    if error is not None:
        what += f", {str(error).removeprefix(f'{entry.name}: ')}"
    if result is not None:
        what = f"return {result['return']:.0f} after {result['steps']:.0f} steps, "
        what += f"{result['seconds'] / 60.0:.1f} minutes"
    print(f"{entry.name}: {what} ({left} jobs left)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
