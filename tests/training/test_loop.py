"""The loop: counts, schedules, calls hooks, and goes on where it was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from agents import make, replay

from pwm_sdk import linear_decay, save_state
from pwm_sdk.training.loop import fit


class Walk:
    """An algorithm whose parameter adds up the batches, each times the learning rate's factor."""

    def __init__(self) -> None:
        self.updates, self.factor, self.total = 0, 1.0, torch.zeros(())

    def set_learning_rates(self, factor: float) -> None:
        self.factor = factor

    def update(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        self.updates += 1
        self.total = self.total + self.factor * batch
        return {"total": self.total, "per_policy": torch.tensor([1.0, 3.0])}

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates, self.total = state["updates"], state["total"]


class Source:
    """A replay that draws numbers."""

    def __init__(self, ones: bool = False) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.ones = ones

    def sample(self) -> torch.Tensor:
        drawn = torch.rand((), generator=self.generator)
        return torch.ones(()) if self.ones else drawn


def test_rates_fall_along_a_line_and_metrics_are_averaged() -> None:
    walk = Walk()
    metrics = fit(walk, Source(ones=True), 4, schedule=lambda done: linear_decay(done, 0.6))
    # factors 1, .9, .8, .7
    assert metrics == pytest.approx({"total": 3.4, "per_policy": 2.0})
    assert walk.updates == 4
    assert fit(Walk(), Source(ones=True), 4, schedule=lambda _: 1.0)["total"] == 4.0


def test_a_cut_run_continues_to_the_bit(tmp_path: Path) -> None:
    whole = Walk()
    fit(whole, Source(), 7)

    class CutError(Exception):
        pass

    def cut(step: int, metrics: Any) -> None:
        if step == 5:
            raise CutError

    file = tmp_path / "state.pt"
    with pytest.raises(CutError):
        fit(Walk(), Source(), 7, path=file, save_every=2, hooks=[cut])
    steps = []
    again = Walk()
    fit(again, Source(), 7, path=file, save_every=2, hooks=[lambda step, _: steps.append(step)])
    assert steps == [5, 6, 7]
    assert torch.equal(again.total, whole.total)
    assert fit(Walk(), Source(), 7, path=file) == {}


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="updates must be at least 1, got 0"):
        fit(Walk(), Source(), 0)
    for batches, schedule in ((Source(), None), (None, None), ([torch.ones(())], float)):
        with pytest.raises(ValueError, match="updates must be a number but for an iterable"):
            fit(Walk(), batches, None, schedule=schedule)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped", "hostile", "old", "folder"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "state.pt"
    fit(Walk(), Source(), 3, path=file)
    held = file.read_bytes()
    if damage == "hostile":
        torch.save({"contents": Path("x")}, file)
    elif damage == "old":
        torch.save({"algorithm": {}, "torch_rng": torch.get_rng_state()}, file)
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        flipped = bytearray(held)
        flipped[len(held) // 2] ^= 1
        new = {"empty": b"", "cut": held[: len(held) // 2], "text": b"nothing", "flipped": flipped}
        file.write_bytes(new[damage])
    expected = "got the folder" if damage == "folder" else "delete it to start over"
    with pytest.raises(ValueError, match=expected) as found:
        fit(Walk(), Source(), 5, path=file)
    assert str(file) in str(found.value)
    assert "weights_only" not in str(found.value)


@pytest.mark.parametrize(
    "state",
    [
        [1],
        {},
        {"algorithm": {"total": 0.0}, "torch_rng": None},
        {"algorithm": {"updates": "3", "total": 0.0}, "torch_rng": None},
        {"algorithm": {"updates": -3, "total": 0.0}, "torch_rng": None},
        {"algorithm": {"updates": 3, "total": 0.0}, "torch_rng": torch.zeros(3)},
    ],
)
def test_a_state_of_something_else_is_named_with_the_remedy(tmp_path: Path, state: Any) -> None:
    save_state(tmp_path / "state.pt", state)
    expected = r"state\.pt must be a state of this Walk.*delete it to start over"
    with pytest.raises(ValueError, match=expected):
        fit(Walk(), Source(), 5, path=tmp_path / "state.pt")


def test_a_relative_file_stays_where_it_was_begun(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    fit(
        Walk(),
        Source(),
        2,
        path="state.pt",
        save_every=1,
        hooks=[lambda *_: monkeypatch.chdir(tmp_path / "elsewhere")],
    )
    walk = Walk()
    fit(walk, Source(), 2, path=tmp_path / "state.pt")
    assert walk.updates == 2


def test_an_interruption_is_kept(tmp_path: Path) -> None:
    def stop(step: int, metrics: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt

    file, steps = tmp_path / "state.pt", []
    with pytest.raises(KeyboardInterrupt):
        fit(Walk(), Source(), 7, path=file, hooks=[stop])
    fit(Walk(), Source(), 7, path=file, hooks=[lambda step, _: steps.append(step)])
    assert steps == [6, 7]


def test_updates_are_those_of_the_call_and_a_file_says_where_it_began(tmp_path: Path) -> None:
    walk, factors = Walk(), []
    fit(walk, Source(), 3)
    fit(walk, Source(), 4, hooks=[lambda step, _: factors.append((step, walk.factor))])
    assert factors == [
        (n, pytest.approx(f)) for n, f in ((4, 1.0), (5, 0.755), (6, 0.51), (7, 0.265))
    ]
    assert walk.updates == 7

    def stop(step: int, metrics: Any) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(walk, Source(), 4, path=tmp_path / "state.pt", hooks=[stop])
    again, rest = Walk(), []
    fit(again, Source(), 4, path=tmp_path / "state.pt",
        hooks=[lambda step, _: rest.append((step, again.factor))])  # fmt: skip
    assert rest == [(10, pytest.approx(0.51)), (11, pytest.approx(0.265))]


def test_a_file_from_before_counts_from_the_first_update(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    state = {"algorithm": {"updates": 3, "total": torch.zeros(())}}
    save_state(file, {**state, "torch_rng": torch.get_rng_state()})
    walk = Walk()
    fit(walk, Source(), 5, path=file)
    assert walk.updates == 5


def test_an_iterable_ends_the_loop_and_what_it_did_is_kept(tmp_path: Path) -> None:
    walk, file = Walk(), tmp_path / "state.pt"
    walk.factor = 0.5  # stays, where nothing says how many updates there are
    assert fit(walk, [torch.ones(())] * 3, None, path=file)["total"] == 1.5
    again = Walk()
    fit(again, iter([torch.ones(())] * 2), 9, path=file, schedule=lambda done: 1.0 - done)
    assert again.updates == 5
    assert float(again.total) == pytest.approx(1.5 + 6 / 9 + 5 / 9)  # of 9: three were done


def test_batches_come_to_the_device_of_the_agent() -> None:
    class Placed(Walk):
        device = torch.device("meta")

    walk, moved = Placed(), []
    walk.update = lambda batch: moved.append(batch) or setattr(walk, "updates", 1) or {}
    fit(walk, [{"rows": torch.ones(2)}], 1)
    assert moved[0]["rows"].device.type == "meta"


def test_the_first_batch_is_checked() -> None:
    with pytest.raises(ValueError, match="batch must be"):
        fit(make("PWM"), None, 1)
    with pytest.raises(ValueError, match="batch must be None, got"):
        fit(make("SHAC"), replay(), 1)
