"""The files of a run: written whole or not at all, and never of two settings in one folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pwm_sdk import (
    OtherRunError,
    lock_folder,
    read_json,
    read_result,
    run_identity,
    write_json,
    write_result,
)

__all__ = ["find_result", "in_folder", "keep_config", "keep_result", "run_path", "write_json"]

OTHERS = "choose another --name"


def run_path(out: Path, name: str) -> Path:
    """Return the folder of a run, or end where its name is a path."""
    if Path(name).name != name or name.startswith((".", "~")) or set("\\\0\n") & set(name):
        raise SystemExit(f"--name must be a name, not a path, got {name!r}")
    return out.expanduser() / name


@contextmanager
def in_folder(folder: Path, config: dict[str, Any]) -> Iterator[None]:
    """Hold a run's folder, and keep the settings in it; end where another command runs in it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_folder(folder))
        except ValueError as error:
            print(f"{error}: wait for it, or {OTHERS}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None
        keep_config(folder, config)
        yield


def keep_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the settings beside the results, or refuse where results of other settings lie."""
    path, run = folder / "config.json", run_identity(config)
    if not _holds_results(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_result(path, config, run)
        return
    try:
        held = read_result(path, run, remedy=OTHERS)
    except OtherRunError:
        reason = f"{folder} holds a run with other settings (see config.json): {OTHERS}"
        raise SystemExit(reason) from None
    except ValueError as error:
        raise SystemExit(str(error)) from None
    if held is None:
        raise SystemExit(f"{folder} holds results, but no config.json that says of what: {OTHERS}")
    if held != json.loads(json.dumps(config)):
        raise SystemExit(f"{path} must hold the settings of its hash, got others: {OTHERS}")


def _holds_results(folder: Path) -> bool:
    """Tell whether anything was learned in a folder.

    A conversion of data belongs to no settings, and a run that ended before it began has no more.
    """
    if not folder.exists():
        return False
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    return bool(names - {"config.json", "data", "error.txt"})


def keep_result(path: Path, result: dict[str, Any], run: dict[str, Any] | None) -> None:
    """Write a result with the run that it belongs to; None: to none."""
    if run is None:
        write_json(path, result)
    else:
        write_result(path, result, run)


def find_result(path: Path, run: dict[str, Any] | None) -> dict[str, Any] | None:
    """Read a result, None where there is none; one of another run ends the program."""
    remedy = f"delete it, or {OTHERS}"
    if run is not None:
        return read_result(path, run, remedy=remedy)
    if not path.exists():
        return None
    return {k: v for k, v in read_json(path, dict, remedy=remedy).items() if k != "run"}
