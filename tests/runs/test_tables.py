"""Tables in CSV and Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwm_sdk.runs.tables import markdown, read_csv, write_csv, write_text


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"task": "walk, fast", "seed": 0, "score": 0.1}, {"task": "run", "note": 'so "so"'}]
    write_csv(tmp_path / "t.csv", rows)
    assert read_csv(tmp_path / "t.csv") == rows
    assert (tmp_path / "t.csv").read_text() == (
        'task,seed,score,note\n"walk, fast",0,0.1,\nrun,,,"so ""so"""\n'
    )


def test_columns_that_come_first(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", [{"b": 1, "a": 2}], first=("step", "a"))
    assert (tmp_path / "t.csv").read_text() == "step,a,b\n,2,1\n"


def test_a_line_that_was_not_written_to_its_end_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("step,loss\n1,2.5\n2,1.")
    assert read_csv(tmp_path / "t.csv") == [{"step": 1, "loss": 2.5}]
    (tmp_path / "t.csv").write_text("")
    assert read_csv(tmp_path / "t.csv") == []


def test_what_is_no_table_is_refused_by_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("step,loss\n1,2.5\n2,1,7\n")
    with pytest.raises(ValueError, match=r"t\.csv must have 2 values a line, got others at 3"):
        read_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match=r"t\.csv must be a table in UTF-8"):
        read_csv(tmp_path / "t.csv")


def test_markdown() -> None:
    told = markdown(["task", "score"], [["walk", 1.0], ["run", "-"]])
    assert told == "| task | score |\n| --- | ---: |\n| walk | 1.0 |\n| run | - |"


def test_text_is_written_as_it_stands_and_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "report.md", "old")
    write_text(tmp_path / "report.md", "# \u00e4\r\nnew\n")
    assert (tmp_path / "report.md").read_bytes() == b"# \xc3\xa4\r\nnew\n"
    assert [file.name for file in tmp_path.iterdir()] == ["report.md"]
