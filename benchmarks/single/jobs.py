"""One job of a comparison: a method on a task with a seed, its budget, its clock and its curve."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDictBase

from files import find_result, write_json
from machine import memory
from pwm_sdk import (
    EnvPool,
    Pool,
    PoolStep,
    ReplayBuffer,
    Task,
    make_episode,
    make_gym,
    make_pool,
    run_episodes,
    run_identity,
    summarize,
    transitions,
    write_result,
)
from single.sizes import Scale


@dataclass(frozen=True)
class Settings:
    """What all jobs of a comparison share.

    Attributes:
        minutes: learning minutes of a job, evaluation not counted; None: no limit.
        steps: environment steps (agent steps) of a job; None: no limit.
        readings: points of the curve, the first before any learning.
        reading_episodes: episodes of a point.
        final_episodes: episodes of the last point, which the tables show.
        scale: what methods are built as: "small", for two cores and minutes; "published", of the
            sizes of their papers; "tiny", the smallest networks that run: for tests.
        device: where networks and data live.
    """

    minutes: float | None = None
    steps: int | None = None
    readings: int = 10
    reading_episodes: int = 3
    final_episodes: int = 10
    scale: Scale = "small"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ValueError("minutes or steps must be given, got neither")
        for name in ("minutes", "steps", "readings", "reading_episodes", "final_episodes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")


class Job:
    """What a method is handed: its task, its environments and the question whether to go on.

    A method calls `goes_on` between its rounds and stops when it says no. Environments of
    `make_env`, `make_pool` and `stream` count their steps; a simulator that is stepped otherwise
    is counted by `count`.

    Args:
        method: name of the method.
        task: what to learn.
        seed: the seed; the global generators are set to it when the job begins.
        settings: budget and evaluation.
        folder: gets curve.json while the job runs and result.json at its end.

    Attributes:
        left_out: training episodes that were shorter than a window, and not kept.
    """

    def __init__(
        self, method: str, task: Task, seed: int, settings: Settings, folder: Path
    ) -> None:
        self.method, self.task, self.seed = method, task, seed
        self.settings, self.folder = settings, folder
        self.scale: Scale = settings.scale
        self.tiny, self.device = self.scale == "tiny", settings.device
        self.steps = self.left_out = 0
        self.curve: list[dict[str, float]] = []
        self._behaviour: Any = None
        self._test = EnvPool([make_gym(task, seed=1_000_000 + seed)])
        self._evaluating = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self._begin, self._cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Learning seconds so far, without evaluation."""
        return time.perf_counter() - self._begin - self._evaluating

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        by_steps = 0.0 if self.settings.steps is None else self.steps / self.settings.steps
        minutes = self.settings.minutes
        by_time = 0.0 if minutes is None else self.seconds / (60.0 * minutes)
        return min(1.0, max(by_steps, by_time))

    def goes_on(self, behaviour: Any) -> bool:
        """Take a reading of `behaviour` if one is due, and tell whether budget is left.

        Args:
            behaviour: acts in one environment, as `behaviour` of a policy does;
                the one of the last call is the result of the job.
        """
        self._behaviour = behaviour
        progress = self.progress
        if progress < 1.0 and progress * self.settings.readings >= len(self.curve):
            self._read(self.settings.reading_episodes)
            write_json(self.folder / "curve.json", self.curve)
        return progress < 1.0

    def make_env(self, index: int = 0) -> gymnasium.Env:
        """Return a training environment whose steps are counted; each `index` has its seed."""
        env = make_gym(self.task, seed=1000 * self.seed + index)
        return _Counted(env, self)

    def make_pool(self, count: int = 1, batched: bool | None = None) -> Pool:
        """Return a pool of `count` training environments, whose steps are counted.

        Args:
            count: number of environments.
            batched: step them all at once, as a simulator can, with the start states that single
                ones draw; None: where the task is a simulator.
        """
        if self.task.suite == "simulator" if batched is None else batched:
            return _CountedPool(make_pool(self.task, count, seed=1000 * self.seed), self)
        return EnvPool([self.make_env(i) for i in range(count)])

    def count(self, steps: int) -> None:
        """Add agent steps of a simulator that is not one of `make_env`."""
        self.steps += steps

    def stream(self, agent: Any, envs: int = 1, steps: int = 10) -> Iterator[TensorDictBase]:
        """Yield transitions `[envs, steps]` of an agent's explorer until the budget is spent.

        Args:
            agent: its explorer acts, its policy is what is evaluated.
            envs: environments side by side.
            steps: of each per batch.
        """
        policy = agent.policy().behaviour([None])
        yield from self._batches(agent.explorer().behaviour([None] * envs), policy, envs, steps)

    def play(
        self, acting: Any, policy: Any, replay: ReplayBuffer, length: int | None = None
    ) -> Iterator[int]:
        """Step one environment until the budget is spent and keep its episodes.

        Args:
            acting: behaviour that acts.
            policy: behaviour that is evaluated.
            replay: a `ReplayBuffer`, which gets each episode when it ends, as task 0, with
                absorbing rows after a fall; those shorter than its windows are left out, and
                counted in `left_out`.
            length: keep episodes in pieces of so many steps; None: whole.

        Yields:
            Environment steps so far, after each.
        """
        rows: list[Any] = []
        for batch in self._batches(acting, policy, 1, 1):
            rows.append(batch)
            if bool(batch["next", "done"]) or len(rows) == length:
                episode, rows = _episode(torch.cat(rows, 1)[0], replay), []
                if len(episode) >= replay.slice_len:
                    replay.add(episode)
                else:
                    self.left_out += 1
            yield self.steps

    def _batches(self, acting: Any, policy: Any, envs: int, steps: int) -> Iterator[TensorDictBase]:
        """Yield transitions `[envs, steps]` until the budget is spent."""
        pool = self.make_pool(envs)
        data = transitions(pool, acting, steps)
        try:
            while self.goes_on(policy):
                yield next(data)
        finally:
            pool.close()

    def finish(self) -> dict[str, Any]:
        """Evaluate the last behaviour at length and write result.json.

        Raises:
            ValueError: if the method never called `goes_on`.
        """
        if self._behaviour is None:
            raise ValueError(f"method {self.method!r} must call goes_on, got no behaviour to score")
        self._read(self.settings.final_episodes)
        result = {
            "method": self.method,
            "task": self.task.name,
            "seed": self.seed,
            **self.curve[-1],
            "scaled": self.task.score(self.curve[-1]["return"], self.curve[-1]["success_last"]),
            "ms_per_action": self._latency(),
            "memory_mb": _peak_memory(),
            "left_out": self.left_out,
            "curve": self.curve,
        }
        self._test.close()
        write_result(self.folder / "result.json", result, run_of(self.settings, result))
        return result

    def _read(self, episodes: int) -> None:
        point = {"steps": self.steps, "seconds": self.seconds}
        begin, cpu = time.perf_counter(), time.process_time()
        found = run_episodes(self._test, self._behaviour, [episodes])[0]
        length = float(np.mean([len(episode.reward) for episode in found]))
        spent = {"cpu_seconds": cpu - self._cpu}
        self.curve.append({**point, **spent, **summarize(found), "length": length})
        self._evaluating += time.perf_counter() - begin
        self._cpu += time.process_time() - cpu

    def _latency(self, calls: int = 100) -> float:
        """Median milliseconds from one observation to its action."""
        observation = self._test.reset(0)[None]
        self._behaviour.start(0)
        times = []
        for _ in range(3 if self.tiny else calls):
            begin = time.perf_counter()
            self._behaviour(observation)
            times.append(time.perf_counter() - begin)
        return 1000.0 * float(np.median(times))


