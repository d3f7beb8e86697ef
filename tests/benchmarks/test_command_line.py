"""What commands refuse: one line that names the option, what it must be and what was given."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from command_line import check_counts, check_device, check_once, flag, refused

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_options_are_named_as_they_are_typed() -> None:
    assert flag("batch_size") == "--batch-size"
    with pytest.raises(SystemExit, match=r"^--batch-size must be at least 1, got 0$"):
        check_counts(
            SimpleNamespace(seeds=3, jobs=None, batch_size=0), "seeds", "jobs", "batch_size"
        )
    check_counts(SimpleNamespace(jobs=0), "jobs", least=0)


def test_names_are_given_once() -> None:
    check_once("--tasks", ["reach", "push"])
    with pytest.raises(SystemExit, match=r"^--tasks must name each once, got push more than once$"):
        check_once("--tasks", ["push", "reach", "push"])
    with pytest.raises(SystemExit, match=r"^--tasks must name at least one, got none$"):
        check_once("--tasks", [])


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_devices_that_are_not_here_are_refused(name: str) -> None:
    check_device("cpu")
    with pytest.raises(SystemExit, match=f"^--device must be one of this machine, got {name}: "):
        check_device(name)


def test_an_error_of_the_library_becomes_one_line() -> None:
    with pytest.raises(SystemExit, match=r"^--size: size must be 1, got 2$"), refused("--size"):
        raise ValueError("size must be 1, got 2")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("mt80.py --tasks walker-run walker-run", "--tasks must name each once, got walker-run"),
        ("mt80.py --tasks walkr-run", "--tasks: task must be a known name, got 'walkr-run'"),
        ("mt80.py --preset smoke --updates 5", "--updates must be left out with --preset smoke"),
        ("single_task.py --baseline foo", "method must be known, got 'foo'"),
        ("single_task.py --methods", "--methods must name at least one"),
        ("diagnose.py --tasks cartpol", "--tasks: task must be a known name, got 'cartpol'"),
        (
            "guards.py --tasks mw-reach walker-run",
            "--tasks must be of one suite, got dmcontrol and",
        ),
        ("large_store.py --batches 0", "--batches must be at least 1, got 0"),
    ],
)
def test_commands_end_before_they_begin(tmp_path: Path, command: str, line: str) -> None:
    name, *options = command.split()
    found = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr.startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_and_a_full_output_end_a_command_without_traceback() -> None:
    program = "from command_line import command\nwith command():\n    print('x' * 10**6)"
    start: Any = {"cwd": BENCHMARKS, "stderr": subprocess.PIPE, "text": True}
    run = [sys.executable, "-c", program]
    with subprocess.Popen(run, stdout=subprocess.PIPE, **start) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE
    with open("/dev/full", "w") as full:
        found = subprocess.run(run, stdout=full, check=False, **start)
    assert found.stderr.startswith("output: No space left on device")
    assert "Traceback" not in found.stderr
