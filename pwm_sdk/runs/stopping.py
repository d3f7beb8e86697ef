"""Signals and processes: who is asked to stop, who waits for a checkpoint, who ends what is left.

Signals reach the process that was started alone; it asks the others to stop, gives them time to
write a checkpoint and ends what is left. No process outlives the one that started it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

GRACE = 20.0  # seconds that a job may take to keep what it has when it is asked to stop
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Interrupted(KeyboardInterrupt):
    """The user or the system ends the program.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


class _Signals:
    """What this process was asked to do, and whether it does so at once."""

    asked: int | None = None
    patient = 0
    works = False  # for another process, which repeats what it asks


def on_signal(number: int, frame: FrameType | None = None) -> None:
    """Handle SIGINT and SIGTERM: at once, or where `patience` ends or the job looks."""
    again = _Signals.asked is not None and not _Signals.works
    _Signals.asked = number
    if again or not _Signals.patient:
        raise Interrupted(number)


def stop_asked() -> bool:
    """Tell whether a job inside `patience` should keep what it has and raise `Interrupted`."""
    return _Signals.asked is not None


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Let signals wait until the block ends; a job in it looks at `stop_asked` now and then."""
    _Signals.patient += 1
    try:
        yield
    finally:
        _Signals.patient -= 1
    if _Signals.asked is not None and not _Signals.patient:
        raise Interrupted(_Signals.asked)


@contextlib.contextmanager
def handled_signals(signals: Collection[signal.Signals] = _SIGNALS) -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Interrupted` in this process, as long as the block lasts.

    Args:
        signals: others than both.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Signals.asked = None
    before = {number: signal.signal(number, on_signal) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Signals.asked = None


@contextlib.contextmanager
def no_signals() -> Iterator[None]:
    """Keep signals from this thread, and from a process that it starts until that is ready."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch = threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True)
        watch.start()


def begin_work() -> None:
    """Set up a process that another one started: it alone is asked by signals of that one."""
    _Signals.works = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which goes to all
    signal.signal(signal.SIGTERM, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    end_with_parent()


def start(target: Callable[..., None], *args: object) -> Any:
    """Start a fresh process, which must call `begin_work` first."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=target, args=args, daemon=False)
    _start_tracker()
    with no_signals():
        process.start()
    return process


def _start_tracker() -> None:
    """Start what cleans up after killed processes, if it does not run, without its warnings.

    Starting it lets signals through, so it must run before they are kept from a process.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def stop(processes: Iterable[Any], grace: float = GRACE) -> None:
    """Ask processes to end, and end those that have not done so in time; a second signal hurries.

    Args:
        processes: of `start`.
        grace: seconds for all of them.
    """
    mine = list(processes)
    with contextlib.suppress(KeyboardInterrupt):
        for process in mine:
            process.terminate()
        deadline = time.monotonic() + grace
        for process in mine:
            process.join(max(0.0, deadline - time.monotonic()))
    for process in mine:
        with contextlib.suppress(KeyboardInterrupt):
            process.kill()
            process.join()


def ending(code: int | None) -> str:
    """Say how a process ended."""
    if code is not None and code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{hint}"
    return f"its process ended with exit code {code}"
