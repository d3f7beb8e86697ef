"""Compare default and published settings where the optimum is known, and on raw states.

    python benchmarks/defaults.py                       # both groups, three seeds
    python benchmarks/defaults.py --groups quadratic --seeds 1

`quadratic`: PWM in three unstable linear systems of five states with quadratic cost; the figure is
the discounted cost of the mean action over that of the Riccati solution, 1 at best. `cartpole`:
SHAC in the simulator of cartpole-swingup on its observations as they are; the figure is the return
in the environment. All networks have two layers of 64, so that only settings differ.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import torch
import tyro
from tensordict import TensorDict
from torch import Tensor

from command_line import check_counts
from pwm_sdk import (
    PWM,
    SHAC,
    Critic,
    FirstOrderActor,
    PWMConfig,
    SHACConfig,
    evaluate,
    make_env,
    make_simulator,
)

WIDTHS = (64, 64)
STATES, ACTIONS, GAMMA = 5, 2, 0.99
STARTS = 32


@dataclass(frozen=True)
class Arguments:
    """Compare the default settings with the published ones."""

    groups: tuple[Literal["quadratic", "cartpole"], ...] = ("quadratic", "cartpole")
    """What to run."""
    variants: tuple[str, ...] = ("published", "default")
    """Of published, default, unnormed (the default without LayerNorm) and loud (its noise 0.6)."""
    systems: tuple[int, ...] = (0, 1, 2)
    """Seeds of the matrices of the linear systems."""
    seeds: int = 3
    """Number of seeds (0, 1, ...)."""
    updates: int = 800
    """Updates of PWM; SHAC makes a tenth."""
    out: Path | None = None
    """CSV file of all runs."""


@dataclass(frozen=True)
class Variant:
    """How networks and PWM are made.

    Attributes:
        actor: makes the actor of the sizes of state and action.
        critic: makes the critic of the size of the state.
        config: makes PWM's settings.
    """

    actor: Callable[[int, int], FirstOrderActor]
    critic: Callable[[int], Critic]
    config: Callable[[], PWMConfig] = field(default=PWMConfig)


VARIANTS = {
    "published": Variant(
        lambda size, actions: FirstOrderActor.published(size, actions, WIDTHS),
        lambda size: Critic.published(size, WIDTHS),
        PWMConfig.paper,
    ),
    "default": Variant(
        lambda size, actions: FirstOrderActor(size, actions, WIDTHS),
        lambda size: Critic(size, WIDTHS),
    ),
    "unnormed": Variant(
        lambda size, actions: FirstOrderActor(size, actions, WIDTHS, norm="none"),
        lambda size: Critic(size, WIDTHS, norm="none"),
    ),
    "loud": Variant(
        lambda size, actions: FirstOrderActor(size, actions, WIDTHS, std=0.6),
        lambda size: Critic(size, WIDTHS),
    ),
}


class LinearQuadratic:
    """z' = A z + B a and reward -(z' z + 0.1 a' a), of spectral radius 1.1: a `LatentModel`.

    Starts are so small that the optimal actions stay inside [-0.9, 0.9].

    Args:
        seed: of the matrices.
    """

    latent_dim, action_dim = STATES, ACTIONS

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        a = torch.randn(STATES, STATES, generator=generator)
        self.a = 1.1 * a / torch.linalg.eigvals(a).abs().max()
        self.b = 0.5 * torch.randn(STATES, ACTIONS, generator=generator)
        self.gain, self.cost = self._riccati()
        state, largest = torch.randn(4096, STATES, generator=generator), 0.0
        for _ in range(50):
            action = -state @ self.gain.T
            largest = max(largest, float(action.abs().max()))
            state = state @ self.a.T + action @ self.b.T
        self.unit = 0.9 / largest

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the state."""
        return observation

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the next state `[.., 5]` and the reward `[.., 1]`."""
        cost = latent.square().sum(-1) + 0.1 * action.square().sum(-1)
        return latent @ self.a.T + action @ self.b.T, -cost.unsqueeze(-1)

    def starts(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw states `[count, 5]`."""
        return self.unit * torch.randn(count, STATES, generator=generator)

    @torch.no_grad()
    def ratio(self, actor: Any) -> float:
        """Return the discounted cost of an actor's mean action over the optimal one."""
        state = self.starts(1024, torch.Generator().manual_seed(99))
        best, total = float((state @ self.cost * state).sum(-1).mean()), 0.0
        for step in range(300):
            state, reward = self.step(state, actor(state))
            total -= GAMMA**step * float(reward.mean())
        return total / best

    def _riccati(self) -> tuple[Tensor, Tensor]:
        p = q = torch.eye(STATES)
        gain = torch.zeros(ACTIONS, STATES)
        for _ in range(5000):
            weighed = GAMMA * self.b.T @ p
            gain = torch.linalg.solve(0.1 * torch.eye(ACTIONS) + weighed @ self.b, weighed @ self.a)
            p = q + GAMMA * self.a.T @ p @ (self.a - self.b @ gain)
        return gain, p


