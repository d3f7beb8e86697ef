"""Published figures against their own aggregates."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from pwm_sdk import MT30, MT80, TaskSet
from pwm_sdk.runs.report import aggregate
from reporting.published import FILE, METHODS, Published, load_published


@pytest.mark.parametrize(
    ("tasks", "method", "mean"),
    [(MT30, "PWM", 0.7682), (MT80, "PWM", 0.8179), (MT30, "TD-MPC2", 0.5983),
     (MT80, "TD-MPC2", 0.6779)],
)  # fmt: skip
def test_published_tasks_have_the_published_mean(tasks: TaskSet, method: str, mean: float) -> None:
    published = Published(f"MT{len(tasks)}")
    values = published.values(method, tasks.names, "score")
    assert values is not None and len(values) == len(tasks)
    assert np.mean(values) == pytest.approx(mean, abs=1e-4)
    assert published.aggregate(method, "_MEAN_") == pytest.approx(np.mean(values), abs=1e-5)


def test_published_pwm_has_the_published_iqm() -> None:
    for name, iqm in (("MT30", 0.8638), ("MT80", 0.9134)):
        published = Published(name)
        values = published.values("PWM", (MT30 if name == "MT30" else MT80).names, "score")
        assert aggregate(np.asarray([values]))["IQM"].value == pytest.approx(iqm, abs=1e-4)


def test_dreamer_is_single_task_and_the_same_beside_both() -> None:
    method = "DreamerV3(max over training)"
    for name in ("MT30", "MT80"):
        published = Published(name)
        assert published.is_single_task(method)
        assert published.basis(method) == "18 tasks (one agent per task)"
        assert published.value(method, "cheetah-run", "return") == pytest.approx(641.01)
        assert published.value(method, "cheetah-run", "score") == pytest.approx(0.64101)
        assert published.value(method, "mw-reach", "return") is None
        assert published.value(method, "fish-swim", "score") is None
        assert published.values(method, ["cheetah-run", "fish-swim"], "score") is None
    assert Published("MT30").methods(["mw-reach"]) == []
    assert Published("MT80").methods(["mw-reach"]) == ["PWM", "TD-MPC2"]


def test_every_published_figure_names_its_source() -> None:
    figures = load_published()
    assert {figure.method for figure in figures} == set(METHODS)
    assert all(label.startswith("published ") for label, _ in METHODS.values())
    assert Published("MT80").sources(["mw-reach"]) == [
        "PWM/results/data/mt80_results.csv",
        "PWM/results/data/tdmpc2_mt80_scores.csv",
    ]


HEAD = "benchmark,task,method,metric,mean,std,n_seeds,source\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task,mean\n", "columns of .* must be"),
        (HEAD + "MT50,mw-reach,PWM,reward,1,,1,x\n", "benchmark must be one of .* got 'MT50'"),
        (HEAD + "MT80,mw-reach,SAC,reward,1,,1,x\n", "method must be one of .* got 'SAC'"),
        (HEAD + "MT80,mw-reach,PWM,loss,1,,1,x\n", "metric must be one of .* got 'loss'"),
        (HEAD + "MT80,mw-raech,PWM,reward,1,,1,x\n", "task must be one of MT80, got 'mw-raech'"),
        (HEAD + "MT80,mw-reach,PWM,reward,1,,1,\n", "source must name .* got none in .* line 2"),
        (HEAD + "MT80,mw-reach,PWM,reward,nan,,1,x\n", r"mean must be in 0\.\.2000, got 'nan'"),
        (HEAD + "MT80,mw-reach,PWM,reward,much,,1,x\n", r"mean must be in 0\.\.2000, got 'much'"),
        (HEAD + "MT80,mw-reach,PWM,success,1.5,,1,x\n", r"mean must be in 0\.\.1, got '1.5'"),
        (HEAD + 2 * "MT80,mw-reach,PWM,reward,1,,1,x\n", "figures must be there once"),
    ],
)
def test_damaged_figures_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / FILE.name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_published(path)


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(ValueError, match=r"benchmark must be one of .* got 'MT50'"):
        Published("MT50")
