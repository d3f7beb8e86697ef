"""Readings: calls timed in turn, their operations and memory, and the peak of the machine."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pwm_sdk import Execution
from speed.rows import Quartiles

Meter = Callable[[], float]  # what has passed so far: seconds, or floating-point operations
Reader = Callable[[Meter], dict[str, float]]  # does the work once; what the meter rose by, by part

SHORTEST = 0.05  # seconds of one reading, for which short calls are repeated
WIDTHS = {"cpu": 1024, "cuda": 8192}  # of the matrices whose product is the machine's peak


def quartiles(values: Sequence[float]) -> Quartiles:
    """Quartiles of readings, linearly interpolated."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def gain(baseline: Sequence[float], own: Sequence[float]) -> float:
    """How many times as fast: the median over rounds of baseline / own of the same round."""
    return statistics.median(a / b for a, b in zip(baseline, own, strict=True))


def clock(device: torch.device) -> Meter:
    """Seconds: of the processor for one thread, which other programs change least; else passed."""
    if device.type == "cuda":

        def passed() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return passed
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def repeated(part: str, call: Callable[[], object], seconds: Meter) -> Reader:
    """A reader of a call, repeated so often that a reading takes a while."""
    begin = seconds()
    call()
    times = max(1, round(SHORTEST / max(seconds() - begin, 1e-6)))

    def read(meter: Meter) -> dict[str, float]:
        start = meter()
        for _ in range(times):
            call()
        return {part: (meter() - start) / times}

    return read


def interleaved(
    readers: Mapping[str, Reader], seconds: Meter, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Read every variant once a round, in the order of the table and back by turns.

    Returns:
        Seconds of each round, by variant and part.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in readers}
    for number in range(rounds):
        order = list(readers) if number % 2 == 0 else list(readers)[::-1]
        for name in order:
            for part, value in readers[name](seconds).items():
                found[name].setdefault(part, []).append(value)
    return found


class Counter(TorchDispatchMode):
    """Counts floating-point operations of products while it is entered.

    Has no module tracker, unlike `FlopCounterMode`, whose tracker fails on updates that leave a
    graph and come back.
    """

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {} if kwargs is None else kwargs
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


def operations(read: Reader) -> dict[str, float]:
    """Floating-point operations of the products in a reader's work, by part."""
    with Counter() as counter:
        return read(lambda: counter.total)


def large_product(device: torch.device, precision: str) -> Callable[[], Tensor]:
    """A product of two large matrices, the fastest thing that the machine does."""
    size = WIDTHS.get(device.type, WIDTHS["cpu"])
    matrix = torch.randn(size, size, device=device)
    if precision == "bf16":
        matrix = matrix.bfloat16()
    execution = Execution(precision=precision)

    def product() -> Tensor:
        with execution.tf32(device):
            return matrix @ matrix

    return product


def added_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Largest number of bytes of tensors that a call holds beyond those held before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    memory = [event["args"] for event in events if event["name"] == "[memory]"]
    if not memory:
        return 0
    # The total goes on from earlier profiles.
    before = memory[0]["Total Allocated"] - memory[0]["Bytes"]
    return max(entry["Total Allocated"] for entry in memory) - before
