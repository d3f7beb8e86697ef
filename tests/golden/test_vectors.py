"""A golden file that is not there is an error, here and in a folder of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from vectors import load, path

HERE = Path(__file__).parent


def test_a_missing_file_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PWM_SDK_GOLDEN", raising=False)
    assert path("g4_tables.npz") == HERE / "g4_tables.npz"
    with pytest.raises(FileNotFoundError, match=r"g9_none\.npz must be in .*golden, found none"):
        load("g9_none.npz")
    monkeypatch.setenv("PWM_SDK_GOLDEN", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"must be in {tmp_path}, found none"):
        load("g4_tables.npz")
    (tmp_path / "g4_tables.npz").write_bytes((HERE / "g4_tables.npz").read_bytes())
    assert load("g4_tables.npz")


@pytest.mark.parametrize("group", [f"g{i}" for i in range(1, 8)])
def test_every_group_has_vectors_and_tests(group: str) -> None:
    assert list(HERE.glob(f"{group}_*")) and list(HERE.glob(f"test_{group}_*.py"))
