"""Mapped files: what was read leaves the memory again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from pwm_sdk.data.mapping import MappedFiles, _resident

MB = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is resident")
def test_only_so_much_stays_resident(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    torch.arange(16 * MB, dtype=torch.int32).numpy().tofile(path)
    files = MappedFiles(limit=32 * MB)
    rows = files.map(path, torch.int32, (4 * MB, 4), random=True)
    before = _resident()
    assert rows[: MB // 2].sum() == sum(range(2 * MB))  # 8 MB
    assert not files.trim()
    assert _resident() - before >= 8 * MB
    total = rows.sum()
    assert _resident() - before >= 60 * MB
    assert files.trim()
    assert 24 * MB < _resident() - before < 40 * MB  # no more than need be
    assert not files.trim()
    for part in range(8):  # other pages each time, until all have been let go of once
        rows[part * MB // 2 : (part + 1) * MB // 2].sum()
        files.trim()
        assert _resident() - before < 40 * MB
    assert rows.sum() == total == 16 * MB * (16 * MB - 1) // 2
    assert rows[3].tolist() == [12, 13, 14, 15]


def test_writing_changes_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    torch.arange(4.0).numpy().tofile(path)
    rows = MappedFiles().map(path, torch.float32, (4,), random=False)
    rows[0] = 9.0
    assert torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.float32)[0] == 0.0
