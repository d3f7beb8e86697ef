"""The group `update`: one PWM update and its two passes, the published form against ours."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pwm_sdk import (
    MT80,
    PWM,
    Critic,
    Execution,
    FirstOrderActor,
    PWMConfig,
    WorldModel,
    model_size,
)
from speed.bench import Bench, Variant
from speed.rows import Group, Row
from speed.timing import Meter, added_bytes, operations
from speed.transcription import (
    BETAS,
    RATE,
    PublishedActor,
    PublishedCritic,
    PublishedUpdate,
    PublishedWorldModel,
)

BASELINE, OURS = "transcription", "ours"
GROUP = Group(
    "update",
    "One update",
    "The actor pass ends with the actor's step; the critic pass is the targets and 32 steps. MB: "
    "tensors held beyond\nthose before the update. Loss difference: the largest in the first "
    "update, relative. Gradient error: of the actor in\nthe first update, the tensor that is "
    "furthest from ours in fp32, norm of the difference over the norm.",
    count="starts",
    baseline=BASELINE,
)

FACTORS = replace(
    GROUP,
    name="factors",
    title="One update, one change at a time",
    text="The transcription with a single thing done our way.",
)

# How our updates are executed; graphs and tf32 need a GPU.
VARIANTS: dict[str, dict[str, Any]] = {
    OURS: {},
    "ours-compiled": {"compile": True},
    "ours-bf16": {"precision": "bf16"},
    "ours-compiled-bf16": {"compile": True, "precision": "bf16"},
    "ours-tf32": {"precision": "tf32"},
    "ours-graphs": {"cuda_graphs": True},
    "ours-graphs-tf32": {"cuda_graphs": True, "precision": "tf32"},
    "ours-graphs-bf16": {"cuda_graphs": True, "precision": "bf16"},
    "ours-graphs-compiled": {"cuda_graphs": True, "compile": True},
    "ours-graphs-compiled-bf16": {"cuda_graphs": True, "compile": True, "precision": "bf16"},
}
HORIZON, TASK, SEED = 16, MT80["mw-reach"].index, 0
ACTOR, CRITIC, WHOLE = "actor pass", "critic pass", "update"
WARM_UP = 3  # updates; the losses of the first are compared
LOSSES = ("return", "value_loss")  # the actor's loss is the return, divided by one number


class Agent:
    """An agent with its batch; every call is one update.

    Args:
        update: improves it once and returns the losses.
        optimizer: the actor's; its step divides the update into passes.
    """

    def __init__(
        self, update: Callable[[], Mapping[str, Tensor]], optimizer: torch.optim.Optimizer
    ) -> None:
        self._update, self._optimizer = update, optimizer
        self.updates, self.first = 0, torch.zeros(len(LOSSES))
        self.slopes: list[Tensor] = []  # the actor's gradients in the first update, clipped

    def __call__(self) -> None:
        """Update once."""
        found = self._update()
        if not self.updates:
            self.first = torch.stack([found[name] for name in LOSSES])
            parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
            self.slopes = [p.grad.clone() for p in parameters if p.grad is not None]
        self.updates += 1

    def read(self, meter: Meter) -> dict[str, float]:
        """Update once; what the meter rose by in each pass, where they can be told apart."""
        marks: list[float] = []
        hook = self._optimizer.register_step_post_hook(lambda *_: marks.append(meter()))
        begin = meter()
        self()
        end = meter()
        hook.remove()
        passes = {ACTOR: marks[0] - begin, CRITIC: end - marks[0]} if marks else {}
        return {**passes, WHOLE: end - begin}


def rows_of_updates(
    bench: Bench, sizes: Sequence[int], batches: Sequence[int], names: Sequence[str] = ()
) -> list[Row]:
    """Time the transcription and executions of ours, all unless they are named."""
    names = names or tuple(VARIANTS)
    missing = [name for name in names if not possible(name, bench.device)]
    return _rows(bench, GROUP, sizes, batches, partial(agents_of, names=names), missing)


def rows_of_factors(bench: Bench, sizes: Sequence[int], batches: Sequence[int]) -> list[Row]:
    """Time the transcription, also with a frozen model, with fused steps, and ours."""
    return _rows(bench, FACTORS, sizes, batches, changed_agents)


def _rows(
    bench: Bench,
    group: Group,
    sizes: Sequence[int],
    batches: Sequence[int],
    agents: Callable[[int, int, torch.device], dict[str, Agent]],
    missing: Sequence[str] = (),
) -> list[Row]:
    """Rows of every size and batch, until an update takes too long; `missing` lack a GPU."""
    rows: list[Row] = []
    for size in sizes:
        mine: list[Row] = []
        for batch in sorted(batches):
            if note := bench.forecast(mine, batch):
                rows.append(Row(group.name, WHOLE, size, batch, "all", note=note))
                continue
            ready = warmed_up(agents(size, batch, bench.device), bench.device)
            mine = bench.measure(group, size, batch, ready)
            rows += mine
            rows += [
                Row(group.name, WHOLE, size, batch, name, note="needs a GPU") for name in missing
            ]
    return rows


def warmed_up(agents: Mapping[str, Agent], device: torch.device) -> list[Variant]:
    """Compare losses and gradients of all agents; count operations and memory on the way."""
    found = []
    eager: Mapping[str, float] = {}
    for name, agent in agents.items():
        settings = VARIANTS.get(name, {})
        if not settings:  # the others do the same as ours, where it cannot be counted
            eager = operations(agent.read)
        megabytes = added_bytes(agent, device) / 1e6
        while agent.updates < WARM_UP:
            agent()
        found.append(
            Variant(
                name,
                agent.read,
                flop=eager,
                precision=settings.get("precision", "fp32"),
                megabytes=megabytes,
                difference=None if name == BASELINE else difference(agents[BASELINE], agent),
            )
        )
    for variant in found if OURS in agents else ():
        if variant.name in VARIANTS.keys() - {OURS}:
            variant.gradient = gradient_error(agents[OURS], agents[variant.name])
    return found


def difference(baseline: Agent, own: Agent) -> float:
    """Largest relative difference of a loss in the first update."""
    expected, found = baseline.first.double(), own.first.double()
    return float(((found - expected) / expected).abs().max())


def gradient_error(exact: Agent, own: Agent) -> float:
    """Largest relative error of a tensor's gradient in the first update."""
    pairs = zip(own.slopes, exact.slopes, strict=True)
    return max(float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in pairs)


