"""A profile: the trace of one update and the ten largest costs in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from pwm_sdk.runs import markdown
from speed.updates import BASELINE, OURS, agents_of

LARGEST = 10


class Cost(NamedTuple):
    """What one kind of operation takes in an update, without the operations it calls."""

    calls: int
    ms: float


def write_profile(folder: Path, size: int, batch: int, device: torch.device, head: str) -> str:
    """Profile one update of ours and of the transcription; write ours as a trace, and a page.

    Returns:
        The page.
    """
    agents = agents_of(size, batch, device, [OURS])
    trace = folder / f"trace_{size}M_{batch}.json.gz"  # chrome://tracing and Perfetto open it
    ours = costs(agents[OURS], device, trace)
    page = summary(ours, costs(agents[BASELINE], device), f"{size}M, {batch} starts", head)
    (folder / "profile.md").write_text(page, encoding="utf-8")
    return page


def costs(
    call: Callable[[], object], device: torch.device, trace: Path | None = None
) -> dict[str, Cost]:
    """Profile the second call; costs by operation, largest first."""
    call()
    cuda = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *cuda]) as profiler:
        call()
        if cuda:
            torch.cuda.synchronize(device)
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    found = {
        event.key: Cost(event.count, _ms(event, bool(cuda))) for event in profiler.key_averages()
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].ms))


def summary(ours: dict[str, Cost], baseline: dict[str, Cost], what: str, head: str) -> str:
    """The page: ten lines, and the rest."""
    total = sum(cost.ms for cost in ours.values())
    lines = [
        _line(name, cost, total, baseline.get(name)) for name, cost in list(ours.items())[:LARGEST]
    ]
    lines.append(_line("everything else", _rest(ours, ours), total, _rest(baseline, ours)))
    lines.append(_line("update", _sum(ours), total, _sum(baseline)))
    columns = ("operation", "calls", "ms", "share", "transcription: calls", "ms")
    return (
        f"# The ten largest costs of one update\n\n{head}\n\n{what}, `PWMConfig.published()`. "
        "Milliseconds that passed in each operation itself, with the\nprofiler on, "
        "which slows small ones; beside it the transcription's update.\n\n"
        f"{markdown(columns, lines)}\n"
    )


def _ms(event: Any, cuda: bool) -> float:
    return (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e3


def _sum(costs: dict[str, Cost]) -> Cost:
    return Cost(sum(cost.calls for cost in costs.values()), sum(cost.ms for cost in costs.values()))


def _rest(costs: dict[str, Cost], largest: dict[str, Cost]) -> Cost:
    named = list(largest)[:LARGEST]
    return _sum({name: cost for name, cost in costs.items() if name not in named})


def _line(name: str, cost: Cost, total: float, other: Cost | None) -> list[str]:
    own = [f"{cost.calls:,}", f"{cost.ms:,.1f}", f"{cost.ms / total:.0%}"]
    return [
        name,
        *own,
        *(("-", "-") if other is None else (f"{other.calls:,}", f"{other.ms:,.1f}")),
    ]