def quadratic(variant: Variant, system: int, seed: int, updates: int) -> float:
    """Learn in one of the systems; return the ratio of costs."""
    torch.manual_seed(seed)
    model = LinearQuadratic(system)
    pwm = PWM(model, variant.actor(STATES, ACTIONS), variant.critic(STATES), variant.config())
    generator = torch.Generator().manual_seed(1000 + seed)
    for step in range(updates):
        pwm.set_learning_rates(max(0.02, 1.0 - step / updates))
        pwm.update(TensorDict({"observation": model.starts(STARTS, generator)}, [STARTS]))
    return model.ratio(pwm.average)


def cartpole(variant: Variant, seed: int, updates: int) -> float:
    """Learn in the simulator of the cart-pole; return the mean return of three episodes."""
    torch.manual_seed(seed)
    simulator = make_simulator("cartpole-swingup", threads=1)
    size = simulator.observation_dim
    actor = variant.actor(size, simulator.action_dim)
    config = SHACConfig(environments=32, critic_epochs=4)
    shac = SHAC(simulator, actor, variant.critic(size), config)
    for step in range(updates):
        shac.set_learning_rates(max(0.02, 1.0 - step / updates))
        shac.update()
    env = make_env("cartpole-swingup", seed=100 + seed)
    return float(evaluate(env, shac.policy(), episodes=3)["return"])


def runs(arguments: Arguments) -> Iterator[tuple[str, str, int, float, float]]:
    """Run all; yield group, variant, seed, figure and CPU seconds of each."""
    systems = (
        [f"quadratic-{i}" for i in arguments.systems] if "quadratic" in arguments.groups else []
    )
    for group in (*systems, *(["cartpole"] if "cartpole" in arguments.groups else [])):
        for seed in range(arguments.seeds):
            for name in arguments.variants:
                begin, variant = time.process_time(), VARIANTS[name]
                if group == "cartpole":
                    found = cartpole(variant, seed, max(1, arguments.updates // 10))
                else:
                    found = quadratic(variant, int(group.split("-")[1]), seed, arguments.updates)
                yield group, name, seed, found, time.process_time() - begin


def main() -> None:
    """Run, print and write."""
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    check_counts(arguments, "seeds", "updates")
    if unknown := sorted(set(arguments.variants) - VARIANTS.keys()):
        raise SystemExit(f"--variants must be of {sorted(VARIANTS)}, got {unknown}")
    torch.set_num_threads(1)
    rows = []
    for row in runs(arguments):
        rows.append(row)
        print("{}  {}  seed {}  {:.3f}  ({:.0f} s)".format(*row), flush=True)
        if arguments.out is not None:
            write(arguments.out, rows)
    print(table(rows))


def write(path: Path, rows: list[tuple[str, str, int, float, float]]) -> None:
    """Write the runs as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("group", "variant", "seed", "figure", "cpu_seconds"))
        writer.writerows((*row[:3], f"{row[3]:.4f}", f"{row[4]:.1f}") for row in rows)


def table(rows: list[tuple[str, str, int, float, float]]) -> str:
    """Return a table of mean, least and largest figure by group and variant."""
    lines = ["| group | variant | mean | least | largest |", "| --- | --- | ---: | ---: | ---: |"]
    for group, variant in dict.fromkeys(row[:2] for row in rows):
        found = [row[3] for row in rows if row[:2] == (group, variant)]
        figures = f"{mean(found):.3f} | {min(found):.3f} | {max(found):.3f}"
        lines.append(f"| {group} | {variant} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
