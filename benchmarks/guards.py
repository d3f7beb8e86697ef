"""What guards against exploiting a model are worth where no new data comes.

Run `python benchmarks/mt80.py --seeds 3` first, then `python benchmarks/guards.py runs/quick`. Of
each seed's data the oldest episodes of each task are kept, a world model is trained on them once,
and every variant learns its policies in that model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from tensordict import TensorDict
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR

sys.path.insert(0, str(Path(__file__).resolve().parent))
from command_line import check_counts, check_once, command, refused
from pwm_sdk import (
    MT80,
    PWM,
    Critic,
    Disagreement,
    FirstOrderActor,
    GrowingBatch,
    LatentBehaviour,
    Learner,
    ReplayBuffer,
    ReturnScale,
    WorldModel,
    exploitation_gap,
    linear_decay,
    optimize,
    run_episodes,
    summarize,
    world_model_loss,
)
from pwm_sdk.runs import JobPool, cores, markdown, write_csv
from quick.recipe import PRESETS, Preset, build, chosen_tasks, make_pool

# Coefficients of the distance to the data's actions, and of the ensemble's disagreement.
VARIANTS = {
    "no guard": (0.0, 0.0),
    "behaviour 1": (1.0, 0.0),
    "disagreement 1": (0.0, 1.0),
    "disagreement 5": (0.0, 5.0),
}


@dataclass(frozen=True)
class Arguments:
    """Learn policies from fixed data with and without guards and print a table."""

    run: Annotated[Path, tyro.conf.Positional] = Path("runs/quick")
    """Folder of a finished run of mt80.py; its seeds are used."""
    tasks: tuple[str, ...] = ("mw-button-press", "mw-door-close", "mw-window-open")
    """Tasks of one suite, learned together."""
    episodes: int = 40
    """Episodes of each task, the oldest ones: random actions first, then early policies."""
    model_updates: int = 2000
    """Updates of the world model and of the further heads."""
    policy_updates: int = 1000
    """Updates of the policies of each variant."""


def main() -> None:
    """Run the study on every seed of a run and print its table."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    check_once("--tasks", arguments.tasks)
    check_counts(arguments, "episodes", "model_updates", "policy_updates")
    with refused("--tasks"):
        suites = sorted({MT80[name].suite for name in arguments.tasks})
    if len(suites) > 1:
        raise SystemExit(f"--tasks must be of one suite, got {' and '.join(suites)}")
    (suite,) = suites
    folders = sorted(arguments.run.glob(f"seed*/{suite}/data"))
    if not folders:
        raise SystemExit(f"{arguments.run} holds no finished seed of {suite}: run mt80.py first")
    with command(), JobPool(min(cores(), len(folders))) as pool:
        parts = list(pool.map(study, folders, [arguments] * len(folders)))
        rows = [row for part in parts for row in part]
        write_csv(arguments.run / "guards.csv", rows)
        text = table(arguments.tasks, rows)
        (arguments.run / "guards.md").write_text(text)
        print(text)


def study(data: Path, arguments: Arguments) -> list[dict[str, Any]]:
    """Train one model on the fixed data of a seed and the policies of every variant in it."""
    torch.set_num_threads(1)
    seed = int(data.parents[1].name.removeprefix("seed"))
    preset = replace(PRESETS["quick"], tasks=arguments.tasks)
    loop = build(preset, seed)
    for task in chosen_tasks(preset):
        kept = ReplayBuffer.from_dataset(
            data, tasks=[task.index], slice_len=preset.model_horizon + 1
        )
        for episode in kept.episodes(task.index)[: arguments.episodes]:
            loop.replay.add(episode)
    loop.refresh_statistics(observations=True)
    guard = Disagreement(loop.model, heads=2)
    _train_models(loop, guard, arguments.model_updates)
    rows = []
    for name, (behaviour, disagreement) in VARIANTS.items():
        guard.coef = disagreement
        torch.manual_seed(seed)
        changed = replace(preset, pwm=replace(preset.pwm, behaviour=behaviour))
        model = guard if disagreement else loop.model
        learner = _learner(changed, model, loop.learners[0])
        _train_policies(loop, learner, arguments.policy_updates)
        rows += _evaluate(loop, learner, preset, name, seed)
    return rows


