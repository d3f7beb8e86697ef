"""The throughput's rows: what a reading says, as Markdown tables and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from pwm_sdk import runs


class Quartiles(NamedTuple):
    """A median and what a quarter of the readings are below and above."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Row:
    """One line of a table; what is None was not measured, or does not apply.

    Args:
        group: table that the row belongs to.
        what: what was timed.
        size: millions of parameters of the published size; 0 where there is no model.
        count: starts, windows, observations or rows, as the group says.
        variant: which form of it.
        ms: milliseconds.
        gain: how many times as fast as the baseline of the group.
        gflop: billions of floating-point operations in products of matrices.
        peak: billions of them per second in one large product, measured in the same rounds.
        megabytes: of memory, as the group says.
        difference: largest relative difference of a loss from the baseline's.
        gradient: largest relative error of a tensor's gradient, as the group says.
        note: why there is no reading.
    """

    group: str
    what: str
    size: int
    count: int
    variant: str
    ms: Quartiles | None = None
    gain: float | None = None
    gflop: float | None = None
    peak: float | None = None
    megabytes: float | None = None
    difference: float | None = None
    gradient: float | None = None
    note: str = ""

    @property
    def rate(self) -> float | None:
        """Billions of floating-point operations per second."""
        return None if self.ms is None or self.gflop is None else 1e3 * self.gflop / self.ms.median

    @property
    def share(self) -> float | None:
        """Rate as a share of the peak."""
        return None if self.rate is None or self.peak is None else self.rate / self.peak


@dataclass(frozen=True)
class Group:
    """A table.

    Args:
        name: as on the command line.
        title: its heading.
        text: what the columns mean, where it is not plain.
        count: heading of the counts.
        baseline: what gains are taken from, the first variant; empty: none are shown.
    """

    name: str
    title: str
    text: str
    count: str
    baseline: str = ""

    def markdown(self, rows: Sequence[Row], about: str) -> str:
        """The page, what it is about and the table, without the columns that no row fills."""
        shown = [(head, cell) for head, cell in self._columns() if any(map(cell, rows))]
        lines = [[cell(row) or "-" for _, cell in shown] for row in rows]
        head = f"# {self.title}\n\n{about}\n\n{self.text}\n\n"
        return f"{head}{runs.markdown([name for name, _ in shown], lines)}\n"

    def _columns(self) -> list[tuple[str, Callable[[Row], str]]]:
        return [
            ("what", lambda row: row.what),
            ("size", lambda row: f"{row.size}M" if row.size else ""),
            (self.count, lambda row: f"{row.count:,}"),
            ("variant", lambda row: row.variant),
            ("ms", _milliseconds),
            (f"x {self.baseline}", lambda row: _cell(row.gain, ".2f")),
            ("GFLOP", lambda row: _cell(row.gflop, ".3g")),
            ("GFLOP/s", lambda row: _cell(row.rate, ".3g")),
            ("of peak", lambda row: _cell(row.share, ".0%")),
            ("MB", lambda row: _cell(row.megabytes, ",.0f")),
            ("loss difference", lambda row: _cell(row.difference, ".0e")),
            ("gradient error", lambda row: _cell(row.gradient, ".1e")),
        ]


def _cell(value: float | None, digits: str) -> str:
    return "" if value is None else format(value, digits)


def _milliseconds(row: Row) -> str:
    """Median with its quartiles, three digits each."""
    if row.ms is None:
        return f"not measured: {row.note}"
    digits = ",.0f" if row.ms.median >= 100 else ".1f" if row.ms.median >= 10 else ".3g"
    low, median, high = (format(value, digits) for value in row.ms)
    return f"{median} ({low} to {high})"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows, with the quartiles in columns of their own."""
    names = [field.name for field in fields(Row) if field.name != "ms"]
    timed = ("ms_low", "ms", "ms_high")
    first = [*names[:5], *timed, "gflop_per_s", "of_peak", *names[5:]]
    lines = []
    for row in rows:
        entries = {name: value for name, value in asdict(row).items() if name != "ms"}
        entries |= dict(zip(timed, row.ms or (None,) * 3, strict=True))
        lines.append({**entries, "gflop_per_s": row.rate, "of_peak": row.share})
    runs.write_csv(path, lines, first)
