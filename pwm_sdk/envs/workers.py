"""Environments in processes of their own that step at the same time."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import pickle
import signal
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from pwm_sdk.checks import whole
from pwm_sdk.contract.pools import PoolStep
from pwm_sdk.envs.gate import GateError
from pwm_sdk.envs.member import About, Limits
from pwm_sdk.envs.opening import member_of, members_of

__all__ = ["Workers", "member_of"]

_CLOSE_SECONDS = 5.0
_UNGUARDED = (
    '; a script that starts workers must do so under if __name__ == "__main__": and lie in a file, '
    "because they import it"
)


class Workers:
    """Processes that are started once and hold a share of the environments each.

    Args:
        makers: one function without arguments per environment, which can be pickled.
        count: number of processes, at most one per environment.
        limits: of the environments' episodes and steps.

    Attributes:
        about: what there is to know of each environment.

    Raises:
        ValueError: if `count` is below 1, or a function cannot be pickled.
        RuntimeError: if an environment cannot be made.
    """

    def __init__(
        self, makers: Sequence[Callable[[], Any]], count: int, limits: Limits | None = None
    ) -> None:
        count = min(whole(1, workers=count), len(makers))
        limits = Limits() if limits is None else limits
        _check_makers(makers)
        self._timeout = limits.timeout
        bounds = [i * len(makers) // count for i in range(count + 1)]
        self._shares = [range(*pair) for pair in itertools.pairwise(bounds)]
        self._owner = [k for k, share in enumerate(self._shares) for _ in share]
        context = multiprocessing.get_context("spawn")
        self._lines, self._processes = [], []
        for share in self._shares:
            line, other = context.Pipe()
            mine = [makers[i] for i in share]
            process = context.Process(
                target=_serve, args=(other, mine, share.start, limits), daemon=True
            )
            process.start()
            other.close()  # the worker has the only other end now: its death is seen here
            self._lines.append(line)
            self._processes.append(process)
        self._finalizer = weakref.finalize(self, _end, self._lines, self._processes)
        try:
            answers = [self._receive(k, _UNGUARDED) for k in range(count)]
        except BaseException:
            self.close()
            raise
        self.about: list[About] = [one for answer in answers for one in answer]

    def reset(self, indices: Sequence[int], seeds: Sequence[int | None]) -> list[np.ndarray]:
        """Start episodes in some environments; returns their observations `[O]` float32."""
        return self._ask("reset", indices, seeds)

    def step(self, indices: Sequence[int], actions: Sequence[np.ndarray]) -> list[PoolStep]:
        """Take an action `[A]` in each of some environments."""
        return self._ask("step", indices, actions)

    def close(self) -> None:
        """End the processes."""
        self._finalizer()

    def _ask(self, what: str, indices: Sequence[int], values: Sequence[Any]) -> list[Any]:
        """Let every worker do its part, all at once; answers in the order of `indices`."""
        if not self._finalizer.alive:
            raise RuntimeError("workers must be running, got closed ones")
        parts: dict[int, list[tuple[int, Any]]] = {}
        for index, value in zip(indices, values, strict=True):
            owner = self._owner[index]
            parts.setdefault(owner, []).append((index - self._shares[owner].start, value))
        try:
            for owner, part in parts.items():
                with contextlib.suppress(ConnectionError):  # its end shows in the answer
                    self._lines[owner].send((what, part))
            answers = {}
            for owner, part in parts.items():
                self._wait(owner, len(part))
                answers[owner] = iter(self._receive(owner))
        except BaseException:
            self.close()  # the others are out of step
            raise
        return [next(answers[self._owner[index]]) for index in indices]

    def _wait(self, owner: int, count: int) -> None:
        """End the worker that does not answer in time for `count` environments."""
        if self._timeout is None or self._lines[owner].poll(self._timeout * count):
            return
        self._processes[owner].kill()
        raise GateError(
            f"one of environments {list(self._shares[owner])} must answer within {self._timeout} s,"
            " got no answer from its worker"
        )

    def _receive(self, owner: int, hint: str = "") -> list[Any]:
        try:
            fine, answer = self._lines[owner].recv()
        except (EOFError, ConnectionError):
            self._processes[owner].join(_CLOSE_SECONDS)
            share, code = list(self._shares[owner]), self._processes[owner].exitcode
            raise RuntimeError(
                f"the worker of environments {share} must run, got its end with exit code {code}"
                f"{hint if code == 1 else ''}"
            ) from None
        if not fine:
            place, trace, cause = answer
            raise GateError(
                f"environment {self._shares[owner][place]} failed in its worker:\n{trace}"
            ) from (None if cause is None else pickle.loads(cause))
        return answer


def _check_makers(makers: Sequence[Callable[[], Any]]) -> None:
    """Raise ValueError for a function that cannot be sent to another process."""
    for index, maker in enumerate(makers):
        try:
            ForkingPickler.dumps(maker)
        except Exception as error:
            raise ValueError(
                "envs must be functions that can be pickled to be made in workers, such as "
                f"partial(make_gym, ..), got {maker!r} as environment {index}: {error}"
            ) from error


def _serve(
    line: Connection, makers: Sequence[Callable[[], Any]], first: int, limits: Limits
) -> None:
    """Make environments and do what is asked of them, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    members: list[Any] = []
    try:
        for member in members_of(makers, limits, first):
            members.append(member)  # noqa: PERF402 - an error is sent with its place
        answer = True, [member.about for member in members]
    except Exception as error:
        answer = False, _explained(len(members), error)
    # The other end goes as soon as another worker fails: no fault of this one.
    with contextlib.suppress(EOFError, ConnectionError):
        line.send(answer)
        while True:
            what, part = line.recv()
            line.send(_done(members, what, part))
    for member in members:
        with contextlib.suppress(Exception):  # nobody is left to hear of it
            member.close()


def _done(members: Sequence[Any], what: str, part: Sequence[tuple[int, Any]]) -> tuple[bool, Any]:
    answers, place = [], 0
    try:
        for place, value in part:
            answers.append(getattr(members[place], what)(value))
    except Exception as error:
        return False, _explained(place, error)
    return True, answers


def _explained(place: int, error: Exception) -> tuple[int, str, bytes | None]:
    """Return what the other process hears of an error: where, its trace, and what caused it."""
    cause: bytes | None = None
    with contextlib.suppress(Exception):  # one that cannot be sent is in the trace
        sent = pickle.dumps(error if error.__cause__ is None else error.__cause__)
        pickle.loads(sent)
        cause = sent
    return place, "".join(traceback.format_exception(error)), cause


def _end(lines: Sequence[Any], processes: Sequence[Any]) -> None:
    for line in lines:
        line.close()
    for process in processes:
        process.join(_CLOSE_SECONDS)
        if process.is_alive():
            process.terminate()
            process.join()
