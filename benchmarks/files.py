"""The files of a run: written whole or not at all, and never of two settings in one folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pwm_sdk import lock_folder, read_json, read_result, write_json, write_result
from pwm_sdk.runs import keep_settings

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
    """Write the settings beside the results, or end where results of other settings lie."""
    try:
        keep_settings(folder, config, remedy=OTHERS)
    except ValueError as error:
        raise SystemExit(str(error)) from None


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
