"""Policies of the published protocol: together as alone, over interruptions, as memory allows."""

from __future__ import annotations

import json
import math
import multiprocessing
import queue
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from vectors import path

import pwm_sdk.envs.pool as envpool
from pwm_sdk.envs.workers import Workers

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from paper import extraction, memory, sharing
from paper.extraction import Extraction, OfflinePreset, Place, Policy, updates_done
from pwm_sdk import MT80, EnvPool, Execution, FirstOrderActor, WorldModel, from_tdmpc2_chunks
from speed.timing import added_bytes

INSERT, PRESS = "mw-hand-insert", "mw-button-press"
PRESET = OfflinePreset(
    tasks=(INSERT, PRESS), updates=4, batch_size=4, readings=1, episodes=1, save_every=2
)
CLOSE = {"atol": 1e-4, "rtol": 0.0}  # a fifth of one of Adam's first steps, which ignore size
POLICIES = [Policy(PRESS, 0), Policy(INSERT, 0), Policy(PRESS, 1)]


def make_model() -> WorldModel:
    torch.manual_seed(0)
    sizes = [task.action_dim for task in MT80]
    return WorldModel.published(
        MT80.observation_dim, MT80.action_dim, num_tasks=80, task_dim=8, latent_dim=16,
        hidden=(16,), encoder_hidden=(16,), action_dims=sizes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of recorded episodes and a file of a small world model."""
    folder = tmp_path_factory.mktemp("source")
    from_tdmpc2_chunks([path(f"g7_chunk_{i}.pt") for i in range(2)], folder / "data", MT80)
    make_model().save(folder / "model.safetensors")
    return folder / "data", folder / "model.safetensors"


def run(
    folder: Path, source: tuple[Path, Path], policies: list[Policy], **options: object
) -> Extraction:
    place = replace(Place(folder, *source, "cpu", None), **options)
    made = Extraction(policies, PRESET, place, queue.Queue())
    made.run()
    return made


def scores(folder: Path, policy: Policy) -> dict:
    return json.loads((folder / f"seed{policy.seed}" / policy.task / "scores.json").read_text())


def actor(folder: Path, policy: Policy) -> FirstOrderActor:
    own = folder / f"seed{policy.seed}" / policy.task
    return FirstOrderActor.from_checkpoint(own / "actor.safetensors")


def test_policies_learned_at_once_are_those_learned_one_at_a_time(source, tmp_path: Path) -> None:
    run(tmp_path / "together", source, POLICIES)
    for policy in POLICIES:
        run(tmp_path / "alone", source, [policy])
        ours, own = (actor(tmp_path / name, policy) for name in ("together", "alone"))
        torch.testing.assert_close(dict(ours.state_dict()), dict(own.state_dict()), **CLOSE)
        ours, own = (scores(tmp_path / name, policy) for name in ("together", "alone"))
        for row in (ours, own):
            assert (row.pop("task"), row.pop("method")) == (policy.task, "pwm")
        assert ours == pytest.approx(own, rel=1e-2)
    curve = tmp_path / "together" / "seed1" / PRESS / "curve.json"
    assert [point["updates"] for point in json.loads(curve.read_text())["curve"]] == [2, 4]
    first, other = (actor(tmp_path / "together", policy) for policy in POLICIES[::2])
    assert not torch.allclose(first.net.head.weight, other.net.head.weight)  # seeds differ


def test_an_interrupted_population_goes_on_to_the_bit_and_in_other_company(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = []

    def evaluate(pool: EnvPool, *others: object, seeds: list[int]) -> list[dict]:
        evaluated.append((pool.tasks, seeds))
        return [{"return": 0.0, "success_last": 0.0} for _ in seeds]

    monkeypatch.setattr(extraction, "evaluate_members", evaluate)
    run(tmp_path / "whole", source, POLICIES)

    class Cut(queue.Queue):
        def put(self, *args: object) -> None:
            super().put(*args)
            if self.qsize() == 3:
                raise KeyboardInterrupt

    place = Place(tmp_path / "cut", *source, "cpu", None)
    with pytest.raises(KeyboardInterrupt):
        Extraction(POLICIES, PRESET, place, Cut()).run()
    assert [updates_done(policy, place) for policy in POLICIES] == [2, 2, 2]
    run(place.folder, source, POLICIES[:2])
    run(place.folder, source, POLICIES[2:])
    for policy in POLICIES:
        whole, cut = actor(tmp_path / "whole", policy), actor(tmp_path / "cut", policy)
        torch.testing.assert_close(dict(whole.state_dict()), dict(cut.state_dict()), **CLOSE)
    assert evaluated[0] == ([MT80[name].index for name in (PRESS, INSERT, PRESS)], [42, 42, 43])


def test_a_policy_that_diverges_is_kept_as_it_was_and_the_others_go_on(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(*_: object, seeds: list[int]) -> list[dict]:
        return [{"return": 0.0, "success_last": 0.0} for _ in seeds]

    monkeypatch.setattr(extraction, "evaluate_members", evaluate)
    spoiled = Extraction(
        POLICIES, PRESET, Place(tmp_path / "a", *source, "cpu", None), queue.Queue()
    )
    with torch.no_grad():
        spoiled.learners.critic.net.head.bias[1] = torch.finfo(torch.float32).max
    before = spoiled.learners.actor.member(1).state_dict()
    with pytest.warns(UserWarning, match="of policy 1 must be finite"):
        spoiled.run()
    whole = run(tmp_path / "b", source, POLICIES)
    for i, policy in enumerate(POLICIES):
        row = scores(tmp_path / "a", policy)
        assert ("stopped" in row) is (i == 1)
        assert math.isfinite(row["imagined"])
        ours = dict(actor(tmp_path / "a", policy).state_dict())
        expected = before if i == 1 else whole.learners.actor.member(i).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in ours.items())
    assert spoiled.learners.stopped == [1]
    again = Extraction(POLICIES, PRESET, Place(tmp_path / "a", *source, "cpu", None), queue.Queue())
    assert again.learners.stopped == [1]  # it is part of the saved states


def test_workers_are_started_once_and_always_ended(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Counted(Workers):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            started.append([process.pid for process in self._processes])

    monkeypatch.setattr(envpool, "Workers", Counted)
    policies = POLICIES[:2]
    run(tmp_path / "here", source, policies)
    assert started == []
    run(tmp_path / "there", source, policies, workers=2)
    assert [len(processes) for processes in started] == [2]  # for two evaluations
    assert multiprocessing.active_children() == []
    for policy in policies:
        here, there = scores(tmp_path / "here", policy), scores(tmp_path / "there", policy)
        assert here == there
        file = tmp_path / "there" / f"seed{policy.seed}" / policy.task / "curve.json"
        assert [p["updates"] for p in json.loads(file.read_text())["curve"]] == [2, 4]

    def fail(*_, **__) -> None:
        assert len(multiprocessing.active_children()) == 2
        raise OSError("no more")

    monkeypatch.setattr(extraction, "evaluate_members", fail)
    with pytest.raises(OSError, match="no more"):
        run(tmp_path / "failed", source, policies, workers=2)
    assert len(started) == 2
    assert multiprocessing.active_children() == []


def test_updates_are_executed_as_asked_and_a_run_goes_on_with_others(
    source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Execution, "on", lambda self, device, **_: self)
    monkeypatch.setattr("pwm_sdk.execution.graphs.CudaGraphModule", lambda function: function)
    policies = POLICIES[:2]
    run(tmp_path / "whole", source, policies)
    monkeypatch.setattr(Extraction, "_read", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", source, policies, execution=Execution(cuda_graphs=True))
    with pytest.raises(KeyboardInterrupt):  # at the end, before the last evaluation
        run(tmp_path / "cut", source, policies)
    monkeypatch.setattr(Extraction, "_read", lambda *_: [{"return": 0.0, "success_last": 0.0}] * 2)
    half = run(tmp_path / "half", source, policies, execution=Execution(precision="bf16"))
    assert half.learners.execution.precision == "bf16"
    run(tmp_path / "cut", source, policies)
    for policy in policies:
        ours, own, rough = (actor(tmp_path / n, policy) for n in ("whole", "cut", "half"))
        torch.testing.assert_close(dict(ours.state_dict()), dict(own.state_dict()), **CLOSE)
        assert not torch.equal(ours.net.head.weight, rough.net.head.weight)
        assert float((rough.net.head.weight - ours.net.head.weight).detach().abs().max()) < 5e-3
        imagined = [scores(tmp_path / name, policy)["imagined"] for name in ("whole", "cut")]
        assert imagined[0] == pytest.approx(imagined[1], rel=1e-3)
        assert imagined[0] != 0.0


def test_groups_are_of_equal_progress_and_about_equal_size() -> None:
    policies = [Policy("a", seed) for seed in range(7)]
    assert sharing.grouped(policies, [0] * 7, 3) == [policies[:2], policies[2:4], policies[4:]]
    mixed = sharing.grouped(policies, [0, 5, 0, 5, 0, 5, 0], 9)
    assert mixed == [policies[::2], policies[1::2]]


@pytest.mark.parametrize(
    ("policies_that_fit", "jobs", "asked", "sizes"),
    [(100, 1, None, [6]), (4, 1, None, [3, 3]), (4, 2, None, [2, 2, 2]), (100, 2, None, [3, 3]),
     (100, 1, 4, [3, 3]), (0.1, 1, None, [1] * 6)],
)  # fmt: skip
def test_populations_are_as_few_as_memory_allows(
    policies_that_fit, jobs, asked, sizes, tmp_path: Path, monkeypatch, capsys
) -> None:
    need = memory.Footprint(1_000_000, 3_000_000)
    free = policies_that_fit * need.total / sharing.USED
    monkeypatch.setattr(sharing, "footprint", lambda model, preset: need)
    monkeypatch.setattr(sharing, "free_bytes", lambda device: int(free) + 1)
    place = Place(tmp_path, tmp_path, tmp_path, "cpu", None)
    finished = Policy("done", 0)
    file = place.file(finished, "scores.json")
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    policies = [Policy("a", seed) for seed in range(6)]
    arguments = (PRESET, place, make_model(), jobs, asked)
    groups = sharing.share_out([*policies, finished], *arguments)
    assert [len(group) for group in groups] == sizes
    assert [policy for group in groups for policy in group] == policies
    told = capsys.readouterr().err
    assert f"policies to learn: 6; populations: {len(sizes)} of at most" in told
    assert "about 4 MB a policy" in told
    assert sharing.share_out([finished], *arguments) == []


@pytest.mark.parametrize("population", [1, 3])
def test_the_footprint_is_what_an_update_takes_and_some_more(population: int) -> None:
    model = make_model()
    small, large = (
        memory.footprint(model, replace(PRESET, batch_size=size)) for size in (100, 200)
    )
    assert large.activations == 2 * small.activations
    assert large.weights == small.weights
    learners = extraction.make_learners(
        model, [Policy(PRESET.tasks[0], seed) for seed in range(population)]
    )
    shape = (population, 200)
    task = torch.zeros(shape, dtype=torch.int64)
    batch = TensorDict(
        {"observation": torch.randn(*shape, model.observation_dim), "task": task}, shape
    )
    learners.update(batch)  # the first one builds the optimizers' state
    taken = added_bytes(lambda: learners.update(batch), torch.device("cpu"))
    assert taken < population * large.activations < 2 * taken
    assert memory.free_bytes("cpu") > 0