class _CountedPool:
    """A pool that tells a job of every step."""

    def __init__(self, pool: Pool, job: Job) -> None:
        self.pool, self.job = pool, job

    def __len__(self) -> int:
        return len(self.pool)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)

    def step_many(self, indices: Sequence[int], actions: Any) -> Sequence[PoolStep]:
        """Step and count."""
        self.job.count(len(indices))
        return self.pool.step_many(indices, actions)


class _Counted(gymnasium.Wrapper):
    """Tells a job of every step."""

    def __init__(self, env: gymnasium.Env, job: Job) -> None:
        super().__init__(env)
        self.job = job

    def step(self, action: Any) -> Any:
        self.job.count(1)
        return self.env.step(action)


def _episode(rows: Any, replay: ReplayBuffer) -> TensorDictBase:
    """Lay out consecutive transitions `[T]` as an episode for a buffer."""
    after = rows["next"]
    seen = torch.cat((rows["observation"][:1], after["observation"])).to(replay.device)
    steps = seen, rows["action"], after["reward"], 0, after["terminated"]
    return make_episode(*steps, absorbing=replay.slice_len - 2)


def _peak_memory() -> float:
    """Largest resident memory of this process in MB, and with a GPU what was allocated there."""
    held = memory("VmHWM")
    if held is None:  # bytes on macOS; on Linux it would count what the parent held before
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if torch.cuda.is_available():
        held += torch.cuda.max_memory_allocated()
    return held / 1e6


def run_of(settings: Settings | None, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells a job's result from those of other settings and other jobs."""
    job = {name: result[name] for name in ("method", "task", "seed")}
    return run_identity(None if settings is None else asdict(settings), **job)


def load_result(folder: Path, settings: Settings | None = None) -> dict[str, Any] | None:
    """Return a finished job's result; None where there is none.

    Args:
        folder: of the job.
        settings: what it must be a result of; None: of any.

    Raises:
        ValueError: for a damaged file, or one of other settings or of another job.
    """
    path = folder / "result.json"
    result = find_result(path, None)
    if result is None or settings is None:
        return result
    if {"method", "task", "seed"} - set(result):
        raise ValueError(f"{path} must name its method, task and seed, got others: delete it")
    return find_result(path, run_of(settings, result))
