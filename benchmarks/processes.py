"""Jobs of a benchmark in processes of their own: watched, and ended together."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import queue
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from stopping import GRACE, begin_work, ending, no_signals, start, stop, stop_asked

AGAIN = "give the same command again to continue"


class JobError(Exception):
    """A job failed, or its process ended; the message is one line that names the job.

    Attributes:
        told: whether the line was printed.
    """

    told = False


_CHANNELS: dict[int, queue.Queue[Any]] = {}
_NUMBERS = itertools.count()
_LINE: Connection | None = None  # to the process that started this one
_LINE_LOCK = threading.Lock()


class News:
    """A queue that jobs put into and that the process that started them takes from."""

    def __init__(self, number: int) -> None:
        self.number = number

    def put(self, value: Any) -> None:
        """Add a value, in a job or here."""
        if self.number in _CHANNELS:
            _CHANNELS[self.number].put(value)
        else:
            _send(("news", self.number, value))

    def get(self, timeout: float | None = None) -> Any:
        """Take the oldest value, or raise `queue.Empty` after `timeout` seconds."""
        return _CHANNELS[self.number].get(timeout=timeout)

    def empty(self) -> bool:
        """Tell whether nothing waits."""
        return _CHANNELS[self.number].empty()


class Manager:
    """Makes what jobs share with the process that started them."""

    def Queue(self) -> News:  # noqa: N802 - as multiprocessing names it
        """Return a queue from jobs to this process."""
        number = next(_NUMBERS)
        _CHANNELS[number] = queue.Queue()
        return News(number)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *details: object) -> None:
        """End nothing: there is no process."""


def follow(work: Sequence[Future[Any]], news: News, tell: Callable[[Any], object]) -> None:
    """Hand on the news of jobs until all are done; one that failed raises its error at once."""
    while not all(job.done() for job in work) or not news.empty():
        with contextlib.suppress(queue.Empty):
            tell(news.get(timeout=0.5))
        for job in work:
            if job.done():
                job.result()


def manager() -> Manager:
    """Return what makes queues between jobs and this process."""
    return Manager()


def _send(message: Any) -> None:
    """Send a message to the process that started this one."""
    if _LINE is None:
        raise RuntimeError("news must be put in a job of a pool, got another process")
    with _LINE_LOCK:
        _LINE.send(message)


def _work(line: Connection) -> None:
    """Do one job after the other, until there are no more."""
    global _LINE
    _LINE = line
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
        begin_work()
        while True:
            number, job = line.recv_bytes(), line.recv_bytes()
            try:
                function, args = pickle.loads(job)
                answer = True, function(*args)
                pickle.dumps(answer)
            except Exception as error:
                if stop_asked():  # what it works with was asked to end as well
                    return
                first = (str(error) or "no message").splitlines()[0]
                answer = False, (f"{type(error).__name__}: {first}", traceback.format_exc())
            _send(("done", int(number), answer))


class Worker:
    """A process of a pool, and the job that it does."""

    def __init__(self) -> None:
        self.line, other = multiprocessing.get_context("spawn").Pipe()
        self.process = start(_work, other)
        other.close()
        self.job: int | None = None


class Pool:
    """Fresh processes that do jobs; each is watched, and all end with the `with` block.

    Args:
        count: processes at most.
        errors: folder whose `error.txt` gets the traceback of a job that failed.
    """

    def __init__(self, count: int, errors: Path | None = None) -> None:
        self.count, self.errors = count, errors
        self._workers: list[Worker] = []
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._futures: dict[int, tuple[Future[Any], str]] = {}
        self._numbers, self._lock, self._closed = itertools.count(), threading.Lock(), False
        self._bell, self._button = os.pipe()
        self._watch = threading.Thread(target=self._watched, daemon=True)
        with no_signals():  # which are for the main thread
            self._watch.start()

    def submit(self, function: Callable[..., Any], *args: Any, name: str = "") -> Future[Any]:
        """Let a process call `function(*args)`; `name` says in messages which job it is."""
        number, future = next(self._numbers), Future()
        job = pickle.dumps((function, args))
        with self._lock:
            self._futures[number] = future, name or f"job {number}"
            self._waiting.append((number, job))
            idle = sum(worker.job is None for worker in self._workers)
            more = idle < len(self._waiting) and len(self._workers) < self.count
        if more:
            worker = Worker()
            with self._lock:
                self._workers.append(worker)
        os.write(self._button, b"x")
        return future

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Iterator[Any]:
        """Yield what `function` returns for each row of `columns`, in order."""
        jobs = [self.submit(function, *row) for row in zip(*columns, strict=True)]
        return (job.result() for job in jobs)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, JobError) and not error.told:
            print(error, file=sys.stderr, flush=True)
            error.told = True
        try:
            if kind is None:
                for future, _ in list(self._futures.values()):
                    future.exception()
        except BaseException:
            self._end(GRACE)
            raise
        self._end(GRACE if kind is not None else None)

    def _end(self, grace: float | None) -> None:
        """End all processes: with None those that have done everything, which end by themselves."""
        with self._lock:
            self._waiting.clear()
            self._closed = True
        processes = [worker.process for worker in self._workers]
        if grace is not None:
            stop(processes, grace)
        os.write(self._button, b"x")
        self._watch.join()
        for worker in self._workers:
            worker.line.close()
        for process in processes:
            process.join(5.0)
        stop([process for process in processes if process.is_alive()], 1.0)
        os.close(self._bell)
        os.close(self._button)

    def _watched(self) -> None:
        """Hand out jobs, take answers and notice ends, until the pool is closed."""
        while True:
            with self._lock:
                if self._closed:
                    return
                workers = list(self._workers)
            lines: dict[Any, Worker] = {worker.line: worker for worker in workers}
            ends: dict[Any, Worker] = {worker.process.sentinel: worker for worker in workers}
            ready = wait([*lines, *ends, self._bell], timeout=1.0)
            if self._bell in ready:
                os.read(self._bell, 1)
            for item in ready:
                if item in lines and lines[item] in self._workers:
                    self._take(lines[item])
            for item in ready:
                if item in ends and ends[item] in self._workers:
                    self._lose(ends[item])
            self._hand_out()

    def _hand_out(self) -> None:
        """Give waiting jobs to idle processes."""
        with self._lock:
            for worker in self._workers:
                if worker.job is None and self._waiting and not self._closed:
                    worker.job, job = self._waiting.popleft()
                    with contextlib.suppress(OSError):  # its end is noticed next
                        worker.line.send_bytes(str(worker.job).encode())
                        worker.line.send_bytes(job)

    def _take(self, worker: Worker) -> None:
        """Take what a process has said, all of it."""
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while worker.line.poll():
                what, number, value = worker.line.recv()
                if what == "news":
                    _CHANNELS[number].put(value)
                else:
                    worker.job = None
                    self._settle(number, *value)

    def _lose(self, worker: Worker) -> None:
        """Let the job of a process that is gone fail."""
        self._take(worker)
        worker.process.join()
        with self._lock:
            self._workers.remove(worker)
            lost = [worker.job] if worker.job is not None else []
            if not self._workers:
                lost += [number for number, _ in self._waiting]
                self._waiting.clear()
        for number in lost:
            self._settle(number, False, (f"{ending(worker.process.exitcode)}; {AGAIN}", None))

    def _settle(self, number: int, fine: bool, value: Any) -> None:
        """End a job with what it returned, or with why it did not."""
        future, name = self._futures[number]
        with contextlib.suppress(InvalidStateError):
            if fine:
                future.set_result(value)
                return
            reason, trace = value
            future.set_exception(JobError(f"{name}: {reason}{self._kept(trace)}"))

    def _kept(self, trace: str | None) -> str:
        """Write a traceback to its file; say where, or return the traceback where there is none."""
        if trace is None:
            return ""
        if self.errors is not None:
            with contextlib.suppress(OSError):
                self.errors.mkdir(parents=True, exist_ok=True)
                (self.errors / "error.txt").write_text(trace)
                return f" (see {self.errors / 'error.txt'})"
        return f"\n{trace}"


def process_pool(count: int, errors: Path | None = None) -> Pool:
    """Return a pool of fresh processes, which read the settings anew and end with this one."""
    return Pool(count, errors)
