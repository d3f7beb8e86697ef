"""The rows of a run's scores.csv: read, checked, written."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from pwm_sdk import MT80
from pwm_sdk.runs import write_csv
from pwm_sdk.runs.report import Row

TEXT_COLUMNS = ("task", "method")
REQUIRED = ("seed", *TEXT_COLUMNS)


def save_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Write scores.csv into `folder`; a row may lack columns that others have."""
    write_csv(folder / "scores.csv", rows)


def load_rows(folder: Path) -> list[Row]:
    """Read and check the rows of a run's scores.csv.

    Raises:
        ValueError: where there is none, or it is damaged.
    """
    path = folder / "scores.csv"
    if not path.is_file():
        what = "an unfinished run (give its command again)" if _is_run(folder) else "no run"
        raise ValueError(
            f"folder must hold a finished run with its scores.csv, got {what}: {folder}"
        )
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"columns of {path} must include {REQUIRED}, got none of {missing}")
        rows = [_parse(row, f"{path} line {reader.line_num}") for row in reader]
    check_rows(rows)
    return rows


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _parse(row: dict[str, str], place: str) -> Row:
    """Turn a line of scores.csv into a row; empty cells are left out."""
    parsed: Row = {}
    for name, text in row.items():
        if name is None or text is None:
            raise ValueError(f"cells must be one per column, got another number in {place}")
        if not text:
            continue
        try:
            parsed[name] = text if name in TEXT_COLUMNS else float(text)
        except ValueError:
            raise ValueError(f"{name} must be a number, got {text!r} in {place}") from None
    if not parsed.get("seed", 0.0).is_integer():
        raise ValueError(f"seed must be a whole number, got {row['seed']!r} in {place}")
    if "seed" in parsed:
        parsed["seed"] = int(parsed["seed"])
    return parsed


def check_rows(rows: Sequence[Row]) -> None:
    """Check what every table and plot relies on.

    Raises:
        ValueError: for no rows, a row without seed, task or method, an unknown task, a number that
            is not finite, or two rows of one seed, task and method.
    """
    if not rows:
        raise ValueError("rows must hold at least one score, got none")
    seen = set()
    for row in rows:
        missing = [name for name in REQUIRED if name not in row]
        if missing:
            raise ValueError(f"rows must name {REQUIRED}, got one without {missing}: {row}")
        if row["task"] not in MT80.names:
            MT80[row["task"]]  # names the nearest tasks
            raise ValueError(f"task must be a full name of MT80, got {row['task']!r}")
        for name, value in row.items():
            if name not in TEXT_COLUMNS and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value} in {row}")
        key = tuple(row[name] for name in REQUIRED)
        if key in seen:
            raise ValueError(f"rows must be one per seed, task and method, got {key} twice")
        seen.add(key)
