"""Any agent in rounds: collect with its explorer, update from what was collected."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import ReplayBuffer as TransitionReplay

from pwm_sdk import keys
from pwm_sdk.calls import checked, has, least
from pwm_sdk.checks import in_unit
from pwm_sdk.contract.agents import (
    ActingPolicy,
    Agent,
    Batches,
    Behaviour,
    ConfiguredAgent,
    SteppingAgent,
    WatchedAgent,
)
from pwm_sdk.contract.pools import Pool
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.data.transitions import EpisodeCutter
from pwm_sdk.generators import random_state, set_random_state
from pwm_sdk.optim import linear_decay
from pwm_sdk.policies.behaviours import RandomBehaviour
from pwm_sdk.training.border import renew
from pwm_sdk.training.collect import Collector
from pwm_sdk.training.settings import RoundReport

__all__ = ["AgentLoop"]


@checked(
    steps=least(1),
    every=least(1),
    updates=least(1),
    updates_per_step=least(0.0),
    seed_steps=least(0),
    floor=in_unit,
    progress=in_unit,
)
class AgentLoop:
    """Rounds of {collect, update} for one agent: a `Loop`, which a `Run` drives.

    What an agent learns from follows from what is there:

    | pool | replay | each update gets |
    |---|---|---|
    | yes | yes | a sample of the replay, which keeps all that was collected (SAC, TD-MPC2, ...) |
    | yes | no | the newest steps `[N, every]`, once (PPO) |
    | no | yes | a sample of data that stay as they are (behaviour cloning, offline) |
    | no | no | None: the agent has starts of its own (SHAC) |

    Args:
        agent: what learns.
        pool: training environments; None: nothing is collected.
        replay: a `ReplayBuffer`, for windows, or a TorchRL replay buffer, for transitions.
        steps: environment steps of a round, in each environment.
        every: steps in each environment between two visits to the agent; divides `steps`.
        updates_per_step: updates for each environment step, with a pool and a replay.
        updates: of a round, without a pool.
        seed_steps: uniform random actions at the start, in each environment, with a replay.
        floor: learning rates fall along a straight line to this share of their start; 1 keeps them.
        names: what tables call the environments; None: as messages call them.
        test_pool: environments of evaluations, in which nothing is learned; None: there are none.
        seed: of the random actions and of environments that start again.

    Attributes:
        steps: environment steps so far, over all environments.
        left_out: episodes so far that were shorter than a window of the replay.
        code: the agent's class and configuration and these numbers, which tell a `Run` the loop
            from others. Networks, replay and environments are no part of it.

    Raises:
        ValueError: if `every` does not divide `steps`, names do not fit, or the replay cannot keep
            what is collected.
    """

    def __init__(
        self,
        agent: Agent,
        pool: Pool | None = None,
        replay: Batches | None = None,
        *,
        steps: int = 250,
        every: int = 1,
        updates_per_step: float = 1.0,
        updates: int = 100,
        seed_steps: int = 1_000,
        floor: float = 1.0,
        names: Sequence[str] | None = None,
        test_pool: Pool | None = None,
        seed: int = 0,
    ) -> None:
        if steps % every:
            raise ValueError(f"steps must be a multiple of every ({every}), got {steps}")
        self.agent, self.pool, self.replay, self.test_pool = agent, pool, replay, test_pool
        self.per_round, self.every, self.floor = steps, every, floor
        self.updates_per_step, self.per_round_updates = updates_per_step, updates
        self.seed_steps = seed_steps if replay is not None else 0
        places = test_pool if pool is None else pool
        known = [] if places is None else places.names
        self.names = list(known if names is None else names)
        if len(self.names) != len(known):
            raise ValueError(f"names must have {len(known)} entries, got {self.names}")
        self.tasks: list[int | None] = [] if places is None else list(places.tasks)
        self.rng = np.random.default_rng(seed)
        self.round = self.steps = self.left_out = 0
        self.code = _told(
            agent,
            steps=steps,
            every=every,
            updates_per_step=updates_per_step,
            updates=updates,
            seed_steps=seed_steps,
            floor=floor,
            seed=seed,
        )
        self._owed = 0.0
        self._collector: Collector | None = None
        self._acting = _Acting()
        self._returns: list[list[float]] = [[] for _ in known]
        self._totals = np.zeros(len(known))
        self._generator = torch.Generator("cpu").manual_seed(int(self.rng.integers(2**31)))
        self._cutters: list[EpisodeCutter] = []
        if isinstance(replay, TransitionReplay):
            replay.set_rng(self._generator)
        elif pool is not None and replay is not None:
            has("extend", "save", "load", "slice_len")(replay=replay)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the stream of steps: a copy starts new episodes."""
        return {**vars(self), "_collector": None, "_acting": _Acting(), "_cutters": []}

    @property
    def updates(self) -> int:
        """Number of updates so far."""
        return self.agent.updates

    def policy(self) -> ActingPolicy:
        """Return the agent's policy, which acts by its mean."""
        return self.agent.policy()

    def begin(self) -> None:
        """Collect `seed_steps` of random actions."""
        if self.pool is None or not self.seed_steps:
            return
        dims, seed = max(self.pool.action_dims), int(self.rng.integers(2**31))
        self._acting.behaviour = RandomBehaviour(len(self.pool), dims, seed)
        while self.steps < self.seed_steps * len(self.pool):
            self._collect()
        self._acting.behaviour = None

    def run_round(self, progress: float) -> RoundReport:
        """Collect and update in turns; `progress` in [0, 1] drives the learning rates.

        Raises:
            ValueError: if a loss is not finite.
        """
        self.agent.set_learning_rates(linear_decay(progress, self.floor))
        seconds, metrics, left_out = [0.0, 0.0], {}, self.left_out
        self._returns = [[] for _ in self._returns]
        for _ in range(1 if self.pool is None else self.per_round // self.every):
            begin = time.perf_counter()
            batch = None if self.pool is None else self._collect()
            collected = time.perf_counter()
            metrics = self._learn(batch) or metrics
            seconds[0] += collected - begin
            seconds[1] += time.perf_counter() - collected
        self._check_finite()
        self.round += 1
        if self.pool is None and isinstance(self.agent, SteppingAgent):
            self.steps = self.agent.steps
        return RoundReport(
            updates=self.updates,
            train_return=np.asarray([np.mean(r) if r else np.nan for r in self._returns]),
            alarms={},
            metrics={name: float(value.nanmean()) for name, value in metrics.items()},
            train_seconds=seconds[1],
            collect_seconds=seconds[0],
            left_out=self.left_out - left_out,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all but the data: the agent, counters and random states.

        Raises:
            ValueError: if something was not finite.
        """
        self._check_finite()
        state = {
            "agent": self.agent.state_dict(),
            "round": self.round,
            "steps": self.steps,
            "left_out": self.left_out,
            "owed": self._owed,
            "rng": self.rng.bit_generator.state,
            "generator": self._generator.get_state(),
            "torch_rng": random_state(),
        }
        if isinstance(self.replay, ReplayBuffer):
            state["replay"] = self.replay.generator.get_state()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`; environments start again, as those of a `GrowingBatch`."""
        self.agent.load_state_dict(state["agent"])
        self.round, self.steps = state["round"], state["steps"]
        self.left_out, self._owed = state["left_out"], state["owed"]
        self.rng.bit_generator.state = state["rng"]
        self._generator.set_state(state["generator"])
        if isinstance(self.replay, ReplayBuffer):
            self.replay.generator.set_state(state["replay"])
        if self.pool is not None:
            renew(self.pool, self.rng, self.round)
        self._collector, self._cutters = None, []
        set_random_state(state["torch_rng"])

    def save_data(self, path: Path) -> None:
        """Write what was collected to a folder; data that stay as they are are not written."""
        if self.pool is None or self.replay is None:
            return
        if isinstance(self.replay, ReplayBuffer):
            self.replay.save(path)
        else:
            path.mkdir(parents=True, exist_ok=True)
            self.replay.dumps(path)  # pyright: ignore[reportAttributeAccessIssue]

    def load_data(self, path: Path) -> None:
        """Read what `save_data` wrote."""
        if self.pool is None or self.replay is None:
            return
        if isinstance(self.replay, ReplayBuffer):
            self.replay.load(path)
        else:
            self.replay.loads(path)  # pyright: ignore[reportAttributeAccessIssue]

    def _collect(self) -> TensorDict:
        """Step every environment `every` times, and keep what a replay is for."""
        pool: Any = self.pool
        if self._collector is None:
            self._acting.explorer = self.agent.explorer().behaviour(pool.tasks)
            self._collector = Collector(pool, self._acting)
            self._totals[:] = 0.0
        batch = self._collector.batch(self.every)
        self.steps += batch.numel()
        self._note_returns(batch)
        if self.replay is not None:
            if isinstance(self.agent, SteppingAgent):
                self.agent.steps += batch.numel()
            self._keep(batch)
        return batch

    def _keep(self, batch: TensorDict) -> None:
        if not isinstance(self.replay, ReplayBuffer):
            self.replay.extend(batch.reshape(-1))  # pyright: ignore
            return
        size = self.replay.slice_len
        if not self._cutters:
            tasks = [0 if task is None else task for task in self.tasks]
            self._cutters = [EpisodeCutter(task, absorbing=size - 2) for task in tasks]
        for cutter, rows in zip(self._cutters, batch, strict=True):
            episodes = list(cutter.cut(rows))
            kept = [episode for episode in episodes if len(episode) >= size]
            self.replay.extend(kept)
            self.left_out += len(episodes) - len(kept)

    def _learn(self, batch: TensorDict | None) -> Any:
        """Update as often as is due; returns the last metrics."""
        metrics: Any = None
        if batch is not None and self.replay is None:
            return self.agent.update(batch)
        if batch is None:
            for _ in range(self.per_round_updates):
                metrics = self.agent.update(self._sample())
            return metrics
        self._owed += self.updates_per_step * batch.numel()
        while self._owed >= 1.0 and len(self.replay):  # pyright: ignore
            metrics = self.agent.update(self._sample())
            self._owed -= 1.0
        return metrics

    def _sample(self) -> Any:
        return None if self.replay is None else self.replay.sample()

    def _note_returns(self, batch: TensorDictBase) -> None:
        """Add up rewards, and note the returns of episodes that ended."""
        after: Any = batch[keys.NEXT]
        reward = after[keys.REWARD][..., 0].double().numpy()
        done = after[keys.DONE][..., 0].numpy()
        for step in range(reward.shape[1]):
            self._totals += reward[:, step]
            for i in np.flatnonzero(done[:, step]):
                self._returns[i].append(float(self._totals[i]))
                self._totals[i] = 0.0

    def _check_finite(self) -> None:
        if isinstance(self.agent, WatchedAgent):
            self.agent.check_finite()


def _told(agent: Agent, **numbers: object) -> str:
    """Say what tells a loop from others."""
    parts = [type(agent).__name__, *(f"{name}={value}" for name, value in numbers.items())]
    config = agent.config if isinstance(agent, ConfiguredAgent) else None
    if is_dataclass(config) and " at 0x" not in (text := str(config)):  # the same everywhere
        parts.insert(1, text)
    return f"AgentLoop({', '.join(parts)})"


class _Acting:
    """Acts as `behaviour`, where there is one, else as the explorer."""

    behaviour: Behaviour | None = None
    explorer: Behaviour | None = None

    def _both(self) -> list[Any]:
        return [part for part in (self.behaviour, self.explorer) if part is not None]

    def start(self, index: int) -> None:
        """Note that an episode begins."""
        for part in self._both():
            part.start(index)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return actions `[N, A]`."""
        return self._both()[0](observation)
