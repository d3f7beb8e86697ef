"""The table of what gradients of simulators cost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import simulator_costs


def test_the_table_has_a_row_per_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--rows", "1", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["costs", "--tasks", "swimmer-2", "cartpole-swingup", *sizes])
    simulator_costs.main()
    first, second = capsys.readouterr().out.splitlines()[-2:]
    for line, name, actions in ((first, "swimmer-2", 2), (second, "cartpole-swingup", 1)):
        cells = line.strip("| ").split(" | ")
        assert cells[:2] == [name, str(actions)]
        plain, whole = map(float, cells[2:4])
        assert 0.0 < plain < whole


def test_unknown_tasks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["costs", "--tasks", "walker-rn"])
    with pytest.raises(SystemExit, match="nearest: walker-run"):
        simulator_costs.main()