def _learner(preset: Preset, model: WorldModel | Disagreement, like: Learner) -> Learner:
    """Make new policies as those of a learner, in another model."""
    actor = FirstOrderActor(**like.pwm.actor.settings)
    critic = Critic(**like.pwm.critic.settings)
    config = replace(preset.pwm, gamma=like.pwm.config.gamma)
    scale = ReturnScale(len(like.tasks))
    return Learner(PWM(model, actor, critic, config, return_scale=scale), like.tasks, starts=16)


def _train_models(loop: GrowingBatch, guard: Disagreement, updates: int) -> None:
    """Train the world model, and the further heads on the latents it has by then."""
    heads = torch.optim.Adam(guard.heads.parameters(), lr=1e-3, fused=True)
    members = [[loop.model], list(guard.heads)]
    optimizers = [loop.model_optimizer, heads]
    decays = [LinearLR(optimizer, 1.0, 0.02, updates) for optimizer in optimizers]
    config = loop.config
    for _ in range(updates):
        batch = loop.replay.sample()
        for models, optimizer, decay in zip(members, optimizers, decays, strict=True):
            losses = [
                world_model_loss(
                    model,
                    batch,
                    rho=config.rho,
                    consistency=config.consistency,
                    reward=config.reward,
                    reward_weight=loop.reward_weight,
                )
                for model in models
            ]
            optimize(torch.stack(losses).sum(), optimizer, config.model_max_norm)
            decay.step()


def _train_policies(loop: GrowingBatch, learner: Learner, updates: int) -> None:
    """Improve policies from starts in the data, with the actions that were taken there."""
    pairs = [_pairs(loop.replay.episodes(task)) for task in learner.tasks]
    for done in range(updates):
        learner.pwm.set_learning_rates(linear_decay(done / updates))
        picks = [torch.randint(len(seen), (learner.starts,)) for seen, _ in pairs]
        columns = {
            "observation": torch.stack(
                [seen[i] for (seen, _), i in zip(pairs, picks, strict=True)]
            ),
            "action": torch.stack([done[i] for (_, done), i in zip(pairs, picks, strict=True)]),
            "task": torch.tensor(learner.tasks).unsqueeze(1).expand(-1, learner.starts),
        }
        learner.pwm.update(TensorDict(columns, [len(pairs), learner.starts]))


def _pairs(episodes: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """All observations and the actions taken at them, in real rows."""
    real = [episode[episode["real"].squeeze(-1)] for episode in episodes]
    return (
        torch.cat([episode["observation"][:-1] for episode in real]),
        torch.cat([episode["action"][1:] for episode in real]),
    )


def _evaluate(
    loop: GrowingBatch, learner: Learner, preset: Preset, name: str, seed: int
) -> list[dict[str, Any]]:
    tasks = chosen_tasks(preset)
    pool = make_pool(tasks, 5_000_000 + 1000 * seed)
    behaviour = LatentBehaviour(loop.model, [learner.pwm.actor], learner.tasks)
    episodes = run_episodes(pool, behaviour, [preset.final_episodes] * len(tasks))
    pool.close()
    gap = exploitation_gap(
        loop.model,
        learner.pwm.actor,
        learner.pwm.critic,
        episodes,
        learner.tasks,
        learner.pwm.gamma,
        reward_scale=[task.reward_scale for task in tasks],
        rng=np.random.default_rng(seed),
    )["gap"]
    return [
        {"variant": name, "seed": seed, "task": task.name, "gap": float(gap[i]), **summarize(mine)}
        for i, (task, mine) in enumerate(zip(tasks, episodes, strict=True))
    ]


def table(tasks: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown: return, success at the last step and gap, means over seeds."""
    cells = []
    for name in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == name]
        own = [_cell([row for row in mine if row["task"] == task]) for task in tasks]
        cells.append([name, *own, _cell(mine)])
    lines = [markdown(["variant", *tasks, "mean"], cells)]
    seeds = sorted({row["seed"] for row in rows})
    lines += [
        "",
        f"Return / success at the last step (gap), means over seeds {seeds}; returns seed by seed:",
        "",
    ]
    for name in dict.fromkeys(row["variant"] for row in rows):
        means = [
            np.mean(
                [row["return"] for row in rows if (row["variant"], row["seed"]) == (name, seed)]
            )
            for seed in seeds
        ]
        lines.append(f"- {name}: " + ", ".join(f"{mean:.0f}" for mean in means))
    return "\n".join(lines) + "\n"


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    value = {k: np.mean([row[k] for row in rows]) for k in ("return", "success_last", "gap")}
    return f"{value['return']:.0f} / {value['success_last']:.2f} ({value['gap']:+.1f})"


if __name__ == "__main__":
    main()
