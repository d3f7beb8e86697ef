"""A run ends with its budget, is read on the way, continues, and shares its folder with nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pwm_sdk import ObservationPolicy, OtherRunError, Run, lock_folder, online_pwm
from pwm_sdk.contract.agents import Loop


class Report:
    """A round of a second, nine tenths of it updates."""

    train_seconds, collect_seconds = 0.9, 0.1

    def row(self, names: list[str]) -> dict[str, float]:
        return {f"train_return/{name}": 1.0 for name in names}


class Counting:
    """A loop that only counts: three updates and ten steps a round."""

    names, tasks, test_pool, code = ["a", "b"], [None, None], None, "counting"

    def __init__(self) -> None:
        self.round = self.steps = self.updates = self.begun = 0
        self.progress: list[float] = []

    def begin(self) -> None:
        self.begun += 1

    def run_round(self, progress: float) -> Report:
        self.progress.append(progress)
        self.round, self.steps, self.updates = self.round + 1, self.steps + 10, self.updates + 3
        return Report()

    def policy(self) -> Any:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"round": self.round, "steps": self.steps, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round, self.steps, self.updates = state["round"], state["steps"], state["updates"]

    def save_data(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        (path / "rows").write_text(str(self.round))

    def load_data(self, path: Path) -> None:
        self.read = (path / "rows").read_text()


def summaries() -> list[dict[str, float]]:
    return [{"return": 1.0, "return_min": 0.0}, {"return": 3.0, "return_min": 2.0}]


def tiny(seed: int = 0) -> Any:
    return online_pwm("Pendulum-v1", "tiny", seed=seed)


def weights(run: Run) -> dict[str, Any]:
    loop: Any = run.loop
    return dict([*loop.model.named_parameters(), *loop.learners[0].pwm.actor.named_parameters()])


def test_a_counting_loop_is_a_loop() -> None:
    assert isinstance(Counting(), Loop)


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [
        ({"rounds": 4}, 4),
        ({"steps": 45}, 5),
        ({"updates": 7}, 3),
        ({"minutes": 0.1}, 6),
        ({"rounds": 9, "updates": 6}, 2),
        ({"minutes": 0.05, "steps": 1000}, 3),
    ],
)
def test_the_first_budget_that_is_spent_ends_it(
    tmp_path: Path, budget: dict[str, Any], rounds: int
) -> None:
    loop = Counting()
    run = Run(tmp_path, loop, readings=0).train(**budget)
    assert (loop.round, loop.begun, len(run.log)) == (rounds, 1, rounds)
    assert loop.progress[0] < 0.01 and all(0.0 <= share < 1.0 for share in loop.progress)
    assert run.seconds["train"] == pytest.approx(0.9 * rounds)
    assert run.curve == []


def test_budgets_count_from_the_beginning_of_the_run(tmp_path: Path) -> None:
    Run(tmp_path, Counting()).train(rounds=2)
    loop = Counting()
    run = Run(tmp_path, loop).train(rounds=3)
    assert (loop.begun, loop.round, loop.read) == (0, 3, "2")
    assert loop.progress == [pytest.approx(2 / 3)]
    assert [row["round"] for row in run.log] == [1, 2, 3]
    assert run.seconds["train"] == pytest.approx(2.7)
    run.train(minutes=5 / 60)
    assert loop.round == 5


def test_readings_are_spread_over_the_budget(tmp_path: Path) -> None:
    loop = Counting()
    run = Run(tmp_path, loop, readings=3, read=summaries).train(rounds=8)
    assert [point["round"] for point in run.curve] == [0, 2, 4, 6, 8]
    assert run.curve[-1]["tasks"]["b"] == summaries()[1]
    told = json.loads((tmp_path / "curve.json").read_text())
    assert told["curve"] == run.curve and set(told["seconds"]) == {"collect", "train", "evaluate"}
    assert len((tmp_path / "rounds.csv").read_text().splitlines()) == 9


def test_a_reading_is_not_late_by_a_rounding_error(tmp_path: Path) -> None:
    """48 readings in 49 rounds are one a round, though some n / 49 * 49 are below n."""
    run = Run(tmp_path, Counting(), readings=48, read=summaries, save_every=49).train(rounds=49)
    assert [point["round"] for point in run.curve] == list(range(50))


def test_two_checkpoints_stay(tmp_path: Path) -> None:
    Run(tmp_path, Counting(), save_every=2).train(rounds=7)
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == ["checkpoint-00006", "checkpoint-00007"]


def test_checkpoints_are_ordered_by_number_and_others_left_alone(tmp_path: Path) -> None:
    """Five digits are written at least: 100,000 comes after 99,999."""
    loop = Counting()
    loop.round = 99_998
    Run(tmp_path, loop, readings=0, save_every=1).train(updates=9)
    names = ["checkpoint-100000", "checkpoint-100001"]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == names
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best" / "state.pt").write_bytes(b"a copy of somebody's")
    loop = Counting()
    Run(tmp_path, loop, readings=0, save_every=1).train(updates=12)
    assert (loop.read, loop.round) == ("100001", 100_002)
    assert (tmp_path / "checkpoint-best").exists()


def test_a_logger_gets_rounds_and_readings(tmp_path: Path) -> None:
    told: list[tuple[int, set[str]]] = []

    class Log:
        def log(self, metrics: Any, step: int) -> None:
            told.append((step, set(metrics)))

        def close(self) -> None: ...

    Run(tmp_path, Counting(), readings=1, read=summaries, logger=Log()).train(rounds=2)
    assert told[0] == (0, {"return/a", "return/b"})
    assert told[1] == (3, {"train_return/a", "train_return/b"})
    assert [step for step, _ in told] == [0, 3, 3, 6, 6]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(ValueError, match="must not be in use"):
        Run(tmp_path, Counting()).train(rounds=1)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, Counting(), settings={"a": 1}).train(rounds=1)
    with pytest.raises(OtherRunError, match="state"):
        Run(tmp_path, Counting(), settings={"a": 2}).train(rounds=2)
    other = Counting()
    other.code = "another program"
    with pytest.raises(OtherRunError):
        Run(tmp_path, other, settings={"a": 1}).train(rounds=2)


def test_a_budget_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be given, got none"):
        Run(tmp_path, Counting()).train()
    with pytest.raises(ValueError, match="minutes must be positive"):
        Run(tmp_path, Counting()).train(minutes=0.0)


def test_ctrl_c_lets_the_round_end_and_keeps_it(tmp_path: Path) -> None:
    class Told(Counting):
        def run_round(self, progress: float) -> Report:
            if self.round == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return super().run_round(progress)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # as programs have it
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, Told()).train(rounds=10)
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "checkpoint-00002" / "state.pt").exists()
    assert Run(tmp_path, Counting()).train(rounds=3).loop.round == 3


def test_ctrl_c_in_the_last_reading_is_not_lost(tmp_path: Path) -> None:
    """A script of several runs must not begin the next one."""
    loop = Counting()

    def read() -> list[dict[str, float]]:
        if loop.round == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return summaries()

    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, loop, readings=1, read=read).train(rounds=2)
    run = Run(tmp_path, Counting(), readings=1, read=summaries).train(rounds=2)
    assert [point["round"] for point in run.curve] == [0, 1, 2]


def test_an_older_checkpoint_serves_where_the_newest_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(tmp_path, Counting(), save_every=1).train(rounds=3)
    (tmp_path / "checkpoint-00003" / "state.pt").write_bytes(b"nothing")
    loop = Counting()
    Run(tmp_path, loop).train(rounds=3)
    assert (loop.read, loop.progress) == ("2", [pytest.approx(2 / 3)])
    assert "it continues from checkpoint-00002 instead" in capsys.readouterr().err


def test_a_resumed_run_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """Up to what the environments draw: the last round's updates see none of that."""
    whole = Run(tmp_path / "whole", tiny(), readings=0).train(rounds=3)
    for name in ("a", "b"):
        run = Run(tmp_path / name, tiny(), readings=0)
        with pytest.raises(KeyboardInterrupt):
            run.train(rounds=3, stop=lambda run=run: run.loop.round == 2)
    first, second = (
        Run(tmp_path / name, tiny(), readings=0).train(rounds=3) for name in ("a", "b")
    )
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(first)[name]), name
    old, new = (dict(run.loop.replay.statistics(0)) for run in (first, second))  # pyright: ignore
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert first.loop.steps == whole.loop.steps


