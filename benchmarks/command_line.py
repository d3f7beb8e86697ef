"""Checks of what commands are given, which end them with one line and no traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pwm_sdk.runs import Interrupted, JobError, handled_signals


def flag(name: str) -> str:
    """Return the option of an argument."""
    return "--" + name.replace("_", "-")


@contextmanager
def command() -> Iterator[None]:
    """Run a command: signals, failed jobs, damaged files and full disks end it with one line."""
    try:
        with handled_signals():
            yield
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has ended, as `head` does; files are complete
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt as error:
        print("interrupted; continue with the same command", file=sys.stderr, flush=True)
        number = error.number if isinstance(error, Interrupted) else 2
        raise SystemExit(128 + number) from None
    except JobError as error:
        raise SystemExit(1 if error.shown else str(error)) from None
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        place = "output" if error.filename is None else os.fspath(error.filename)
        raise SystemExit(f"{place}: {error.strerror or type(error).__name__}") from None


@contextmanager
def refused(what: str) -> Iterator[None]:
    """End the program where what `what` names is refused, with the reason and no traceback."""
    try:
        yield
    except ValueError as error:
        raise SystemExit(f"{what}: {error}") from error


def check_counts(arguments: Any, *names: str, least: int = 1) -> None:
    """End the program if one of these arguments, or of its values, is below `least`.

    None is let through.
    """
    for name in names:
        given = getattr(arguments, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and value < least:
                raise SystemExit(f"{flag(name)} must be at least {least}, got {value}")


def check_once(option: str, names: Sequence[str]) -> None:
    """End the program if a name is given twice, or none is."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SystemExit(f"{option} must name each once, got {', '.join(twice)} more than once")
    if not names:
        raise SystemExit(f"{option} must name at least one, got none")


def check_device(name: str) -> None:
    """End the program if torch has no such device here."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SystemExit(f"--device must be one of this machine, got {name}: {reason}") from error
