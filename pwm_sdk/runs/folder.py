"""The folder of a run: held by one process, and never of two settings."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pwm_sdk.calls import checked
from pwm_sdk.checkpoints.locks import lock_folder
from pwm_sdk.checkpoints.reading import OtherRunError
from pwm_sdk.checkpoints.runs import read_result, run_identity, write_result
from pwm_sdk.checks import file_path

__all__ = ["keep_settings", "run_folder"]

SETTINGS = "config.json"
# A conversion of data belongs to no settings, and a run that ended before it began has no more.
NO_RESULTS = {SETTINGS, "data", "error.txt"}
REMEDY = "choose another folder"


@checked()
@contextlib.contextmanager
def run_folder(
    folder: str | os.PathLike[str], settings: Mapping[str, Any], *, remedy: str = REMEDY
) -> Iterator[Path]:
    """Hold the folder of a run as long as the `with` block lasts, with its settings in it.

    Args:
        folder: of the run; made where it is missing.
        settings: all that the outcome depends on, as JSON values.
        remedy: what to do where the folder is another run's, for the message.

    Yields:
        The folder.

    Raises:
        ValueError: if another process holds it, or it has results of other settings.
    """
    with lock_folder(folder) as lock:
        keep_settings(lock.folder, settings, remedy=remedy)
        yield lock.folder


@checked()
def keep_settings(
    folder: str | os.PathLike[str], settings: Mapping[str, Any], *, remedy: str = REMEDY
) -> None:
    """Write settings as `config.json` beside the results of a run, or refuse to mix two.

    Args:
        folder: of the run; made where it is missing.
        settings: all that the outcome depends on, as JSON values.
        remedy: what to do where the folder is another run's, for the message.

    Raises:
        OtherRunError: if the folder has results of other settings.
        ValueError: if it has results and no settings, or damaged ones.
    """
    place = file_path(folder=folder)
    path, run = place / SETTINGS, run_identity(settings)
    if not _holds_results(place):
        place.mkdir(parents=True, exist_ok=True)
        write_result(path, settings, run)
        return
    try:
        held = read_result(path, run, remedy=remedy)
    except OtherRunError:
        raise OtherRunError(
            f"{place} holds a run with other settings (see {SETTINGS}): {remedy}"
        ) from None
    if held is None:
        raise ValueError(f"{place} holds results, but no {SETTINGS} that says of what: {remedy}")
    if held != json.loads(json.dumps(settings)):
        raise ValueError(f"{path} must hold the settings of its hash, got others: {remedy}")


def _holds_results(folder: Path) -> bool:
    if not folder.exists():
        return False
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    return bool(names - NO_RESULTS)
