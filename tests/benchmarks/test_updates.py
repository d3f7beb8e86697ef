"""The group of updates: passes told apart, losses compared, operations as computed by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from pwm_sdk import MT80, model_size
from speed import sampling, updates
from speed.bench import Bench
from speed.updates import ACTOR, BASELINE, CRITIC, OURS, WHOLE, Agent

CPU = torch.device("cpu")


def agent(actor_losses: list[float], value_losses: list[float]) -> Agent:
    """An agent that says these losses, and takes a step."""
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    said = iter(zip(actor_losses, value_losses, strict=True))

    def update() -> dict[str, torch.Tensor]:
        optimizer.step()
        first, second = next(said)
        return {"return": torch.tensor(first), "value_loss": torch.tensor(second)}

    return Agent(update, optimizer)


def test_the_actor_step_divides_the_update() -> None:
    marks = iter([1.0, 4.0, 9.0, 20.0, 21.0, 23.0])
    own = agent([1.0, 1.0], [1.0, 1.0])
    assert own.read(lambda: next(marks)) == {ACTOR: 3.0, CRITIC: 5.0, WHOLE: 8.0}
    assert own.read(lambda: next(marks)) == {ACTOR: 1.0, CRITIC: 2.0, WHOLE: 3.0}


def test_losses_of_the_first_update_are_compared() -> None:
    first, second = agent([2.0, 0.1], [1.0, 4.0]), agent([2.2, 0.3], [0.7, 3.0])
    for one in (first, second):
        one()
        one()
    assert updates.difference(first, second) == pytest.approx(0.3)


def test_gradients_of_the_first_update_are_compared_tensor_by_tensor() -> None:
    exact, own = agent([1.0], [1.0]), agent([1.0], [1.0])
    exact.slopes = [torch.tensor([3.0, 4.0]), torch.tensor([10.0])]
    own.slopes = [torch.tensor([3.0, 4.5]), torch.tensor([-10.0])]
    assert updates.gradient_error(exact, own) == pytest.approx(2.0)
    own.slopes[1] = torch.tensor([10.1])
    assert updates.gradient_error(exact, own) == pytest.approx(0.1)


def test_graphs_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("published_agent", "observations", "transcribed", "our_agent"):
        monkeypatch.setattr(updates, name, lambda *given: given[-1])
    names = tuple(updates.VARIANTS)
    everywhere = {BASELINE, OURS, "ours-compiled", "ours-bf16", "ours-compiled-bf16"}
    assert updates.agents_of(1, 1, CPU, names).keys() == everywhere
    found = updates.agents_of(1, 1, torch.device("cuda"), names)
    assert found.keys() == {BASELINE, *names}
    graphs = ("graphs", "graphs-tf32", "graphs-bf16", "graphs-compiled", "graphs-compiled-bf16")
    assert found.keys() - everywhere == {f"ours-{name}" for name in ("tf32", *graphs)}


def test_operations_and_losses_of_an_update() -> None:
    batch = 3
    found = {v.name: v for v in updates.warmed_up(updates.changed_agents(1, batch, CPU), CPU)}
    widths = model_size(1, MT80)
    latent, hidden, actions = widths.latent_dim, widths.hidden[0], MT80.action_dim
    rows = 2 * batch * updates.HORIZON  # operations of a multiplication with an addition
    joint = latent + widths.task_dim + actions
    dynamics = joint * hidden + hidden**2 + hidden * latent
    reward = joint * hidden + hidden**2 + hidden * 101
    actor = latent * 400 + 400 * 200 + 200 * 100 + 100 * actions
    critic = 3 * (latent * 400 + 400 * 200 + 200)
    encoder = (MT80.observation_dim + widths.task_dim) * 256 + 256 * latent
    # The critic: 8 passes forward, and backward to its weights and all inputs but the first.
    passes = 8 * rows * (3 * critic - 3 * latent * 400)
    baseline, ours = found[BASELINE], found[OURS]
    assert baseline.flop[CRITIC] == passes
    assert ours.flop[CRITIC] == passes + rows * critic  # and values for the targets
    # The baseline goes backward through every weight and, but for the encoder, every input.
    forward = dynamics + reward + actor + critic
    backward = 2 * (dynamics + reward + critic) + 2 * actor - latent * 400
    encoded = rows // updates.HORIZON * encoder
    assert baseline.flop[ACTOR] == rows * (forward + backward) + 3 * encoded
    frozen, fused = found["world model frozen"].flop, found["fused Adam"].flop
    spared = rows * (dynamics + reward) + 2 * encoded  # gradients of weights, and of the encoder
    assert frozen[ACTOR] == baseline.flop[ACTOR] - spared
    assert fused == baseline.flop
    assert ours.flop[ACTOR] < frozen[ACTOR]
    assert ours.difference is not None
    assert ours.difference < 1e-5


def test_datasets_are_as_long_as_they_should_be_and_leave_nothing(tmp_path: Path) -> None:
    replay = sampling.dataset(tmp_path / "small", smallest=1000, count=5000)
    assert len(replay) == 5050  # five times ten episodes
    assert replay.sample().shape == (512,)
    starts = replay.starts(sampling.TASK.index, sampling.BATCH, seeds=0)
    assert starts.sample()["observation"].shape == (512, sampling.TASK.observation_dim)
    assert [file.name for file in (tmp_path / "small").iterdir()] == ["rows"]


def test_without_room_no_dataset_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "ROW_BYTES", 10**15)
    bench = Bench(CPU, rounds=1, limit=1.0)
    (row,) = sampling.rows_of_sampling(bench, [1000])
    assert row.ms is None
    assert "GB needed" in row.note
