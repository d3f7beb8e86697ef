"""Learning rates as the loop really sets them, in the optimizers, not as a formula says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agents import batches_of, make, replay

from pwm_sdk import fit, linear_decay

# of four updates, by hand: a fall of 0.98, a quarter each; no fall; a fall to nothing
LINE, FLAT, ZERO = [1.0, 0.755, 0.51, 0.265], [1.0] * 4, [1.0, 0.75, 0.5, 0.25]
FLOORS = {
    "PWM": LINE,
    "Population": LINE,
    "SHAC": LINE,
    "BehaviourCloning": LINE,
    "TDMPC2": FLAT,
    "DreamerV3": FLAT,
    "SAC": FLAT,
    "PPO": ZERO,
}


def shares_set(name: str, steps: int = 4, **options: Any) -> list[list[float]]:
    """Run the loop; the shares of its first rate that each optimizer steps with."""
    torch.manual_seed(0)
    agent, found = make(name), []
    for optimizer in [part for part in vars(agent).values() if hasattr(part, "param_groups")]:
        first, seen = [float(group["lr"]) for group in optimizer.param_groups], []

        def note(stepped: Any, *_: Any, first: Any = first, seen: Any = seen) -> None:
            shares = [
                float(g["lr"]) / lr for g, lr in zip(stepped.param_groups, first, strict=True)
            ]
            assert shares == pytest.approx([shares[0]] * len(shares))
            seen.append(shares[0])

        optimizer.register_step_post_hook(note)
        found.append(seen)
    fit(agent, batches_of(name), steps, **options)
    assert agent.updates == steps
    return [seen[:: len(seen) // steps] for seen in found]  # a critic steps several times an update


@pytest.mark.parametrize(("name", "expected"), FLOORS.items())
def test_the_rates_that_the_loop_sets(name: str, expected: list[float]) -> None:
    found = shares_set(name)
    assert found
    for shares in found:
        assert shares == pytest.approx(expected)


@pytest.mark.parametrize("name", ["PWM", "TDMPC2", "PPO"])
def test_a_schedule_of_ones_own(name: str) -> None:
    for shares in shares_set(name, schedule=lambda done: 0.5 if done < 0.5 else 2.0):
        assert shares == pytest.approx([0.5, 0.5, 2.0, 2.0])


def test_a_line_by_hand() -> None:
    points = {-1.0: 1.0, 0.0: 1.0, 0.5: 0.51, 0.97: 0.0494, 0.99: 0.0298, 1.0: 0.02, 2.0: 0.02}
    for progress, expected in points.items():
        assert linear_decay(progress) == pytest.approx(expected)
    assert linear_decay(0.25, floor=0.0) == 0.75
    assert linear_decay(0.97, 0.0, least=0.02) == pytest.approx(0.03)  # to 0, cut off
    with pytest.raises(ValueError, match=r"floor must lie in \[0, 1\], got 1.5"):
        linear_decay(0.0, floor=1.5)


class Noted:
    """An algorithm that notes the order in which it is read and saved."""

    def __init__(self) -> None:
        self.updates, self.notes, self.bad = 0, [], False

    def set_learning_rates(self, factor: float) -> None:
        pass

    def update(self, batch: Any) -> dict[str, Any]:
        self.updates += 1
        return {}

    def check_finite(self) -> None:
        self.notes.append(f"read {self.updates}")
        if self.bad:
            raise ValueError("loss must be finite")

    def state_dict(self) -> dict[str, Any]:
        self.notes.append(f"save {self.updates}")
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]


def test_numbers_are_read_before_every_save_and_at_the_end(tmp_path) -> None:
    noted = Noted()
    fit(noted, replay(), 5, path=tmp_path / "state.pt", save_every=2)
    assert noted.notes == ["read 2", "save 2", "read 4", "save 4", "read 5", "save 5"]
    noted = Noted()
    fit(noted, replay(), 3)
    assert noted.notes == ["read 3"]
    noted.bad = True
    with pytest.raises(ValueError, match="loss must be finite"):
        fit(noted, replay(), 6, path=tmp_path / "other.pt")
    assert not (tmp_path / "other.pt").exists()


@pytest.mark.parametrize("name", ["PWM", "TDMPC2"])
def test_what_was_not_finite_is_told_at_the_end_at_the_latest(name: str) -> None:
    """As on a GPU, where updates read now and then."""
    agent, bad = make(name), replay()
    agent.finite._at_once, agent.finite.every = False, 100
    bad.batch["observation"][:] = torch.nan
    before = [p.detach().clone() for p in agent.model.parameters()]
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity since"):
        fit(agent, bad, 3)
    for parameter, old in zip(agent.model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old)
    good = replay()
    if name == "TDMPC2":
        agent.updates = 0
        fit(agent, good, 2)  # nothing that is not finite has stayed
        assert all(p.isfinite().all() for p in agent.prior.parameters())
        assert agent.scale.isfinite()
