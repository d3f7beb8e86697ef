"""The arithmetic of the throughput: readings, operations, memory, ratios, rows."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from speed import bench as bench_module
from speed import timing
from speed.bench import Bench, Variant
from speed.costs import Cost, summary
from speed.rows import Group, Quartiles, Row, write_csv
from speed.timing import Meter, added_bytes, gain, interleaved, operations, quartiles, repeated

CPU = torch.device("cpu")
GROUP = Group("g", "Title", "Text.", count="starts", baseline="old")


def steady(part: str, value: float) -> Callable[[Meter], dict[str, float]]:
    """A reader that always says the same."""
    return lambda meter: {part: value}


def test_quartiles_by_hand() -> None:
    assert quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 3.0, 4.0)
    assert quartiles([1.0, 2.0]) == (1.25, 1.5, 1.75)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_a_gain_compares_readings_of_the_same_round() -> None:
    # Round by round 2, 4 and 1 times as fast; the ratio of the medians would be 4 / 1.5.
    assert gain([2.0, 4.0, 9.0], [1.0, 1.0, 9.0]) == 2.0


def test_rounds_go_forth_and_back() -> None:
    order = []

    def reader(name: str) -> Callable[[Meter], dict[str, float]]:
        def read(meter: Meter) -> dict[str, float]:
            order.append(name)
            return {"part": float(len(order))}

        return read

    found = interleaved({"a": reader("a"), "b": reader("b")}, lambda: 0.0, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": {"part": [1.0, 4.0, 5.0]}, "b": {"part": [2.0, 3.0, 6.0]}}


def test_short_calls_are_repeated_and_divided() -> None:
    passed = [0.0]

    def call() -> None:
        passed[0] += 0.01

    read = repeated("x", call, lambda: passed[0])
    calls_before = round(passed[0] / 0.01)
    assert read(lambda: passed[0])["x"] == pytest.approx(0.01)
    assert round(passed[0] / 0.01) - calls_before == round(timing.SHORTEST / 0.01)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_products_are_counted(mode: Callable[[], torch.no_grad]) -> None:
    x, weight, stack = torch.randn(5, 3), torch.randn(7, 3), torch.randn(2, 3, 4)

    def read(meter: Meter) -> dict[str, float]:
        begin = meter()
        with mode():
            F.mish(F.linear(x, weight, torch.randn(7)))
            middle = meter()
            torch.vmap(lambda w: x @ w)(stack)
        return {"linear": middle - begin, "stack": meter() - middle}

    assert operations(read) == {"linear": 2 * 5 * 3 * 7, "stack": 2 * 2 * 5 * 3 * 4}


def test_products_of_a_backward_pass_are_counted() -> None:
    x, weight = torch.randn(5, 3, requires_grad=True), torch.randn(3, 7, requires_grad=True)

    def read(meter: Meter) -> dict[str, float]:
        begin = meter()
        (x @ weight).sum().backward()
        return {"": meter() - begin}

    assert operations(read) == {"": 3 * 2 * 5 * 3 * 7}  # the product and both gradients


def test_added_memory_is_the_largest_at_once() -> None:
    def call() -> Tensor:
        first = torch.ones(1000, 1000)  # 4 MB
        second = first + 1.0  # 8 MB together
        del first
        return second[:10].clone()

    kept = []
    added_bytes(lambda: kept.append(torch.ones(500, 1000)), CPU)
    for _ in range(2):
        assert added_bytes(call, CPU) == pytest.approx(8e6, rel=1e-3)


def test_rates_and_shares_by_hand() -> None:
    row = Row("g", "x", 5, 8, "new", ms=Quartiles(10.0, 20.0, 30.0), gflop=2.0, peak=400.0)
    assert (row.rate, row.share) == (100.0, 0.25)
    assert Row("g", "x", 5, 8, "new", note="too long").rate is None


def test_rows_have_gains_over_the_first_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    # The peak: one product of 4 x 4 matrices, 128 operations, in half a second of this clock.
    monkeypatch.setitem(timing.WIDTHS, "cpu", 4)
    ticks = itertools.count()
    monkeypatch.setattr(bench_module, "clock", lambda device: lambda: 0.5 * next(ticks))
    old = Variant("old", lambda meter: {"pass": 1.0, "all": 4.0}, flop={"pass": 32.0, "all": 64.0})
    new = Variant("new", steady("all", 0.5), flop={"all": 64.0}, megabytes=3.0, difference=1e-6)
    rows = Bench(CPU, rounds=3, limit=1.0).measure(GROUP, 5, 8, [old, new])
    assert [(row.what, row.variant) for row in rows] == [
        ("pass", "old"),
        ("all", "old"),
        ("all", "new"),
    ]
    assert [row.gain for row in rows] == [1.0, 1.0, 8.0]
    assert [row.ms and row.ms.median for row in rows] == [1000.0, 4000.0, 500.0]
    assert [row.share for row in rows] == pytest.approx([32 / 256, 16 / 256, 128 / 256])
    assert [row.megabytes for row in rows] == [None, None, 3.0]


def test_a_forecast_grows_with_the_count() -> None:
    bench = Bench(CPU, rounds=1, limit=10.0)
    rows = [
        Row("g", "x", 5, 64, name, ms=Quartiles(*3 * (ms,)))
        for name, ms in (("a", 1e3), ("b", 2e3))
    ]
    assert bench.forecast([], 512) == ""
    assert bench.forecast(rows, 256) == ""  # 8 s
    assert bench.forecast(rows, 512) == "about 16 s a call"


def test_a_table_shows_the_columns_that_are_filled(tmp_path: Path) -> None:
    rows = [
        Row("g", "x", 5, 64, "old", ms=Quartiles(1.0, 2.0, 4.0), gain=1.0),
        Row("g", "x", 5, 512, "old", note="about 16 s a call"),
    ]
    assert GROUP.markdown(rows, "Here.") == (
        "# Title\n\nHere.\n\nText.\n\n"
        "| what | size | starts | variant | ms | x old |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| x | 5M | 64 | old | 2 (1 to 4) | 1.00 |\n"
        "| x | 5M | 512 | old | not measured: about 16 s a call | - |\n"
    )
    write_csv(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["ms_low"], first["ms"], first["ms_high"]) == ("1.0", "2.0", "4.0")
    assert (second["ms"], second["note"]) == ("", "about 16 s a call")


def test_a_profile_sums_what_is_not_among_the_largest() -> None:
    ours = {f"op{i}": Cost(1, float(20 - i)) for i in range(12)}
    page = summary(ours, {"op0": Cost(3, 60.0), "other": Cost(2, 1.0)}, "5M, 8 starts", "Here.")
    total = sum(20 - i for i in range(12))
    assert f"| op0 | 1 | 20.0 | {20 / total:.0%} | 3 | 60.0 |" in page
    assert "| op9 | 1 | 11.0 |" in page and "op10" not in page
    assert f"| everything else | 2 | 19.0 | {19 / total:.0%} | 2 | 1.0 |" in page
    assert f"| update | 12 | {total}.0 | 100% | 5 | 61.0 |" in page