def agents_of(
    size: int, batch: int, device: torch.device, names: Sequence[str]
) -> dict[str, Agent]:
    """The transcription and executions of ours, with the same weights and draws."""
    baseline, observation = published_agent(size, device), observations(batch, device)
    agents = {BASELINE: transcribed(baseline, observation)}
    for name in names:
        if possible(name, device):
            agents[name] = our_agent(baseline, observation, VARIANTS[name])
    return agents


def possible(name: str, device: torch.device) -> bool:
    """Tell whether an execution of ours is what it says on a device."""
    settings = VARIANTS[name]
    for_gpu = settings.get("cuda_graphs") or settings.get("precision") == "tf32"
    return device.type == "cuda" or not for_gpu


def changed_agents(size: int, batch: int, device: torch.device) -> dict[str, Agent]:
    """The transcription, as it is and with one change each, and ours."""
    observation = observations(batch, device)
    baseline, lazy, fused = (published_agent(size, device) for _ in range(3))
    lazy.model.requires_grad_(False)
    fused.actor_optimizer, fused.critic_optimizer = (
        torch.optim.Adam(part.parameters(), lr=RATE, betas=BETAS, fused=True)
        for part in (fused.actor, fused.critic)
    )
    return {
        BASELINE: transcribed(baseline, observation),
        "world model frozen": transcribed(lazy, observation),
        "fused Adam": transcribed(fused, observation),
        OURS: our_agent(baseline, observation, {}),
    }


def observations(batch: int, device: torch.device) -> Tensor:
    """The starts of all updates, `[B, O]`."""
    draws = torch.Generator().manual_seed(SEED)
    return torch.randn(batch, MT80.observation_dim, generator=draws).to(device)


def transcribed(agent: PublishedUpdate, observation: Tensor) -> Agent:
    """The transcription, with draws as ours."""
    device = observation.device
    draws = torch.Generator(device).manual_seed(SEED)
    shape = (HORIZON, len(observation), MT80.action_dim)

    def update() -> dict[str, Tensor]:
        noise = torch.randn(shape, device=device, generator=draws)
        return agent.update(observation, TASK, noise)

    return Agent(update, agent.actor_optimizer)


def published_agent(size: int, device: torch.device) -> PublishedUpdate:
    """The transcription with the same fresh weights of a published size every time."""
    torch.manual_seed(SEED)
    widths = model_size(size, MT80)
    model = PublishedWorldModel(
        MT80.observation_dim,
        MT80.action_dim,
        latent_dim=widths.latent_dim,
        hidden=widths.hidden,
        encoder_hidden=widths.encoder_hidden,
    )
    actor = PublishedActor(widths.latent_dim, MT80.action_dim)
    critic = PublishedCritic(widths.latent_dim)
    return PublishedUpdate(model.to(device), actor.to(device), critic.to(device), HORIZON)


def same_weights(published: PublishedUpdate) -> tuple[WorldModel, FirstOrderActor, Critic]:
    """Our model, actor and critic with the transcription's weights, on its device."""
    device = published.actor.logstd.device
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pt"
        published.save(file)
        model = WorldModel.from_checkpoint(file).to(device)
        actor = FirstOrderActor.from_checkpoint(file).to(device)
        return model, actor, Critic.from_checkpoint(file).to(device)


def our_agent(
    published: PublishedUpdate, observation: Tensor, settings: Mapping[str, Any]
) -> Agent:
    """Our PWM with the transcription's weights."""
    config, execution = PWMConfig.published(horizon=HORIZON), Execution(**settings)
    draws = torch.Generator(observation.device).manual_seed(SEED)
    pwm = PWM(*same_weights(published), config, generator=draws, execution=execution)
    task = torch.full((len(observation),), TASK, device=observation.device)
    batch: Any = {"observation": observation, "task": task}
    return Agent(lambda: pwm.update(batch), pwm.actor_optimizer)
