"""The report of a finished run: its text, its tables and its plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from files import write_json
from machine import describe
from pwm_sdk import read_json
from pwm_sdk.runs import write_text
from pwm_sdk.runs.report import Curves, Row, counted, fill, plot_curves, tasks_of, verdict
from reporting.notes import (
    LEARNED,
    SCORES,
    SEEDS,
    aggregate_note,
    incomplete,
    left_out,
    published_note,
    stopped,
)
from reporting.plots import plot_bars, plot_profile
from reporting.published import Published
from reporting.scores import check_rows, load_rows, save_rows
from reporting.tables import (
    aggregate_table,
    published_table,
    score_table,
    seconds_table,
    seed_table,
)


def write_report(
    folder: Path,
    rows: Sequence[Row],
    *,
    minutes: float,
    command: str,
    benchmark: str = "MT80",
) -> str:
    """Write scores.csv, run.json, the plots and report.md into `folder`; return the text.

    Args:
        folder: the run's folder.
        rows: one per seed, task and method, with "seed", "task", "method" and numbers: "return",
            "return_min", "success_any", "success_last", "score", "gap", "ms_per_action",
            "episodes"; a row may lack any of the numbers.
        minutes: duration of the run.
        command: what started it.
        benchmark: "MT30" or "MT80": the published model to compare with.

    Raises:
        ValueError: for rows as in `check_rows`, or another benchmark.
    """
    check_rows(rows)
    save_rows(folder, rows)
    about = {"minutes": minutes, "command": command, "machine": describe(), "benchmark": benchmark}
    write_json(folder / "run.json", about)
    return _write(folder, rows, about)


def rebuild(folder: Path, benchmark: str | None = None) -> str:
    """Build report.md and the plots again from the files of a finished run; return the text.

    Args:
        folder: the run's folder.
        benchmark: "MT30" or "MT80"; None: as in the run's last report.

    Raises:
        ValueError: where `folder` holds no finished run, or its scores.csv is damaged.
    """
    rows = load_rows(folder)
    path = folder / "run.json"
    about = read_json(path, dict) if path.exists() else {}
    if benchmark:
        about["benchmark"] = benchmark
    return _write(folder, rows, about)


def _write(folder: Path, rows: Sequence[Row], about: dict[str, Any]) -> str:
    published = Published(about.get("benchmark", "MT80"))
    drawn = {
        "bars": plot_bars(folder, rows, published),
        "profile": plot_profile(folder, rows, published),
        "curves": plot_curves(folder, _curves(folder)),
    }
    text = report_text(folder, rows, about, published)
    text += "".join(f"\n![{name}]({name}.png)\n" for name, done in drawn.items() if done)
    write_text(folder / "report.md", text)
    return text


def report_text(
    folder: Path, rows: Sequence[Row], about: dict[str, Any], published: Published
) -> str:
    """Return the report as Markdown, section by section."""
    tasks, seeds = tasks_of(rows), sorted({row["seed"] for row in rows})
    episodes = sorted({int(row["episodes"]) for row in rows if "episodes" in row})
    title = [counted(len(tasks), "task"), counted(len(seeds), "seed")]
    plural = "s" * (episodes != [1])
    title += [f"{' or '.join(map(str, episodes))} episode{plural} each"] * bool(episodes)
    parts = [f"# {folder.name}: {', '.join(title)}"]
    if said := verdict(rows):
        parts += [f"**{fill(said)}**", fill(LEARNED)]
    if about.get("command"):
        minutes = f"{about['minutes']:.1f} minutes (of its last call)"
        parts.append(f"`{about['command']}`, {minutes}, {about['machine']}.")
    parts += [fill(SCORES), score_table(rows, published)]
    progress = {path.parent: read_json(path, dict) for path in _curve_files(folder)}
    short = sum(told.get("left_out", 0) for told in progress.values())
    parts += [*incomplete(rows, tasks, seeds), *stopped(rows), *left_out(short)]
    beside = published_table(rows, published)
    if beside:
        parts += ["## Beside the published numbers", beside, published_note(tasks, published)]
    if aggregates := aggregate_table(rows, published):
        parts += ["## Aggregates", aggregates, aggregate_note(published)]
    parts += ["## Seeds", SEEDS, seed_table(rows)]
    if progress:
        spent = {place: told["seconds"] for place, told in progress.items()}
        parts += ["Seconds per stage:", seconds_table(spent)]
    return "\n\n".join(parts) + "\n"


def _curve_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("seed*/*/curve.json"))


def _curves(folder: Path) -> Curves:
    """Collect the readings of all processes: task -> PWM -> seed -> (minutes, return)."""
    lines: Curves = {}
    for path in _curve_files(folder):
        seed = int(path.parent.parent.name.removeprefix("seed"))
        for point in read_json(path, dict)["curve"]:
            for task, summary in point["tasks"].items():
                line = lines.setdefault(task, {}).setdefault("pwm", {}).setdefault(seed, [])
                line.append((point["seconds"] / 60.0, summary["return"]))
    return lines
