"""Tables of numbers, as CSV files and in Markdown, and files of text."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.checks import file_path

__all__ = ["csv_line", "markdown", "read_csv", "write_csv", "write_text"]


def csv_line(values: Iterable[Any]) -> str:
    """Return one line of a CSV file; None becomes an empty field, a float keeps all its digits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if v is None else v for v in values])
    return text.getvalue()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file of text in UTF-8, whole or not at all.

    Args:
        path: the file.
        text: all of it; its line ends stay as they are.
    """
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8", newline=""))


def write_csv(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()
) -> None:
    """Write rows as a CSV file, atomically.

    Args:
        path: the file.
        rows: values by column; a column that a row does not have stays empty.
        first: columns that come first; the others follow in order of appearance.
    """
    columns = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
    lines = [csv_line(columns), *(csv_line(map(row.get, columns)) for row in rows)]
    write_text(path, "".join(lines))


def read_csv(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the rows of a CSV file; a line that was not written to its end is left out.

    Args:
        path: the file.

    Returns:
        Values by column, without those that are empty. What reads as a number is one.

    Raises:
        ValueError: if the file is no such table; the message names it.
    """
    file = file_path(path=path)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be a table in UTF-8, got other bytes") from error
    whole = text[: text.rfind("\n") + 1]  # a process that was killed leaves a part of a line
    lines = list(csv.reader(io.StringIO(whole, newline="")))
    if not lines:
        return []
    columns, *rows = lines
    if wrong := [i for i, row in enumerate(rows, 2) if len(row) != len(columns)]:
        raise ValueError(f"{file} must have {len(columns)} values a line, got others at {wrong[0]}")
    return [
        {name: _number(text) for name, text in zip(columns, row, strict=True) if text}
        for row in rows
    ]


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> str:
    """Return a table in Markdown.

    Args:
        header: name of each column.
        rows: cells of each row.
        left: number of columns, from the first on, that stand on the left; numbers stand right.
    """
    sides = ["---" if i < left else "---:" for i in range(len(header))]
    lines = [list(header), sides, *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
