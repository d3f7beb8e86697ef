"""Growing batches: collect, train the shared model, improve the policies, in small rounds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from tensordict import TensorDictBase
from torch import Tensor

from pwm_sdk.calls import checked, least
from pwm_sdk.checks import in_unit, positive, whole
from pwm_sdk.contract.agents import Behaviour, check_finite
from pwm_sdk.contract.memory import has_memory
from pwm_sdk.contract.models import (
    LatentModel,
    embeddings_of,
    has_loss,
    is_standardized,
    num_tasks,
)
from pwm_sdk.contract.policies import member_of, population_of
from pwm_sdk.contract.pools import Pool
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.execution.settings import Execution
from pwm_sdk.generators import random_state, set_random_state
from pwm_sdk.metrics import flat_metrics
from pwm_sdk.objectives.world_model import world_model_loss
from pwm_sdk.optim import (
    FiniteWatch,
    linear_decay,
    optimize,
    remember_learning_rates,
    scale_learning_rates,
)
from pwm_sdk.policies.behaviours import LatentBehaviour, RandomBehaviour
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.states import load_state, state_of
from pwm_sdk.training.border import renew
from pwm_sdk.training.collect import Episode, run_episodes
from pwm_sdk.training.keeping import keep_episodes
from pwm_sdk.training.metrics import exploitation_gap
from pwm_sdk.training.settings import (
    Learner,
    RoundConfig,
    RoundReport,
    check_abilities,
    check_ids,
)

STATISTICS_ROUNDS = 10
MODEL = "the world model's loss and gradient"


@checked(
    lengths=least(1),
    weight=least(0.0),
    updates=least(0),
    progress=in_unit,
)
class GrowingBatch:
    """The loop {collect with policy and noise, train the model, improve the policies} over N tasks.

    In a process group of `torch.distributed`, every process owns some of the tasks: their
    environments, data and policies. The world model is shared: its gradients are averaged, so all
    replicas stay equal.

    Args:
        pool: a `Pool`, one environment per task, in the order of the learners' tasks; for one task
            with a policy that is no population any number of them, which share the episodes out.
        model: a `LatentModel`, of tasks whose ids the learners name, or for one
            task without ids, with or without memory. What it is trained by: see `model_loss`. If it
            is a `StandardizedModel`, its statistics are set.
        model_optimizer: steps the model.
        learners: their tasks, joined, are the pool's.
        replay: where episodes go; its windows train the model.
        config: settings.
        reward_scale: rewards enter the replay divided by this, per task; positive. None: by the
            largest reward, without its sign, that the seed episodes show.
        lengths: training episodes are cut after so many agent steps, per task. Short ones keep
            data useful where failing is absorbing.
        episodes: training episodes per round and task.
        seed_episodes: episodes of random actions that `begin` collects, per task; None: five times
            as many as a round's.
        names: what tables call the tasks; None: as messages call the environments.
        test_pool: environments of evaluations, in the same order, in which nothing is learned;
            None: there are none.
        seed: seed of exploration.
        weight: weight of this process's model loss in a process group, its share of all windows
            times their number.
        execution: how the model is trained, in which precision; the learners have their own. None:
            eager, in fp32.
        model_loss: maps the model and a batch of windows to the loss, alone or with a dictionary of
            metrics; None: the model's own (`LossModel`) if it has one, else `world_model_loss` with
            the coefficients of `config`, which takes a `TrainableModel`.

    Attributes:
        execution: what of it is possible on the model's device.
        steps: environment steps so far, over all tasks.
        code: the program that makes such a loop, where a recipe made it.
        left_out: episodes so far that were cut shorter than a window; the replay has none of them.

    Raises:
        ValueError: if numbers of tasks differ, the model does not know an id, settings are out of
            range, or a model or an actor lacks what the loop uses, by its name.
    """

    def __init__(
        self,
        pool: Pool,
        model: LatentModel,
        model_optimizer: torch.optim.Optimizer,
        learners: Sequence[Learner],
        replay: ReplayBuffer,
        config: RoundConfig,
        *,
        reward_scale: Sequence[float | None],
        lengths: Sequence[int],
        episodes: Sequence[int],
        seed_episodes: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        test_pool: Pool | None = None,
        seed: int = 0,
        weight: float = 1.0,
        execution: Execution | None = None,
        model_loss: Callable[[Any, TensorDictBase], Any] | None = None,
    ) -> None:
        self.weight, self.model_loss = weight, model_loss
        remember_learning_rates(model_optimizer)
        self.pool, self.model_optimizer = pool, model_optimizer
        self.model: Any = model  # its abilities are asked for below
        self.learners, self.replay, self.config = list(learners), replay, config
        self.tasks = [task for learner in learners for task in learner.tasks]
        self.reward_scale, self.lengths = list(reward_scale), list(lengths)
        self.episodes = list(episodes)
        first = [5 * n for n in episodes] if seed_episodes is None else seed_episodes
        self.seed_episodes = list(first)
        alone = len(self.learners) == 1 and population_of(self.learners[0].pwm.actor) is None
        self._rows = max(1, len(pool) // len(self.tasks)) if alone else 1
        known = pool.names[:: self._rows] if names is None else names
        self.names, self.test_pool = list(known), test_pool
        self._check_sizes()
        positive(reward_scale=[scale for scale in self.reward_scale if scale is not None])
        whole(1, lengths=self.lengths, episodes=self.episodes)
        whole(0, seed_episodes=self.seed_episodes)
        check_ids(self.tasks, num_tasks(model))
        own, rounds = model_loss is not None or has_loss(model), config.statistics_rounds
        shared = dist.is_initialized()
        check_abilities(model, self.learners, own_loss=own, rounds=rounds, shared=shared)
        if rounds is None:
            rounds = STATISTICS_ROUNDS if is_standardized(model) else 0
        self._statistics_rounds = rounds
        # a model with memory sees as much before imagination as windows show it
        self._history = {"history": replay.slice_len - 1} if has_memory(model) else {}
        self.rng = np.random.default_rng(seed)
        self.device = model_optimizer.param_groups[0]["params"][0].device
        self.execution = (execution or Execution()).on(self.device, compiles=False, captures=False)
        count = max(num_tasks(model), max(self.tasks) + 1)
        self.reward_weight = torch.ones(count, device=self.device)
        self.finite = FiniteWatch([MODEL], sys.maxsize, self.device)  # read by `check_finite`
        self.round = self.updates = self.steps = self.left_out = 0
        self.code = ""

    def begin(self) -> None:
        """Collect the seed episodes, and set all statistics."""
        self.collect_seed(self.seed_episodes)

    def collect_seed(self, episodes: Sequence[int]) -> list[list[Episode]]:
        """Fill the replay with episodes of held random actions and set all statistics."""
        if len(episodes) != len(self.tasks):
            raise ValueError(
                f"episodes must have one entry per task ({len(self.tasks)}), got {list(episodes)}"
            )
        whole(0, episodes=episodes)
        behaviour = RandomBehaviour(
            len(self.pool), self.model.action_dim, int(self.rng.integers(2**31)), self.config.hold
        )
        gathered = self._play(behaviour, episodes)
        self._store(gathered)
        return gathered

    def collect(self) -> list[list[Episode]]:
        """Add a round of episodes of the current policies with noise."""
        actors = [learner.pwm.actor for learner in self.learners]
        tasks = [task for task in self.tasks for _ in range(self._rows)]
        behaviour = LatentBehaviour(self.model, actors, tasks, self.rng, self.config.correlation)
        gathered = self._play(behaviour, self.episodes)
        self._store(gathered)
        return gathered

    def _play(self, behaviour: Behaviour, episodes: Sequence[int]) -> list[list[Episode]]:
        """Run `episodes[i]` episodes of task i, shared out among its rows of the pool."""
        rows = self._rows
        quota = [len(range(row, count, rows)) for count in episodes for row in range(rows)]
        lengths = [length for length in self.lengths for _ in range(rows)]
        found = run_episodes(self.pool, behaviour, quota, lengths=lengths)
        starts = range(0, len(found), rows)
        return [list(chain.from_iterable(found[i : i + rows])) for i in starts]

    def improve(self, updates: int) -> dict[str, Any]:
        """Train model and policies `updates` times; return the last metrics of each.

        With a replay on the model's device and a fused optimizer nothing in it waits for a GPU but,
        at the end, `check_finite` (not seen on one).

        Raises:
            ValueError: if a loss or its gradient is not finite.
        """
        metrics: dict[str, Any] = {}
        for _ in range(updates):
            metrics |= self._improve_model()
            for i, learner in enumerate(self.learners):
                if self.updates % learner.every == 0:
                    starts = self.replay.sample_starts(
                        learner.tasks, learner.starts, **self._history
                    )
                    starts = starts.to(self.device)
                    alone = learner.pwm.population is None
                    metrics[f"policies_{i}"] = learner.pwm.update(starts[0] if alone else starts)
            self.updates += 1
        self.check_finite()
        return metrics

    def _improve_model(self) -> dict[str, Any]:
        """Train the model once; returns its metrics."""
        batch = self.replay.sample().to(self.device)
        with self.execution.tf32(self.device):
            with self.execution.products(self.device):
                loss, details = self._loss(batch)
            norm = optimize(
                self.weight * loss,
                self.model_optimizer,
                self.config.model_max_norm,
                synchronize=True,
                watch=self._watch(),
                name=MODEL,
            )
        metrics = {"model_grad_norm": norm, "model_loss": loss.detach()}
        return metrics | ({"model": details} if details else {})

    def _loss(self, batch: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the model's loss on windows, and metrics of it."""
        if self.model_loss is not None:
            found = self.model_loss(self.model, batch)
            return found if isinstance(found, tuple) else (found, {})
        if has_loss(self.model):
            return self.model.loss(batch)
        config = self.config
        found = world_model_loss(
            self.model,
            batch,
            rho=config.rho,
            consistency=config.consistency,
            reward=config.reward,
            reward_weight=self.reward_weight,
        )
        return found, {}

    def _watch(self) -> FiniteWatch | None:
        """Return what notes the model's loss where reading it would wait for the device."""
        fused = getattr(self.model_optimizer, "_step_supports_amp_scaling", False)
        waits = self.device.type not in ("cpu", "meta")
        return self.finite if (waits and fused) or self.device.type == "meta" else None

    def check_finite(self) -> None:
        """Wait for the device; raise ValueError if something was not finite since the last time."""
        self.finite.read()
        for learner in self.learners:
            check_finite(learner.pwm)

    def run_round(self, progress: float) -> RoundReport:
        """Improve, then collect; `progress` in [0, 1] drives noise and learning rates."""
        config = self.config
        self._schedule(progress)
        count = config.first_updates if self.round == 0 else config.updates
        begin = time.perf_counter()
        metrics = self.improve(count)
        self._share_embeddings()
        trained, left_out = time.perf_counter(), self.left_out
        gathered = self.collect()
        self.round += 1
        return RoundReport(
            updates=self.updates,
            train_return=np.asarray([np.mean([e.total for e in mine]) for mine in gathered]),
            alarms=self.alarms(gathered, deterministic=False),
            metrics=flat_metrics(metrics),
            train_seconds=trained - begin,
            collect_seconds=time.perf_counter() - trained,
            left_out=self.left_out - left_out,
        )

    def alarms(
        self, episodes: Sequence[Sequence[Episode]], *, deterministic: bool
    ) -> dict[str, np.ndarray]:
        """Return the exploitation gap and its companions per task (see `exploitation_gap`).

        Segments have 16 steps, fewer where a task has no episode of so many.
        """
        if len(episodes) != len(self.tasks):
            raise ValueError(
                f"episodes must have one entry per task ({len(self.tasks)}), got {len(episodes)}"
            )
        columns: list[dict[str, np.ndarray]] = []
        low = 0
        for learner in self.learners:
            high = low + len(learner.tasks)
            longest = [max(len(e.reward) for e in mine) for mine in episodes[low:high]]
            columns.append(
                exploitation_gap(
                    self.model,
                    learner.pwm.actor,
                    learner.pwm.critic,
                    episodes[low:high],
                    learner.tasks,
                    learner.pwm.gamma,
                    reward_scale=self._scales()[low:high],
                    horizon=min(16, *longest),
                    rng=self.rng,
                    deterministic=deterministic,
                )
            )
            low = high
        return {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}

    def policy(self) -> ObservationPolicy:
        """Return the policies learned so far, for environments in the order of the tasks.

        They are the averaged ones, and follow later rounds.
        """
        averages = [learner.pwm.average for learner in self.learners]
        actor = averages[0] if len(averages) == 1 else _Joined(averages)
        return ObservationPolicy(actor, model=self.model, tasks=self.tasks)

    def state_dict(self) -> dict[str, Any]:
        """Return all but the replay's rows: networks, optimisers, counters, random states.

        Raises:
            ValueError: if something was not finite since the last `check_finite`.
        """
        self.check_finite()
        return {
            "model": state_of(self.model),
            "model_optimizer": self.model_optimizer.state_dict(),
            "learners": [learner.pwm.state_dict() for learner in self.learners],
            "reward_weight": self.reward_weight,
            "round": self.round,
            "updates": self.updates,
            "steps": self.steps,
            "reward_scale": self.reward_scale,
            "left_out": self.left_out,
            "rng": self.rng.bit_generator.state,
            "torch_rng": random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`.

        The environments are no part of it. Their random streams begin again, with seeds that follow
        from the saved state, so that no start state comes a second time. A resumed run equals an
        uninterrupted one in everything but what the environments draw, and to the bit another run
        that is resumed from the same state and the same replay (on a GPU: not seen).
        """
        load_state(self.model, state["model"])
        self.model_optimizer.load_state_dict(state["model_optimizer"])
        for learner, saved in zip(self.learners, state["learners"], strict=True):
            learner.pwm.load_state_dict(saved)
        self.reward_weight = state["reward_weight"].to(self.device)
        self.round, self.updates = state["round"], state["updates"]
        self.left_out = state.get("left_out", 0)  # not counted before, as steps
        self.steps = state.get("steps", 0)
        self.reward_scale = list(state.get("reward_scale", self.reward_scale))
        self.rng.bit_generator.state = state["rng"]
        # before torch's numbers: an environment may draw on them
        renew(self.pool, self.rng, self.round)
        set_random_state(state["torch_rng"])

    def save_data(self, path: Path) -> None:
        """Write the replay's rows to a folder."""
        self.replay.save(path)

    def load_data(self, path: Path) -> None:
        """Read what `save_data` wrote."""
        self.replay.load(path)

    def _check_sizes(self) -> None:
        """Raise ValueError for lists and pools that are not of as many environments."""
        columns = (self.tasks, self.reward_scale, self.lengths, self.episodes)
        sizes = {len(part) for part in (*columns, self.seed_episodes, self.names)}
        sizes.add(len(self.pool) // self._rows)
        if self.test_pool is not None:
            sizes.add(len(self.test_pool))
        if len(sizes) != 1:
            raise ValueError(
                "pool, tasks, reward_scale, lengths, episodes, seed_episodes, names and test_pool "
                f"must agree in size, got {sizes}"
            )

    def _scales(self) -> list[float]:
        """Return what rewards are divided by; 1 where no data has said."""
        return [1.0 if scale is None else scale for scale in self.reward_scale]

    def _schedule(self, progress: float) -> None:
        first, last = self.config.std
        std = first + (last - first) * min(1.0, progress / self.config.std_share)
        share, least = self.config.decay_share, self.config.decay_floor
        factor = linear_decay(progress, 0.0, share=share, least=least)
        scale_learning_rates(self.model_optimizer, factor)
        for learner in self.learners:
            learner.pwm.actor.set_std(std)
            learner.pwm.average.set_std(std)
            learner.pwm.set_learning_rates(factor)

    def _store(self, gathered: Sequence[Sequence[Episode]]) -> None:
        for i, (task, mine) in enumerate(zip(self.tasks, gathered, strict=True)):
            self.steps += sum(len(episode.reward) for episode in mine)
            scale = self.reward_scale[i]
            if scale is None:
                scale = self.reward_scale[i] = _largest_reward(mine)
            self.left_out += keep_episodes(self.replay, task, scale, mine)
        settling = self.round < self._statistics_rounds
        if settling or self.round % 5 == 0:  # the moments of a large replay change slowly
            self.refresh_statistics(settling)

    def refresh_statistics(self, observations: bool) -> None:
        """Set the reward weights and, where asked, the model's observation statistics."""
        config = self.config
        for task in self.tasks:
            moments = self.replay.statistics(task)
            if observations:
                std = moments["observation_std"]
                std = torch.where(std < 1e-4, torch.ones_like(std), std + 2e-3)
                known = task if num_tasks(self.model) else None
                self.model.set_observation_statistics(moments["observation_mean"], std, known)
            if config.reward_weight_gain:
                spread = float(moments["reward_var"]) + config.reward_weight_eps
                weight = config.reward_weight_gain / spread
                self.reward_weight[task] = min(config.reward_weight_cap, weight)
        if observations:
            self._share_statistics()

    def _share_statistics(self) -> None:
        """Let every process know the observation statistics of every other process's tasks."""
        if not dist.is_initialized():  # no other; a model need not show its tables
            return
        self._share_rows(self.model.observation_mean, 0.0)
        self._share_rows(self.model.observation_std, 1.0)

    def _share_embeddings(self) -> None:
        """Let every process know the task embeddings of the others: a lookup shortens its rows."""
        table = embeddings_of(self.model)
        if table is not None:
            self._share_rows(table.data, table.data)

    def _share_rows(self, table: torch.Tensor, others: torch.Tensor | float) -> None:
        """Take each task's row from the process that owns it; `others` where none does."""
        if not dist.is_initialized():
            return
        own = torch.zeros(len(table), 1, device=table.device)
        own[self.tasks] = 1.0
        total = torch.where(own > 0, table, 0.0)
        dist.all_reduce(own)
        dist.all_reduce(total)
        table.copy_(torch.where(own > 0, total, others))


class _Joined(torch.nn.Module):
    """Several policies and populations as one population, in their order.

    Args:
        actors: of latents of one size and actions of one size.
    """

    def __init__(self, actors: Sequence[Any]) -> None:
        super().__init__()
        self.actors = torch.nn.ModuleList(actors)
        self.sizes = [population_of(actor) or 1 for actor in actors]
        self.population, self.action_dim = sum(self.sizes), actors[0].action_dim

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Return actions `[P, .., A]` for latents `[P, .., D]`."""
        actions = []
        for actor, part in zip(self.actors, latent.split(self.sizes), strict=True):
            alone = population_of(actor) is None
            actions.append(actor(part[0]).unsqueeze(0) if alone else actor(part))
        return torch.cat(actions)

    def member(self, index: int) -> Any:
        """Return policy `index` alone."""
        for actor, size in zip(self.actors, self.sizes, strict=True):
            if index < size:
                return actor if population_of(actor) is None else member_of(actor, index)
            index -= size
        raise ValueError(f"index must be one of the {self.population} policies, got {index}")


def _largest_reward(episodes: Sequence[Episode]) -> float:
    """Return the largest reward, without its sign; 1 where there is none but zeros."""
    found = max((float(np.abs(e.reward).max()) for e in episodes), default=0.0)
    return found or 1.0
