"""Jobs of a benchmark: dead processes are noticed, signals end everything with what was kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pwm_sdk.runs import JobError, JobPool

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
PROGRAM = """
import multiprocessing, os, sys, time
from pathlib import Path
from command_line import command
from pwm_sdk.runs import Interrupted, JobPool, patience, stop_asked

def work(kind, out, news):
    lock = multiprocessing.get_context("spawn").Lock()  # torchrl makes some
    news.put(f"{kind} {os.getpid()}")
    if kind == "fails":
        raise ValueError("the file must be whole")
    if kind == "exits":
        os._exit(3)
    if kind == "stubborn":
        with patience():
            time.sleep(300)
    with patience():
        for step in range(3000):
            time.sleep(0.01)
            if stop_asked():
                (Path(out) / f"{kind}.txt").write_text(f"kept {step}")
                raise Interrupted

def main():
    kinds, out = sys.argv[2:], Path(sys.argv[1])
    with command():
        with JobPool(len(kinds), errors=out) as pool:
            news = pool.news()
            jobs = [pool.submit(work, k, sys.argv[1], news, name=f"the {k} job") for k in kinds]
            while not all(job.done() for job in jobs) or not news.empty():
                print(news.get(), flush=True) if not news.empty() else time.sleep(0.05)
                for job in jobs:
                    if job.done():
                        job.result()
        print("done", flush=True)

if __name__ == "__main__":
    main()
"""


class Program:
    """A running program, and its workers by what they do."""

    def __init__(self, folder: Path, *kinds: str) -> None:
        (folder / "program.py").write_text(PROGRAM)
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "program.py"), str(folder), *kinds],
            env={**os.environ, "PYTHONPATH": PATHS},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline().split() for _ in kinds]
        self.workers = {line[0]: int(line[1]) for line in lines if line}
        self.begin = time.perf_counter()

    def end(self, within: float) -> str:
        """Return what it wrote as errors, once it and its workers are gone."""
        try:  # the output ends with the last process that holds it
            _, errors = self.process.communicate(timeout=60)
        finally:
            for pid in (self.process.pid, *self.workers.values()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                raise AssertionError(f"process {pid} is left")
        assert time.perf_counter() - self.begin < within
        return errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("whom", ["main", "group"])
def test_a_signal_ends_everything_with_what_was_kept(
    tmp_path: Path, number: signal.Signals, whom: str
) -> None:
    program = Program(tmp_path, "first", "second")
    (os.kill if whom == "main" else os.killpg)(program.process.pid, number)
    assert program.end(within=10.0) == "interrupted; continue with the same command\n"
    assert program.process.returncode == 128 + number
    assert {path.read_text()[:4] for path in tmp_path.glob("*.txt")} == {"kept"}
    assert len(list(tmp_path.glob("*.txt"))) == 2


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    program = Program(tmp_path, "stubborn")
    os.kill(program.process.pid, signal.SIGINT)
    time.sleep(1.0)
    os.kill(program.process.pid, signal.SIGINT)
    assert program.end(within=8.0) == "interrupted; continue with the same command\n"
    assert program.process.returncode == 130


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_killed_worker_is_named_and_the_others_keep_what_they_have(
    tmp_path: Path, which: str
) -> None:
    program = Program(tmp_path, "first", "second")
    os.kill(program.workers[which], signal.SIGKILL)
    assert program.process.stderr is not None
    line = program.process.stderr.readline()
    assert time.perf_counter() - program.begin < 2.0
    assert line == (
        f"the {which} job: its process was ended by SIGKILL (out of memory?); "
        "give the same command again to continue\n"
    )
    assert program.end(within=10.0) == ""
    assert program.process.returncode == 1
    assert len(list(tmp_path.glob("*.txt"))) == 1


def test_an_error_is_one_line_and_its_traceback_a_file(tmp_path: Path) -> None:
    errors = Program(tmp_path, "first", "fails").end(within=10.0)
    file = tmp_path / "error.txt"
    assert errors == f"the fails job: ValueError: the file must be whole (see {file})\n"
    assert "Traceback" in file.read_text()


def test_a_worker_that_exits_is_named(tmp_path: Path) -> None:
    errors = Program(tmp_path, "exits", "first").end(within=10.0)
    assert errors.startswith("the exits job: its process ended with exit code 3; give the same")


def test_many_jobs_in_few_processes() -> None:
    code = """
from pwm_sdk.runs import JobPool
if __name__ == "__main__":
    with JobPool(2) as pool:
        print(list(pool.map(pow, range(7), [2] * 7)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 1, 4, 9, 16, 25, 36]\n", "")


def test_a_job_that_fails_leaves_the_results_of_the_others() -> None:
    with JobPool(2) as pool:
        fine, bad, later = pool.submit(pow, 2, 3), pool.submit(int, "x", name="it"), None
        with pytest.raises(JobError, match=r"^it: ValueError: invalid literal"):
            bad.result()
        later = pool.submit(pow, 3, 2)
        assert (fine.result(), later.result()) == (8, 9)


def test_a_process_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MemoryError has no text of its own."""

    def none_left(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pwm_sdk.runs.processes._Worker", none_left)
    with JobPool(1) as pool:
        job = pool.submit(pow, 2, 3, name="it")
        with pytest.raises(JobError, match=r"^it: no process for it: MemoryError$"):
            job.result(timeout=10.0)


def test_each_job_has_a_process_of_its_own_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with JobPool(1) as pool:
        first, second = pool.submit(os.getpid), pool.submit(os.getpid)
        threads = pool.submit(os.getenv, "OMP_NUM_THREADS")
        assert len({os.getpid(), first.result(), second.result()}) == 3
        assert threads.result() == "1"
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_pool_needs_a_process() -> None:
    with pytest.raises(ValueError, match="count must be"):
        JobPool(0)
