"""Graphs against a stand-in for `torch.cuda`: what is copied, captured, replayed, and no wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from small_updates import CONFIG, assemble, outcome
from torch import Tensor

from pwm_sdk.execution.graphs import Captured, prepare
from pwm_sdk.execution.settings import Execution


class Graph:
    """Runs on replay what was called in its capture, on the tensors that it saw there."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def replay(self) -> None:
        CUDA.calls.append("replay")
        for step in self.work:
            step()


class Stream:
    """A stream of which only the waits are noted."""

    def wait_stream(self, other: Any) -> None:
        CUDA.calls.append("wait_stream")


class Cuda:
    """What is used of `torch.cuda`, with notes of the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.capturing: Graph | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls.clear()
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "current_stream", Stream)
        monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        for name in ("synchronize", "empty_cache"):
            monkeypatch.setattr(torch.cuda, name, lambda *_, n=name: self.calls.append(n))

    @contextmanager
    def graph(self, graph: Graph, **_: Any) -> Iterator[None]:
        self.calls.append("capture")
        self.capturing = graph
        yield
        self.capturing = None


CUDA = Cuda()


class Later:
    """The results of a captured function, which are there after a replay."""

    def __init__(self) -> None:
        self.found: tuple[Any, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.found)


def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose work is written down in a capture, and done in a replay."""

    def run(*arguments: Tensor | None) -> Any:
        if CUDA.capturing is None:
            return function(*arguments)
        later = Later()
        CUDA.capturing.work.append(lambda: setattr(later, "found", function(*arguments)))
        return later

    return run


class Count:
    """Adds up what it is given, in memory of its own."""

    def __init__(self) -> None:
        self.total, self.runs = torch.zeros(3), 0

    def __call__(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        self.runs += 1
        self.total.add_(x if y is None else x + y)
        return self.total, None


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    CUDA.install(monkeypatch)
    return CUDA


def test_each_call_runs_once_and_no_replay_waits(cuda: Cuda) -> None:
    count = Count()
    graphs, kept = Captured(recorded(count)), []
    for call in range(1, 7):
        found = graphs(torch.full((3,), float(call)), None)[0]
        kept.append(found)
        assert count.runs == call
        assert count.total.tolist() == [call * (call + 1) / 2] * 3
    # Results are copies: those of earlier replays stay what they were.
    assert [float(value[0]) for value in kept[2:]] == [6.0, 10.0, 15.0, 21.0]
    assert cuda.calls.count("capture") == 1
    assert cuda.calls.count("replay") == 4
    assert "synchronize" not in cuda.calls


def test_arguments_are_copied_to_where_the_graph_reads(cuda: Cuda) -> None:
    count = Count()
    graphs = Captured(recorded(count))
    given = torch.ones(3)
    for _ in range(3):
        graphs(given, None)
    inner = graphs._graphs[((given.shape, given.dtype), None)]
    place = inner._inputs[0]
    assert place.data_ptr() != given.data_ptr()
    before = place.data_ptr()
    graphs(torch.full((3,), 5.0), None)
    assert place.tolist() == [5.0] * 3
    assert inner._inputs[0].data_ptr() == before


def test_there_is_one_graph_for_each_shape(cuda: Cuda) -> None:
    graphs = Captured(recorded(Count()))
    for _ in range(4):
        graphs(torch.ones(3), None)
        graphs(torch.ones(3), torch.ones(3))
        graphs(torch.ones(1), None)
    assert cuda.calls.count("capture") == len(graphs._graphs) == 3
    assert cuda.calls.count("replay") == 6


def test_updates_by_graphs_are_the_eager_ones(cuda: Cuda, monkeypatch) -> None:
    """Warm-up, capture and replays of actor and critic together."""
    monkeypatch.setattr(Execution, "on", lambda self, device, **_: self)
    plain = Captured.__init__
    monkeypatch.setattr(Captured, "__init__", lambda self, f: plain(self, recorded(f)))
    expected = outcome(assemble(None, Execution(check_every=100), CONFIG), updates=5)
    found = outcome(assemble(None, Execution(cuda_graphs=True, check_every=100), CONFIG), updates=5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert cuda.calls.count("capture") == 2  # the actor's pass and the critic's step
    assert cuda.calls.count("replay") == 3 + (5 * 4 - 2)
    assert "synchronize" not in cuda.calls


def test_counts_of_steps_of_an_eager_state_lie_beside_the_parameters() -> None:
    weight = torch.nn.Parameter(torch.ones(2, device="meta"))
    optimizer = torch.optim.Adam([weight])
    optimizer.state[weight] = {"step": torch.tensor(3.0), "exp_avg": torch.zeros_like(weight)}
    prepare(optimizer, captured=False)
    assert optimizer.state[weight]["step"].device.type == "cpu"
    prepare(optimizer, captured=True)
    assert optimizer.state[weight]["step"].device == weight.device