def test_the_policy_is_read_in_environments_of_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path, tiny(), readings=1, episodes=1).train(rounds=2)
    again = Run(tmp_path / "other", tiny(), readings=5, episodes=1).train(rounds=2)
    first, second = (
        {point["round"]: point["tasks"]["Pendulum-v1"] for point in one.curve}
        for one in (run, again)
    )
    assert first[0] == second[0] and first[2] == second[2]  # readings change nothing
    assert -2000.0 < first[0]["return"] < 0.0


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = Run(tmp_path, Counting(), readings=1, read=summaries).train(rounds=2)
    assert run.plot() == tmp_path / "curve.png"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


ELSEWHERE = """
import sys, numpy, pwm_sdk
policy = pwm_sdk.ObservationPolicy.load(sys.argv[1])
print(repr(policy.act(numpy.array([1.0, 0.0, 0.5], numpy.float32)).tolist()))
"""


def test_the_policy_is_left_as_a_file_that_acts_elsewhere(tmp_path: Path) -> None:
    run = Run(tmp_path, tiny(), readings=0).train(rounds=1)
    here: Any = run.policy
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "policy.safetensors")]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seen = np.array([1.0, 0.0, 0.5], np.float32)
    assert json.loads(there) == pytest.approx(here.act(seen).tolist(), abs=1e-6)
    assert here.act(seen).shape == (1,)


def test_each_of_several_tasks_leaves_its_policy(tmp_path: Path) -> None:
    pytest.importorskip("dm_control")
    names = ["Pendulum-v1", "pendulum-swingup"]
    run = Run(tmp_path, online_pwm(names, "tiny"), readings=0).train(rounds=1)
    together: Any = run.policy
    seen = np.linspace(-1.0, 1.0, 3, dtype=np.float32)
    both = together.act(np.stack([seen, seen]))
    for i, name in enumerate(names):
        alone = ObservationPolicy.load(tmp_path / f"policy-{name}.safetensors")
        np.testing.assert_allclose(alone.act(seen), both[i], atol=1e-6)
