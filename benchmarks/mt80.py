"""Learn many tasks with one world model and one policy each, and print the table.

    python benchmarks/mt80.py                    # eight real tasks, no data, no download, no GPU
    python benchmarks/mt80.py --seeds 3          # three seeds, one after the other on two cores
    python benchmarks/mt80.py --preset smoke     # the same path in under a minute
    python benchmarks/mt80.py --preset published --data DIR --checkpoint FILE --device cuda \
        --precision bf16 --cuda-graphs

Everything goes to runs/<name>/: config.json, report.md, scores.csv, plots and, per seed, networks
and logs. An interrupted run continues where it stopped when the same command is given again.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

HERE = Path(__file__).resolve().parent
PUBLISHED = (  # options of the published presets alone
    *("data", "checkpoint", "population", "updates", "batch_size", "precision", "compile"),
    *("cuda_graphs", "size", "pretrain_updates", "pretrain_batch", "episodes", "plan_episodes"),
    "plan_samples",
)


@dataclass(frozen=True)
class Arguments:
    """Learn many tasks with one world model and one first-order policy each; print the scores.

    Results go to OUT/NAME: report.md, scores.csv, plots, config.json and one folder per seed with
    its networks and logs. Give the same command again to continue an interrupted run.
    """

    preset: Literal["quick", "smoke", "published", "published-pretrain"] = "quick"
    """What to run.

    quick: eight real tasks from no data, under a quarter of an hour a seed on two cores. smoke:
    the same, tiny. published: the paper's policies from its data and world model.
    published-pretrain: the world model as well, from the data.
    """
    tasks: tuple[str, ...] = ()
    """Tasks instead of the preset's, by name; the published presets take all by default."""
    seeds: int = 1
    """Number of seeds (0, 1, ...).

    A seed takes two cores, one per suite; further cores run further seeds.
    """
    models: Literal["suite", "shared"] | None = None
    """Whether every suite has a world model of its own (the default) or all share one."""
    rounds: int | None = None
    """Rounds of {improve, collect} instead of the preset's."""
    budget_minutes: float | None = None
    """Stop learning after so many minutes per seed, schedules included; evaluation comes on top."""
    device: str = "cpu"
    """Where networks and data live: cpu, cuda, cuda:1, ..."""
    out: Path = Path("runs")
    """Folder of all runs."""
    name: str | None = None
    """Folder of this run; the preset's name by default."""
    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Seeds (published: populations) that run at once; by default as many as cores allow."""
    population: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Published presets: policies learned at once, at most; by default as many as memory allows."""
    data: Path | None = None
    """Published presets: folder of chunk_*.pt files, or of a converted dataset."""
    checkpoint: Path | None = None
    """published: file of the world model (TD-MPC2, PWM or our own)."""
    suite: Literal["mt30", "mt80"] = "mt80"
    """Published presets: which tasks data and model have."""
    updates: int = 10_000
    """Published presets: updates of each policy."""
    batch_size: int = 512
    """Published presets: imagined starts of each update."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Published presets: of matrix products in updates of world model and policies; tf32: a GPU's.

    A run that is continued must keep it: it is among the settings in config.json.
    """
    compile: bool = False
    """Published presets: compile updates of policies; needs a C++ compiler, and some minutes.

    As --cuda-graphs it changes numbers by rounding only, so a run may be continued with or without.
    """
    cuda_graphs: bool = False
    """Published presets: replay updates of policies as CUDA graphs; without a GPU a warning."""
    size: int = 48
    """published-pretrain: size of the world model, 1, 5, 19, 48 or 317."""
    pretrain_updates: int = 10_000_000
    """published-pretrain: updates of the world model."""
    pretrain_batch: int = 1024
    """published-pretrain: windows of each."""
    episodes: int = 10
    """Published presets: episodes of each evaluation."""
    plan_episodes: int = 3
    """Published presets: episodes of each task that TD-MPC2 plans; 0: none.

    Its Q functions and policy prior come with the world model's file.
    """
    plan_samples: int = 512
    """Published presets: candidates of each of these plans."""


