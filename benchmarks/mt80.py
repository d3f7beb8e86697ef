"""Learn many tasks with one world model and one policy each, from no data, and print the table.

    python benchmarks/mt80.py                          # preset "quick": eight real tasks, no
    download, no GPU
    python benchmarks/mt80.py --seeds 3                # three seeds, one after the other on two
    cores python benchmarks/mt80.py --preset smoke           # the same path in under a minute
    python benchmarks/mt80.py --tasks mw-reach cheetah-run --rounds 30

Everything goes to runs/<name>/: config.json, report.md, scores.csv, curves.png and, per seed, the
data set, the networks
and a log of every round. An interrupted run continues where it stopped when the same command is
given again.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

HERE = Path(__file__).resolve().parent
SETTINGS = {
    # Small networks gain nothing from a second thread; the second core has its own tasks or its
    # own seed.
    "OMP_NUM_THREADS": "1",
    # Processes of a seed meet on this machine.
    "GLOO_SOCKET_IFNAME": "lo",
    # Unless told otherwise, glibc returns large blocks to the kernel after every operation.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


@dataclass(frozen=True)
class Arguments:
    """Learn many tasks, from no data, with one world model and one first-order policy each.

    Prints the table of scores at the end.

    Results go to OUT/NAME: report.md, scores.csv, curves.png, config.json and one folder per seed
    with its data set, networks and log. Give the same command again to continue an interrupted run.
    """

    preset: Literal["quick", "smoke"] = "quick"
    """quick: eight real tasks, under a quarter of an hour a seed on two cores. smoke: tiny."""
    tasks: tuple[str, ...] = ()
    """Tasks instead of the preset's, by name.

    The 19 stock dm_control tasks of MT30 and the 50 of Meta-World (mw-...).
    """
    seeds: int = 1
    """Number of seeds (0, 1, ...).

    A seed takes two cores, one per suite; further cores run further seeds.
    """
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
    """Seeds that run at once; by default half the number of cores."""


def main() -> None:
    """Run the benchmark."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    sys.path.insert(0, str(HERE))
    from recipe import PRESETS, chosen_tasks

    preset = PRESETS[arguments.preset]
    if arguments.tasks:
        preset = replace(preset, tasks=arguments.tasks)
    if arguments.rounds is not None:
        preset = replace(preset, rounds=arguments.rounds)
    _check(arguments, preset.rounds)
    preset = replace(preset, tasks=tuple(task.name for task in chosen_tasks(preset)))
    folder = arguments.out / (arguments.name or arguments.preset)
    _keep_config(
        folder, {"preset": dataclasses.asdict(preset), "budget_minutes": arguments.budget_minutes}
    )
    from report import write_report  # before the run: what the report lacks shows at once

    begin = time.perf_counter()
    rows = _run_seeds(arguments, preset, folder)
    print(
        write_report(
            folder, rows, minutes=(time.perf_counter() - begin) / 60.0, command=" ".join(sys.argv)
        )
    )


def _check(arguments: Arguments, rounds: int) -> None:
    if arguments.seeds < 1:
        raise SystemExit(f"--seeds must be at least 1, got {arguments.seeds}")
    if rounds < 1:
        raise SystemExit(f"--rounds must be at least 1, got {rounds}")
    if arguments.budget_minutes is not None and arguments.budget_minutes <= 0:
        raise SystemExit(f"--budget-minutes must be positive, got {arguments.budget_minutes}")


def _keep_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the settings beside the results, or refuse where results of other settings lie."""
    from stages import write_json

    path = folder / "config.json"
    config = json.loads(json.dumps(config))
    if path.exists() and json.loads(path.read_text()) != config:
        raise SystemExit(
            f"{folder} holds a run with other settings (see config.json): choose another --name"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, config)


def _run_seeds(arguments: Arguments, preset: Any, folder: Path) -> list[dict[str, Any]]:
    from tqdm import tqdm

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    parts = _parts(preset, cores)
    jobs = max(1, min(arguments.seeds, arguments.jobs or cores // len(parts)))
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
    context = multiprocessing.get_context(
        "spawn"
    )  # a fresh process reads the settings of the allocator
    quiet = 0.2 if sys.stderr.isatty() else 60.0
    layout = "{desc} {percentage:3.0f}%|{bar:30}| {elapsed}<{remaining}{postfix}"
    bars = [
        tqdm(total=1.0, desc=f"seed {seed}", position=seed, mininterval=quiet, bar_format=layout)
        for seed in range(arguments.seeds)
    ]
    with (
        tempfile.TemporaryDirectory() as meeting,
        context.Manager() as manager,
        ProcessPoolExecutor(jobs * len(parts), mp_context=context) as executor,
    ):
        news = manager.Queue()
        work = [
            executor.submit(
                run_part, preset, seed, parts, part, folder, arguments, f"{meeting}/{seed}", news
            )
            for seed in range(arguments.seeds)
            for part in range(len(parts))
        ]
        while not all(job.done() for job in work) or not news.empty():
            _show(bars, news)
            if failed := next((job for job in work if job.done() and job.exception()), None):
                _stop(executor, failed)
        results = [job.result() for job in work]
    for bar in bars:
        bar.close()
    return [row for rows in results for row in rows]


def _parts(preset: Any, cores: int) -> list[str]:
    """Name the processes that share a seed: one per suite where there are cores for it."""
    from recipe import split_tasks

    return [
        "+".join(dict.fromkeys(task.suite for task in share))
        for share in split_tasks(preset, cores)
    ]


def _stop(executor: ProcessPoolExecutor, failed: Any) -> None:
    """End the other processes, which would wait for the failed one, and show its error."""
    for process in list(executor._processes.values()):
        process.terminate()
    failed.result()


def _show(bars: list[Any], news: Any) -> None:
    import queue

    try:
        seed, share, status = news.get(timeout=0.5)
    except queue.Empty:
        return
    bars[seed].set_postfix_str(status, refresh=False)
    bars[seed].update(max(0.0, min(share, 1.0) - bars[seed].n))


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch = threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True)
        watch.start()


def run_part(
    preset: Any,
    seed: int,
    parts: list[str],
    part: int,
    folder: Path,
    arguments: Arguments,
    meeting: str,
    news: Any,
) -> list[dict[str, Any]]:
    """Run one process's share of one seed."""
    sys.path.insert(0, str(HERE))
    import torch
    import torch.distributed as dist
    from stages import SeedRun

    _end_with_parent()
    torch.set_num_threads(1)
    if len(parts) > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=part, world_size=len(parts)
        )

    def progress(share: float, status: str) -> None:
        if part == 0:
            news.put((seed, share, status))

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
