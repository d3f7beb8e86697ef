"""Builds the report of a finished run again from the run's files.

python benchmarks/report.py runs/quick                   # report.md and plots of runs/quick
python benchmarks/report.py runs/mine --benchmark MT30   # beside the published MT30 numbers
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from reporting.report import rebuild


@dataclass(frozen=True)
class Arguments:
    """Build the report of a finished run again from its files."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the run: it holds scores.csv."""
    benchmark: Literal["MT30", "MT80"] | None = None
    """Published numbers to compare with; by default those of the run's last report, else MT80."""


def main() -> None:
    """Build a report again."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    try:
        print(rebuild(arguments.folder, arguments.benchmark))
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
