"""A run that is killed at any of its writes ends, once it is run again, as if it had not been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_crash_point_leaves_the_same_result(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("crash_points.py")), str(tmp_path), "14"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole, *others = json.loads(done.stdout)
    assert whole["rows"]
    assert len(others) >= 12
    assert max(other["point"] for other in others) == whole["writes"]
    for other in others:
        where = f"killed at write {other['point']} of {whole['writes']}, {other['what']}"
        for part in ("rows", "curve", "rounds", "files", "count"):
            assert other[part] == whole[part], (where, part)
