"""Jobs in processes of their own, such as tasks times seeds: watched, and ended together."""

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
from types import TracebackType
from typing import Any, Self

from pwm_sdk.checks import file_path, whole
from pwm_sdk.runs.stopping import GRACE, begin_work, ending, no_signals, start, stop, stop_asked

__all__ = ["JobError", "JobPool", "News", "cores"]

AGAIN = "give the same command again to continue"
# of each process, where the environment does not say otherwise
SETTINGS = {
    # Small networks gain nothing from a second thread; the second core has its own job.
    "OMP_NUM_THREADS": "1",
    # Processes of a group meet on this machine.
    "GLOO_SOCKET_IFNAME": "lo",
    # By default glibc returns large blocks to the kernel after every operation.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
    # TorchRL reports every module that it imports.
    "RL_LOGGING_LEVEL": "WARNING",
}


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class JobError(Exception):
    """A job failed, or its process ended; the message is one line that names the job.

    Attributes:
        shown: whether the line was printed.
    """

    shown = False


_CHANNELS: dict[int, queue.Queue[Any]] = {}
_NUMBERS = itertools.count()
_LINE: Connection | None = None  # to the process that started this one
_LINE_LOCK = threading.Lock()


class News:
    """A queue that jobs put into and that the process that started them takes from."""

    def __init__(self, number: int) -> None:
        self.number = number

    def put(self, value: object) -> None:
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


def _send(message: object) -> None:
    """Send a message to the process that started this one."""
    if _LINE is None:
        raise RuntimeError("news must be put in a job of a pool, got another process")
    with _LINE_LOCK:
        _LINE.send(message)


def _work(line: Connection, number: int, job: bytes) -> None:
    """Do a job and send what it returned, or why it did not."""
    global _LINE
    _LINE = line
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        begin_work()
        try:
            function, args = pickle.loads(job)
            answer = True, function(*args)
            pickle.dumps(answer)
        except Exception as error:
            if stop_asked():  # what it works with was asked to end as well
                return
            first = (str(error) or "no message").splitlines()[0]
            answer = False, (f"{type(error).__name__}: {first}", traceback.format_exc())
        _send(("done", number, answer))


class _Worker:
    """A process, and the job that it does."""

    def __init__(self, number: int, job: bytes) -> None:
        self.number = number
        self.line, other = multiprocessing.get_context("spawn").Pipe()
        with _settled():
            self.process = start(_work, other, number, job)
        other.close()


class JobPool:
    """Jobs, each in a fresh process; each is watched, and all end with the `with` block.

    A job that fails, or whose process is killed, raises `JobError` where its result is asked for,
    and there only: whoever catches it keeps the results of the others. SIGINT and SIGTERM ask all
    jobs to stop (see `patience`), and end those that have not done so in time; no process outlives
    the one that started it.

    Example:
        ```
        with JobPool() as pool:
            jobs = {pool.submit(learn, task, seed): (task, seed) for task, seed in pairs}
            for job in as_completed(jobs):
                print(jobs[job], job.result())
        ```

    Args:
        count: processes at most at a time; None: one per core. Each has one thread unless
            `OMP_NUM_THREADS` says otherwise.
        errors: folder whose `error.txt` gets the traceback of a job that failed.

    Raises:
        ValueError: if `count` is below 1.
    """

    def __init__(
        self, count: int | None = None, *, errors: str | os.PathLike[str] | None = None
    ) -> None:
        self.count = cores() if count is None else count
        whole(1, count=self.count)
        self.errors = None if errors is None else file_path(errors=errors).absolute()
        self._workers: list[_Worker] = []
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._futures: dict[int, tuple[Future[Any], str]] = {}
        self._numbers, self._lock, self._closed = itertools.count(), threading.Lock(), False
        self._bell, self._button = os.pipe()
        self._watch = threading.Thread(target=self._watched, daemon=True)
        with no_signals():  # which are for the main thread
            self._watch.start()

    def submit(self, function: Callable[..., Any], *args: object, name: str = "") -> Future[Any]:
        """Let a process call `function(*args)`.

        Args:
            function: of a module that the process can import.
            args: what can be pickled.
            name: says in messages which job it is.

        Returns:
            A future of `concurrent.futures`.
        """
        number, future = next(self._numbers), Future()
        job = pickle.dumps((function, args))
        with self._lock:
            self._futures[number] = future, name or f"job {number}"
            self._waiting.append((number, job))
        os.write(self._button, b"x")
        return future

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Iterator[Any]:
        """Yield what `function` returns for each row of `columns`, in order."""
        jobs = [self.submit(function, *row) for row in zip(*columns, strict=True)]
        return (job.result() for job in jobs)

    def news(self) -> News:
        """Return a queue from jobs to this process, to be handed to them."""
        number = next(_NUMBERS)
        _CHANNELS[number] = queue.Queue()
        return News(number)

    def follow(
        self, jobs: Sequence[Future[Any]], news: News, tell: Callable[[Any], object]
    ) -> None:
        """Hand on the news of jobs until all are done; one that failed raises its error at once."""
        while not all(job.done() for job in jobs) or not news.empty():
            with contextlib.suppress(queue.Empty):
                tell(news.get(timeout=0.5))
            for job in jobs:
                if job.done():
                    job.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, JobError) and not error.shown:
            print(error, file=sys.stderr, flush=True)
            error.shown = True
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
        """Start jobs, take answers and notice ends, until the pool is closed."""
        while True:
            with self._lock:
                if self._closed:
                    return
                workers = list(self._workers)
            lines: dict[Any, _Worker] = {worker.line: worker for worker in workers}
            ends: dict[Any, _Worker] = {worker.process.sentinel: worker for worker in workers}
            ready = wait([*lines, *ends, self._bell], timeout=1.0)
            if self._bell in ready:
                os.read(self._bell, 1)
            for item in ready:
                if item in lines:
                    self._take(lines[item])
            for item in ready:
                if item in ends:
                    self._lose(ends[item])
            self._start()

    def _start(self) -> None:
        """Start a process for each waiting job, as long as there may be more."""
        while True:
            with self._lock:
                full = len(self._workers) >= self.count
                if full or not self._waiting or self._closed:
                    return
                number, job = self._waiting.popleft()
                try:
                    self._workers.append(_Worker(number, job))
                except Exception as error:  # no memory, or no `if __name__ == "__main__"`
                    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                    self._settle(number, False, (f"no process for it: {reason}", None))

    def _take(self, worker: _Worker) -> None:
        """Take what a process has said, all of it."""
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while worker.line.poll():
                what, number, value = worker.line.recv()
                if what == "news":
                    _CHANNELS[number].put(value)
                else:
                    self._settle(number, *value)

    def _lose(self, worker: _Worker) -> None:
        """Take leave of a process that is gone; its job failed if it gave no answer."""
        self._take(worker)
        worker.process.join()
        with self._lock:
            self._workers.remove(worker)
        worker.line.close()
        reason = f"{ending(worker.process.exitcode)}; {AGAIN}"
        self._settle(worker.number, False, (reason, None))

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


@contextlib.contextmanager
def _settled() -> Iterator[None]:
    """Let processes that are started meanwhile have `SETTINGS`, where nobody set them."""
    new = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
