"""What a run of the published protocol is given, checked before anything else happens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command_line import check_counts, check_device, check_once, flag, refused
from pwm_sdk import ReplayBuffer, Task, TaskSet, WorldModel, from_tdmpc2_chunks, model_size

DATA = "a folder with chunk_*.pt files, or with a dataset converted from such"
CHECKPOINT = "a file of TD-MPC2 or PWM, or a .safetensors of our own"
COUNTS = ("seeds", "updates", "batch_size", "episodes", "pretrain_updates", "pretrain_batch")
ELSEWHERE = ("rounds", "models", "budget_minutes")  # options of the quick preset


def check_inputs(arguments: Any, tasks: TaskSet) -> list[Task]:
    """Return the tasks to learn, or end with what is wrong with the command line.

    Args:
        arguments: the command line.
        tasks: all tasks of the data and the model.
    """
    pretrain = arguments.preset == "published-pretrain"
    for name in (*ELSEWHERE, *["checkpoint"] * pretrain):
        if getattr(arguments, name) is not None:
            raise SystemExit(f"{flag(name)} has no meaning for --preset {arguments.preset}")
    check_counts(arguments, *COUNTS, "jobs", "population")
    check_counts(arguments, "plan_episodes", least=0)
    check_counts(arguments, "plan_samples", least=8)  # an eighth are elites
    check_device(arguments.device)
    with refused("--tasks"):
        chosen = [tasks[name] for name in arguments.tasks] or list(tasks)
    check_once("--tasks", [task.name for task in chosen])
    _check_data(arguments)
    if pretrain:
        with refused("--size"):
            model_size(arguments.size, tasks)
    else:
        _check_checkpoint(arguments, tasks)
    return chosen


def open_data(path: Path, out: Path, tasks: TaskSet, chosen: Sequence[Task], rows: int) -> Path:
    """Return a dataset folder that has the chosen tasks: `path`, or its chunks converted to `out`.

    Args:
        path: what `--data` names.
        out: where a conversion goes, once.
        tasks: all tasks of the data.
        chosen: those that must be in it.
        rows: of a window, which every episode must hold.
    """
    store = path if (path / "manifest.json").exists() else out
    with refused(f"--data {path}"):
        if not (store / "manifest.json").exists():
            print(f"converting the chunks of {path} to {out}", file=sys.stderr)
            from_tdmpc2_chunks(path, out, tasks)
        held = ReplayBuffer.from_dataset(store, slice_len=2, batch_size=1).tasks
        if missing := [task.name for task in chosen if task.index not in held]:
            names = [task.name for task in tasks if task.index in held]
            raise ValueError(f"tasks must be among {', '.join(names)}, got {', '.join(missing)}")
        ids = [task.index for task in chosen]
        window = ReplayBuffer.from_dataset(store, ids, slice_len=rows, batch_size=1).sample()
        for name in ("observation", "action"):
            size, found = getattr(tasks, f"{name}_dim"), window[name].shape[-1]
            if found != size:
                raise ValueError(f"{name} must have {size} entries, got {found}")
    return store


def _check_data(arguments: Any) -> None:
    path: Path | None = arguments.data
    if path is None:
        raise SystemExit(f"--preset {arguments.preset} needs --data, {DATA}")
    if not path.is_dir():
        raise SystemExit(f"--data must be {DATA}, got {path}, which is no folder")
    if (path / "manifest.json").exists() or any(path.glob("chunk_*.pt")):
        return
    inside = sorted(entry.name for entry in path.iterdir())
    found = f"which holds {', '.join(inside[:5])}{', ...' * (len(inside) > 5)}"
    datasets = sorted(str(file.parent) for file in path.glob("*/*/data/manifest.json"))
    hint = f"; datasets below it: {', '.join(datasets)}" if datasets else ""
    raise SystemExit(
        f"--data must be {DATA}, got {path}, {found if inside else 'which is empty'}{hint}"
    )


def _check_checkpoint(arguments: Any, tasks: TaskSet) -> None:
    path: Path | None = arguments.checkpoint
    if path is None:
        raise SystemExit(
            f"--preset published needs --checkpoint, {CHECKPOINT}; to train a world model from the "
            f"data take --preset published-pretrain"
        )
    if not path.is_file():
        raise SystemExit(f"--checkpoint must be {CHECKPOINT}, got {path}, which is no file")
    with refused(f"--checkpoint {path}"):
        WorldModel.from_checkpoint(path, tasks=tasks)
