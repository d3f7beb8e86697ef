"""What the last policies are worth: beside planning in their model, cloned and random actions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from pwm_sdk import (
    MPPI,
    MT80,
    BehaviourCloning,
    BehaviourCloningConfig,
    FirstOrderActor,
    GrowingBatch,
    LatentBehaviour,
    Learner,
    ObservationPolicy,
    RandomBehaviour,
    Task,
    run_episodes,
    seed_for,
    summarize,
)
from quick.recipe import Preset, make_pool, plan_of

TIMED_CALLS = 20


class FinalEvaluation:
    """Plays whole episodes in fresh environments, each kind of episode with seeds of its own.

    Args:
        preset: what was run.
        seed: its seed.
        tasks: of this process, in the order of the loop's.
        loop: holds model, policies and data.
        device: where networks live.
    """

    def __init__(
        self, preset: Preset, seed: int, tasks: Sequence[Task], loop: GrowingBatch, device: str
    ) -> None:
        self.preset, self.seed, self.tasks = preset, seed, list(tasks)
        self.loop, self.device = loop, device

    def reading(self) -> list[Any]:
        """Episodes of the current policies on the way, per task."""
        return self._play(self._behaviour("actor"), self.preset.reading_episodes, 1)

    def policies(self) -> tuple[list[dict[str, Any]], list[Any]]:
        """Keep the better of raw and averaged actors; rows and episodes of what is kept."""
        self._select()
        episodes = self._play(self._behaviour("actor"), self.preset.final_episodes, 3)
        rows = self._rows("pwm", episodes)
        low = 0
        for learner in self.loop.learners:
            for member in learner.pwm.stopped:
                rows[low + member]["stopped"] = 1
            low += len(learner.tasks)
        alarms = self.loop.alarms(episodes, deterministic=True)
        for i, (row, milliseconds) in enumerate(zip(rows, self._latencies(), strict=True)):
            row.update({name: float(column[i]) for name, column in alarms.items()})
            row["ms_per_action"] = milliseconds
        return rows, episodes

    def baselines(self) -> list[dict[str, Any]]:
        """Rows of cloned and of random policies."""
        count = self.preset.final_episodes
        cloned = self._rows("cloning", self._play(self._clone(), count, 3))
        noise = RandomBehaviour(len(self.tasks), MT80.action_dim, self.seed)
        return cloned + self._rows("random", self._play(noise, count, 3))

    def planning(self) -> list[dict[str, Any]]:
        """Rows of MPPI in the same model, with policy and critic as its proposal and end value."""
        if not self.preset.plan_episodes:
            return []
        rows, low = [], 0
        for learner in self.loop.learners:
            mine = self.tasks[low : low + len(learner.tasks)]
            behaviour = ObservationPolicy(self._planner(learner, mine)).behaviour(learner.tasks)
            pool = make_pool(mine, 3_000_000 + 1000 * self.seed)
            try:
                episodes = run_episodes(pool, behaviour, [self.preset.plan_episodes] * len(mine))
            finally:
                pool.close()
            made = self._rows("mppi", episodes, mine)
            for i, row in enumerate(made):
                single = self._planner(learner, mine, member=i)
                row["ms_per_action"] = self._time(single.plan, learner.tasks[i])
            rows += made
            low += len(mine)
        return rows

    def _planner(self, learner: Learner, tasks: Sequence[Task], member: int | None = None) -> MPPI:
        """Plan for all policies of a learner at once, or for one of them alone."""
        gamma = [0.0] * len(MT80)
        for task in tasks:
            gamma[task.index] = plan_of(task, self.preset).gamma
        actor, critic = learner.pwm.actor, learner.pwm.critic
        if member is not None:
            actor, critic = actor.member(member), critic.member(member)
        return MPPI(
            self.loop.model,
            actor,
            critic,
            samples=self.preset.plan_samples,
            elites=self.preset.plan_samples // 8,
            iterations=self.preset.plan_iterations,
            # TD-MPC2's temperature is for rewards in their own units, ours are divided by a scale.
            temperature=0.5 * tasks[0].reward_scale,
            gamma=gamma,
            generator=torch.Generator(self.device).manual_seed(seed_for("planner", self.seed)),
        )

    def _behaviour(self, which: str) -> LatentBehaviour:
        actors = [getattr(learner.pwm, which) for learner in self.loop.learners]
        return LatentBehaviour(self.loop.model, actors, self.loop.tasks)

    def _play(self, behaviour: Any, episodes: int, stream: int) -> list[Any]:
        pool = make_pool(self.tasks, 1_000_000 * stream + 1000 * self.seed)
        try:
            return run_episodes(pool, behaviour, [episodes] * len(self.tasks))
        finally:
            pool.close()

    def _select(self) -> None:
        """Give each learner the averaged actor where that one did better on episodes of its own."""
        if not self.preset.select_episodes:
            return
        scores = {}
        for which in ("actor", "average"):
            episodes = self._play(self._behaviour(which), self.preset.select_episodes, 2)
            scores[which] = torch.tensor(
                [float(np.mean([e.total for e in mine])) for mine in episodes]
            )
        low = 0
        for learner in self.loop.learners:
            high = low + len(learner.tasks)
            better = scores["average"][low:high] > scores["actor"][low:high]
            with torch.no_grad():
                pairs = zip(
                    learner.pwm.actor.parameters(), learner.pwm.average.parameters(), strict=True
                )
                for raw, average in pairs:
                    raw[better] = average[better]
            low = high

    def _clone(self) -> LatentBehaviour:
        """Clone the training data's actions on the same latents, one policy per task."""
        sizes = [task.action_dim for task in self.tasks]
        like = self.loop.learners[0].pwm.actor.settings
        actor = FirstOrderActor(**{**like, "population": len(sizes), "action_dims": sizes})
        actor.to(self.device)
        config = BehaviourCloningConfig(lr=1e-3, max_norm=10.0)
        cloning = BehaviourCloning(actor, config, model=self.loop.model)
        indices = [task.index for task in self.tasks]
        rows = {i: self.loop.replay.episodes(i) for i in indices}
        generator = np.random.default_rng(self.seed)
        for _ in range(self.preset.cloning_updates):
            batch = [_pairs(rows[i], 64, generator) for i in indices]
            observation, action = (torch.stack(x) for x in zip(*batch, strict=True))
            task = torch.tensor(indices, device=self.device).unsqueeze(1).expand(-1, 64)
            pairs = {"observation": observation, "action": action, "task": task}
            cloning.update(TensorDict(pairs, task.shape))
        return LatentBehaviour(self.loop.model, [actor], indices)

    def _latencies(self) -> list[float]:
        """Milliseconds of one action of each policy alone, observation to action."""
        found = []
        for learner in self.loop.learners:
            for i, task in enumerate(learner.tasks):
                actor = learner.pwm.actor.member(i)

                def act(seen: torch.Tensor, ids: torch.Tensor, actor: Any = actor) -> Any:
                    with torch.no_grad():
                        return actor(self.loop.model.encode(seen, ids))

                found.append(self._time(act, task))
        return found

    def _time(self, act: Callable[[torch.Tensor, torch.Tensor], Any], task: int) -> float:
        """Median milliseconds of a call for one observation."""
        seen = torch.zeros(1, MT80.observation_dim, device=self.device)
        ids = torch.tensor([task], device=self.device)
        times = []
        for _ in range(TIMED_CALLS):
            begin = time.perf_counter()
            act(seen, ids).cpu()
            times.append(time.perf_counter() - begin)
        return 1e3 * float(np.median(times))

    def _rows(
        self, method: str, episodes: Sequence[Any], tasks: Sequence[Task] | None = None
    ) -> list[dict[str, Any]]:
        rows = []
        for task, mine in zip(self.tasks if tasks is None else tasks, episodes, strict=True):
            summary = summarize(mine)
            score = task.score(summary["return"], summary["success_last"])
            rows.append(
                {"seed": self.seed, "task": task.name, "method": method, **summary, "score": score}
            )
        return rows


def _pairs(
    episodes: Sequence[Any], count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw observations and the actions taken at them, in real rows."""
    picks = [episodes[int(rng.integers(len(episodes)))] for _ in range(count)]
    times = [int(rng.integers(int(episode["real"].sum()) - 1)) for episode in picks]
    observation = torch.stack([e["observation"][t] for e, t in zip(picks, times, strict=True)])
    action = torch.stack([e["action"][t + 1] for e, t in zip(picks, times, strict=True)])
    return observation, action
