"""Times environment steps of one task: bare physics, one process, several processes at once."""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from pwm_sdk import MT80, make_env, make_gym
from pwm_sdk.runs import end_with_parent

VARIANTS = ("bare", "gym", "torchrl", "workers")
WAIT_SECONDS = 300.0
_meeting: Any = None


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        steps: Agent steps of one reading; at most the length of the task's episodes is used.
        rounds: Readings of each variant, interleaved.
        workers: Processes that step at once.
    """

    steps: int
    rounds: int
    workers: int


@dataclass(frozen=True)
class Reading:
    """Medians over the rounds for one task.

    Args:
        task: Name of the task.
        suite: Row of the table that the task belongs to.
        steps_per_second: Agent steps by variant per second of processor time; for `workers`, of
            all together per second that passed.
        reset_ms: Milliseconds of processor time of a reset.
    """

    task: str
    suite: str
    steps_per_second: dict[str, float]
    reset_ms: float


def suite_of(name: str) -> str:
    """The row of the table that a task belongs to."""
    task = MT80[name]
    if task.suite == "metaworld":
        return "Meta-World"
    return "dm_control, custom" if task.custom else "dm_control, stock"


class Workers:
    """Processes that step environments of their own at the same time.

    Args:
        count: Number of processes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(
            count, mp_context=context, initializer=_join, initargs=(context.Barrier(count),)
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def rates(self, task: str, plan: Plan) -> list[float]:
        """Agent steps of all workers together per second that passed, one entry per round."""
        jobs = [self._executor.submit(_work, task, plan, seed) for seed in range(self.count)]
        spans = np.array([job.result() for job in jobs])  # [workers, rounds, (begin, end)]
        seconds = spans[..., 1].max(axis=0) - spans[..., 0].min(axis=0)
        steps = self.count * steps_of(task, plan)
        return [steps / second for second in seconds.tolist()]


def measure(name: str, plan: Plan, workers: Workers) -> Reading:
    """Time every variant on one task."""
    env, torchrl = make_gym(name, seed=0), make_env(name, seed=0)
    steps = steps_of(name, plan)
    actions = _actions(env, steps, seed=0)
    bare = bare_physics(env, actions)
    seconds: dict[str, list[float]] = {"bare": [], "gym": [], "torchrl": [], "reset": []}
    for _ in range(plan.rounds):
        seconds["bare"].append(_timed(bare()))
        seconds["reset"].append(_timed(env.reset))
        seconds["gym"].append(_timed(lambda: _play(env, actions)))
        start = torchrl.reset()
        seconds["torchrl"].append(
            _timed(lambda start=start: torchrl.rollout(steps, auto_reset=False, tensordict=start))
        )
    env.close()
    torchrl.close()
    rates = {kind: steps / median(seconds[kind]) for kind in ("bare", "gym", "torchrl")}
    rates["workers"] = median(workers.rates(name, plan))
    return Reading(name, suite_of(name), rates, 1e3 * median(seconds["reset"]))


def steps_of(name: str, plan: Plan) -> int:
    """Agent steps of one reading."""
    return min(plan.steps, MT80[name].episode_length)


def bare_physics(env: Any, actions: np.ndarray) -> Callable[[], Callable[[], Any]]:
    """Record an episode; the result sets its first state anew and returns what replays it.

    The replay steps the same model with the same controls for as many substeps, in the engine
    alone, and returns the state it ends in.
    """
    mujoco: Any = importlib.import_module("mujoco")  # its functions are unknown to type checkers
    inner = env.unwrapped
    env.reset(seed=0)
    model, data, substeps = _engine(inner.simulator)
    first = copy.copy(data)
    controls = []
    for action in np.repeat(actions, env.task.action_repeat, axis=0):
        inner.step(action.astype(inner.action_space.dtype))
        controls.append((data.ctrl.copy(), data.mocap_pos.copy()))

    def prepare() -> Callable[[], Any]:
        state = copy.copy(first)

        def replay() -> Any:
            for control, mocap in controls:
                state.ctrl[:], state.mocap_pos[:] = control, mocap
                mujoco.mj_step(model, state, nstep=substeps)
            return state

        return replay

    return prepare


def _engine(simulator: Any) -> tuple[Any, Any, int]:
    """Model, state and number of engine steps per control step."""
    if hasattr(simulator, "frame_skip"):
        return simulator.model, simulator.data, simulator.frame_skip
    physics = simulator.physics
    substeps = round(simulator.control_timestep() / physics.timestep())
    return physics.model.ptr, physics.data.ptr, substeps


def _play(env: Any, actions: Sequence[np.ndarray] | np.ndarray) -> None:
    for action in actions:
        env.step(action)


def _actions(env: Any, steps: int, seed: int) -> np.ndarray:
    shape = (steps, env.task.action_dim)
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(np.float32)


def _timed(call: Callable[[], object]) -> float:
    """Seconds of processor time, which other programs on the machine change least."""
    begin = time.process_time()
    call()
    return max(time.process_time() - begin, 1e-6)  # what a coarse clock may show of a short call


def _join(meeting: Any) -> None:
    end_with_parent()
    global _meeting
    _meeting = meeting


def _work(name: str, plan: Plan, seed: int) -> list[tuple[float, float]]:
    """One worker's share: begin and end of each round, on the clock that processes share."""
    env = make_gym(name, seed=seed)
    actions = _actions(env, steps_of(name, plan), seed)
    spans = []
    for _ in range(plan.rounds):
        env.reset()
        _meeting.wait(WAIT_SECONDS)
        begin = time.perf_counter()
        _play(env, actions)
        spans.append((begin, time.perf_counter()))
    env.close()
    return spans
