"""Processes of a benchmark end with the one that started them, even where that one was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
PROGRAM = """
import time
from pwm_sdk.runs import JobPool

if __name__ == "__main__":
    with JobPool(2) as pool:
        news = pool.news()
        pool.submit(news.put, "at work")
        pool.submit(time.sleep, 300)
        print(news.get(), flush=True)
"""


def test_a_killed_benchmark_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, str(file)],
        env={**os.environ, "PYTHONPATH": PATHS},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "at work\n"
        program.kill()
        # The output ends with the last process that holds it.
        assert program.communicate(timeout=60) == ("", None)
    finally:
        with contextlib.suppress(ProcessLookupError):  # none is left
            os.killpg(program.pid, signal.SIGKILL)