def main() -> None:
    """Run the benchmark."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    sys.path.insert(0, str(HERE))
    from command_line import command
    from files import run_path

    with command():
        # before the run: what the report lacks shows at once
        from reporting.report import write_report

        folder = run_path(arguments.out, arguments.name or arguments.preset)
        begin = time.perf_counter()
        if arguments.preset.startswith("published"):
            from paper.offline import run_published as run
        else:
            run = _quick
        rows = run(arguments, folder)
        minutes, given = (time.perf_counter() - begin) / 60.0, " ".join(sys.argv)
        suite = arguments.suite.upper()
        print(write_report(folder, rows, minutes=minutes, command=given, benchmark=suite))


def _quick(arguments: Arguments, folder: Path) -> list[dict[str, Any]]:
    """Learn from no data."""
    from command_line import refused
    from files import in_folder
    from quick.recipe import PRESETS, chosen_tasks

    preset = PRESETS[arguments.preset]
    if arguments.tasks:
        preset = replace(preset, tasks=arguments.tasks)
    if arguments.rounds is not None:
        preset = replace(preset, rounds=arguments.rounds)
    preset = replace(preset, models=arguments.models or preset.models)
    _check(arguments, preset)
    with refused("--tasks"):
        preset = replace(preset, tasks=tuple(task.name for task in chosen_tasks(preset)))
    budget = arguments.budget_minutes
    with in_folder(folder, {"preset": dataclasses.asdict(preset), "budget_minutes": budget}):
        return _run_seeds(arguments, preset, folder)


def _check(arguments: Arguments, preset: Any) -> None:
    from command_line import check_counts, check_device, check_once, flag

    check_counts(arguments, "seeds", "rounds", "jobs")
    check_once("--tasks", preset.tasks)
    check_device(arguments.device)
    if alien := [flag(n) for n in PUBLISHED if getattr(arguments, n) != getattr(Arguments, n)]:
        raise SystemExit(f"{', '.join(alien)} must be left out with --preset {arguments.preset}")
    if arguments.budget_minutes is not None and arguments.budget_minutes <= 0:
        raise SystemExit(f"--budget-minutes must be positive, got {arguments.budget_minutes}")


def _run_seeds(arguments: Arguments, preset: Any, folder: Path) -> list[dict[str, Any]]:
    from tqdm import tqdm

    from pwm_sdk.runs import JobPool, cores

    parts = _parts(preset, cores())
    joined = preset.models == "shared" and len(parts) > 1
    crews = [list(range(len(parts)))] if joined else [[part] for part in range(len(parts))]
    at_once = arguments.jobs * len(parts) if arguments.jobs else cores()
    quiet = 0.2 if sys.stderr.isatty() else 60.0
    layout = "{desc} {percentage:3.0f}%|{bar:30}| {elapsed}<{remaining}{postfix}"
    units = [(seed, crew) for seed in range(arguments.seeds) for crew in crews]
    bars = [
        tqdm(
            total=1.0,
            desc=f"seed {seed}" if joined else f"seed {seed} {parts[crew[0]]}",
            position=unit,
            mininterval=quiet,
            bar_format=layout,
        )
        for unit, (seed, crew) in enumerate(units)
    ]
    try:
        with (
            tempfile.TemporaryDirectory() as meeting,
            JobPool(_workers(at_once, units), errors=folder) as pool,
        ):
            news = pool.news()
            work = [
                pool.submit(
                    run_part,
                    preset,
                    seed,
                    parts,
                    part,
                    folder,
                    arguments,
                    f"{meeting}/{seed}" if joined else None,
                    (news, unit),
                    name=f"seed {seed} {parts[part]}",
                )
                for unit, (seed, crew) in enumerate(units)
                for part in crew
            ]
            pool.follow(work, news, lambda told: _show(bars, *told))
    finally:
        for bar in bars:
            bar.close()
    return [row for job in work for row in job.result()]


def _parts(preset: Any, cores: int) -> list[str]:
    """Name the shares of a seed, each the work of one process."""
    from quick.recipe import split_tasks

    return [
        "+".join(dict.fromkeys(task.suite for task in share))
        for share in split_tasks(preset, cores)
    ]


def _workers(at_once: int, units: list[tuple[int, list[int]]]) -> int:
    """Count the processes: a crew that shares a model runs together or not at all."""
    crew = len(units[0][1])
    return crew * max(1, min(len(units), at_once // crew))


def _show(bars: list[Any], unit: int, share: float, status: str) -> None:
    bars[unit].set_postfix_str(status, refresh=False)
    bars[unit].update(max(0.0, min(share, 1.0) - bars[unit].n))


def run_part(
    preset: Any,
    seed: int,
    parts: list[str],
    part: int,
    folder: Path,
    arguments: Arguments,
    meeting: str | None,
    news: tuple[Any, int],
) -> list[dict[str, Any]]:
    """Run one process's share of one seed; those that share a model meet at a file."""
    sys.path.insert(0, str(HERE))
    import torch
    import torch.distributed as dist

    from quick.stages import SeedRun

    torch.set_num_threads(1)
    if meeting is not None:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=part, world_size=len(parts)
        )

    queue, unit = news

    def progress(share: float, status: str) -> None:
        if part == 0 or meeting is None:
            queue.put((unit, share, status))

    budget = None if arguments.budget_minutes is None else 60.0 * arguments.budget_minutes
    own = folder / f"seed{seed}" / parts[part]
    run = SeedRun(
        preset,
        seed,
        len(parts),
        part,
        own,
        device=arguments.device,
        budget=budget,
        progress=progress,
    )
    try:
        return run.run()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
