"""The files of a run: written whole or not at all, and never of two settings in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pwm_sdk import write_atomic


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, lambda part: part.write_text(json.dumps(value, indent=1) + "\n"))


def keep_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the settings beside the results, or refuse where results of other settings lie."""
    path = folder / "config.json"
    config = json.loads(json.dumps(config))
    others = path.exists() and json.loads(path.read_text()) != config
    # A conversion of data belongs to no settings, and a run that ended before it began has no more.
    if others and {entry.name for entry in folder.iterdir()} - {path.name, "data"}:
        raise SystemExit(
            f"{folder} holds a run with other settings (see config.json): choose another --name"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, config)
