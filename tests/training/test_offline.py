"""The loop over fixed data: counts, schedules, and goes on where it was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pwm_sdk import save_state
from pwm_sdk.training.offline import train_offline


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
    metrics = train_offline(walk, Source(ones=True), 4, floor=0.6)
    # factors 1, .9, .8, .7
    assert metrics == pytest.approx({"total": 3.4, "per_policy": 2.0})
    assert walk.updates == 4
    assert train_offline(Walk(), Source(ones=True), 4, floor=1.0)["total"] == 4.0


def test_a_cut_run_continues_to_the_bit(tmp_path: Path) -> None:
    whole = Walk()
    train_offline(whole, Source(), 7)

    class CutError(Exception):
        pass

    def cut(step: int, metrics: Any) -> None:
        if step == 5:
            raise CutError

    file = tmp_path / "state.pt"
    with pytest.raises(CutError):
        train_offline(Walk(), Source(), 7, path=file, save_every=2, on_step=cut)
    steps = []
    again = Walk()
    train_offline(
        again, Source(), 7, path=file, save_every=2, on_step=lambda step, _: steps.append(step)
    )
    assert steps == [5, 6, 7]
    assert torch.equal(again.total, whole.total)
    assert train_offline(Walk(), Source(), 7, path=file) == {}


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        train_offline(Walk(), Source(), 0)
    with pytest.raises(ValueError, match=r"floor must lie in \[0, 1\], got 1.5"):
        train_offline(Walk(), Source(), 1, floor=1.5)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped", "hostile", "old", "folder"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "state.pt"
    train_offline(Walk(), Source(), 3, path=file)
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
    expected = "got the folder" if damage == "folder" else "delete it to begin anew"
    with pytest.raises(ValueError, match=expected) as found:
        train_offline(Walk(), Source(), 5, path=file)
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
    expected = r"state\.pt must be a state of this Walk.*delete it to begin anew"
    with pytest.raises(ValueError, match=expected):
        train_offline(Walk(), Source(), 5, path=tmp_path / "state.pt")


def test_a_relative_file_stays_where_it_was_begun(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    train_offline(
        Walk(),
        Source(),
        2,
        path="state.pt",
        save_every=1,
        on_step=lambda *_: monkeypatch.chdir(tmp_path / "elsewhere"),
    )
    walk = Walk()
    train_offline(walk, Source(), 2, path=tmp_path / "state.pt")
    assert walk.updates == 2


def test_an_interruption_is_kept(tmp_path: Path) -> None:
    def stop(step: int, metrics: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt

    file, steps = tmp_path / "state.pt", []
    with pytest.raises(KeyboardInterrupt):
        train_offline(Walk(), Source(), 7, path=file, on_step=stop)
    train_offline(Walk(), Source(), 7, path=file, on_step=lambda step, _: steps.append(step))
    assert steps == [6, 7]
