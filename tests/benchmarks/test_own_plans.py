"""TD-MPC2's row of the published protocol: plans of Q functions and prior that were saved."""

from __future__ import annotations

import json
import queue
import sys
from pathlib import Path

import pytest
import torch
from vectors import path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from paper.extraction import OfflinePreset, Place
from paper.planning import PRIOR_FILE, Q_FILE, Parts, Plans, open_parts, pending, plan, rows_of
from pwm_sdk import MT80, PolicyPrior, QEnsemble, WorldModel

PRESS, SWEEP = "mw-button-press", "mw-sweep"
PRESET = OfflinePreset(tasks=(PRESS, SWEEP))
PLANS = Plans(episodes=1, samples=16)


def make_parts(model: WorldModel, seed: int) -> Parts:
    """Q functions and a prior with random weights: as they start, all values are zero."""
    torch.manual_seed(seed)
    q, prior = QEnsemble.for_model(model, ensemble=3), PolicyPrior.for_model(model)
    torch.nn.init.normal_(q.head.weight)
    return Parts(q, prior)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel.published(
        MT80.observation_dim, MT80.action_dim, num_tasks=80, task_dim=8, latent_dim=16,
        hidden=(16,), encoder_hidden=(16,), action_dims=[task.action_dim for task in MT80],
    )  # fmt: skip


def save(folder: Path, model: WorldModel, parts: Parts) -> Path:
    """Lay the files out as pre-training does."""
    folder.mkdir()
    parts.q.save(folder / Q_FILE)
    parts.prior.save(folder / PRIOR_FILE)
    model.save(folder / "model.safetensors")
    return folder / "model.safetensors"


def save_as_tdmpc2(file: Path, model: WorldModel, parts: Parts) -> Path:
    """Lay the same weights out as TD-MPC2's program does since late 2024."""
    last = len(parts.q.layers)
    names = {
        "encoder.": "_encoder.state.", "dynamics.": "_dynamics.", "reward_head.": "_reward.",
        "task_embedding": "_task_emb.weight", "net.": "_pi.", "layers.": "_Qs.params.",
        "norms.": "_Qs.params.", "head.": f"_Qs.params.{last}.",
    }  # fmt: skip
    state = {"_action_masks": torch.zeros(80, MT80.action_dim)}
    for task in MT80:
        state["_action_masks"][task.index, : task.action_dim] = 1.0
    for part in (model, *parts):
        for key, value in part.state_dict().items():
            ours = next((name for name in names if key.startswith(name)), None)
            if ours is not None:
                theirs = names[ours] + key.removeprefix(ours)
                if ours == "norms.":
                    number, name = key.split(".")[1:]
                    theirs = f"_Qs.params.{number}.ln.{name}"
                state[theirs] = value
    torch.save({"model": state}, file)
    return file


def row(checkpoint: Path, folder: Path, plans: Plans = PLANS) -> dict:
    """Plan one task with what belongs to a world model; its row."""
    place, news = Place(folder, folder, checkpoint, "cpu", None), queue.Queue()
    assert plan([PRESS], PRESET, place, plans, news) == 1
    assert news.qsize() == 100 * plans.episodes  # steps, for the progress bar
    return json.loads((folder / "tdmpc2" / f"{PRESS}.json").read_text())


def test_the_row_is_that_of_the_saved_parts(model: WorldModel, tmp_path: Path) -> None:
    parts, others = make_parts(model, 1), make_parts(model, 2)
    base = row(save(tmp_path / "base", model, parts), tmp_path / "a")
    assert (base["task"], base["method"], base["seed"]) == (PRESS, "tdmpc2", 0)
    assert base["episodes"] == 1.0 and 0.0 < base["return"] < 2000.0
    assert base["score"] == base["success_last"] and base["ms_per_action"] > 0.0

    def played(name: str, parts: Parts) -> float:
        return row(save(tmp_path / name, model, parts), tmp_path / f"run-{name}")["return"]

    assert played("other q", Parts(others.q, parts.prior)) != base["return"]
    assert played("other prior", Parts(parts.q, others.prior)) != base["return"]
    file = save_as_tdmpc2(tmp_path / "official.pt", model, parts)
    assert row(file, tmp_path / "b")["return"] == pytest.approx(base["return"], rel=1e-4)


def test_a_task_that_is_evaluated_is_not_evaluated_again(model: WorldModel, tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "source", model, make_parts(model, 1))
    place = Place(tmp_path, tmp_path, checkpoint, "cpu", None)
    assert pending(PRESET, place, PLANS) == [[PRESS], [SWEEP]]
    assert rows_of(PRESET, place, PLANS) == []
    done = row(checkpoint, tmp_path)
    assert pending(PRESET, place, PLANS) == [[SWEEP]]
    assert rows_of(PRESET, place, PLANS) == [done]
    for other in (Plans(episodes=2, samples=16), Plans(episodes=1, samples=32)):
        assert pending(PRESET, place, other) == [[PRESS], [SWEEP]]


def test_a_gpu_plans_equally_long_episodes_side_by_side(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path, tmp_path, "cuda", None)
    mixed = OfflinePreset(tasks=(PRESS, "walker-run", SWEEP, "cup-spin"))
    assert pending(mixed, place, PLANS) == [[PRESS, SWEEP], ["walker-run", "cup-spin"]]
    every = pending(OfflinePreset(tasks=tuple(MT80.names)), place, PLANS)
    assert [len(names) for names in every] == [30, 32, 18]


@pytest.mark.parametrize("style", ["old", "new"])
def test_published_files_hold_both(style: str) -> None:
    file = path(f"g7_tdmpc2_ckpt_{style}.pt")
    parts = open_parts(file, WorldModel.from_checkpoint(file))
    assert parts is not None and not parts.q.training  # no dropout in plans
    expected = QEnsemble.from_checkpoint(file), PolicyPrior.from_checkpoint(file)
    for part, own in zip(parts, expected, strict=True):
        for name, value in own.state_dict().items():
            assert torch.equal(part.state_dict()[name], value)


def test_where_there_are_none_and_what_does_not_fit(model: WorldModel, tmp_path: Path) -> None:
    file = path("g7_pwm_ckpt_plain.pt")
    assert open_parts(file, WorldModel.from_checkpoint(file)) is None
    checkpoint = save(tmp_path / "source", model, make_parts(model, 1))
    (tmp_path / "source" / PRIOR_FILE).unlink()
    assert open_parts(checkpoint, model) is None
    place = Place(tmp_path, tmp_path, checkpoint, "cpu", None)
    with pytest.raises(ValueError, match="checkpoint must come with Q functions and prior, got"):
        plan([PRESS], PRESET, place, PLANS, queue.Queue())
    PolicyPrior(16, MT80.action_dim, task_dim=9, hidden=(16,)).save(
        tmp_path / "source" / PRIOR_FILE
    )
    with pytest.raises(ValueError, match=r"policy_prior.* must have task_dim 8, .* got 9"):
        open_parts(checkpoint, model)
