"""Loggers keep what was measured, and continue without doubled steps."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import pwm_sdk
from pwm_sdk.runs.tables import read_csv


class Kept:
    """The smallest logger."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.calls.append((step, dict(metrics)))

    def close(self) -> None:
        self.closed = True


def table(folder: Path) -> list[dict[str, Any]]:
    return read_csv(folder / "metrics.csv")


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of one metric."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_table_has_a_line_per_step_and_a_column_per_metric(tmp_path: Path) -> None:
    with pwm_sdk.make_logger(tmp_path) as logger:
        logger.log({"loss": torch.tensor(0.5), "policies_0": {"return": torch.ones(2)}}, 1)
        logger.log({"loss": 0.25, "score": 3}, 2)
        logger.log({"late": 1.0}, 2)
        assert table(tmp_path)[0] == {"step": 1, "loss": 0.5, "policies_0/return": 1.0}
        logger.log({"loss": 0.125}, 5)
    assert table(tmp_path)[1:] == [
        {"step": 2, "loss": 0.25, "score": 3.0, "late": 1.0},
        {"step": 5, "loss": 0.125},
    ]


def test_a_resumed_run_replaces_what_the_interrupted_one_logged_later(tmp_path: Path) -> None:
    first = pwm_sdk.make_logger(tmp_path)
    for step in range(1, 8):
        first.log({"loss": float(step)}, step)
    first.close()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("8,")  # killed while it wrote
    with pwm_sdk.make_logger(tmp_path) as again:
        again.log({"loss": 50.0, "new": 1.0}, 5)
        again.log({"loss": 60.0}, 6)
    assert [(row["step"], row["loss"]) for row in table(tmp_path)] == [
        *((step, float(step)) for step in range(1, 5)),
        (5, 50.0),
        (6, 60.0),
    ]


def test_steps_do_not_fall(tmp_path: Path) -> None:
    logger = pwm_sdk.make_logger(tmp_path)
    logger.log({"loss": 1.0}, 5)
    with pytest.raises(ValueError, match="step must not fall, got 4 after 5"):
        logger.log({"loss": 1.0}, 4)
    with pytest.raises(ValueError, match="step must be"):
        logger.log({"loss": 1.0}, -1)


def test_a_table_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("name,loss\na,1.0\n")
    with pytest.raises(ValueError, match=r"metrics\.csv must have a step in each line"):
        pwm_sdk.make_logger(tmp_path).log({"loss": 1.0}, 1)
    assert (tmp_path / "metrics.csv").read_text() == "name,loss\na,1.0\n"


def test_several_loggers_get_the_same_numbers(tmp_path: Path) -> None:
    from torchrl.record.loggers import CSVLogger

    own, theirs = Kept(), CSVLogger("own", str(tmp_path))
    with pwm_sdk.make_logger(tmp_path, ["csv", own, theirs]) as logger:
        logger.log({"part": {"loss": torch.tensor([1.0, 3.0])}}, 4)
    assert own.calls == [(4, {"part/loss": 2.0})]
    assert own.closed
    assert table(tmp_path) == [{"step": 4, "part/loss": 2.0}]
    assert (tmp_path / "own" / "scalars" / "part" / "loss.csv").read_text() == "4,2.0\n"


def test_a_logger_is_a_hook_of_every_nth_step(tmp_path: Path) -> None:
    own = Kept()
    hook = pwm_sdk.make_logger(tmp_path, [own], every=3)
    for step in range(1, 8):
        hook(step, {"loss": torch.tensor(float(step))})
    assert own.calls == [(3, {"loss": 3.0}), (6, {"loss": 6.0})]


def test_kinds_are_known_and_named_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kinds must be of csv, tensorboard, wandb or loggers"):
        pwm_sdk.make_logger(tmp_path, ["excel"])
    with pytest.raises(ValueError, match="kinds must name each once, got csv"):
        pwm_sdk.make_logger(tmp_path, ["csv", "csv"])


def test_tensorboard_shows_each_step_once_after_resuming(tmp_path: Path) -> None:
    for begin, value in ((1, 1.0), (3, 2.0)):
        with pwm_sdk.make_logger(tmp_path, ["tensorboard"]) as logger:
            for step in range(begin, 6):
                logger.log({"part": {"loss": value}}, step)
    assert scalars(tmp_path, "part/loss") == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_wandb_offline_writes_into_the_folder_and_resumes_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    for step in (1, 2):
        with pwm_sdk.make_logger(tmp_path / "walk", ["wandb"], offline=True) as logger:
            logger.log({"loss": 1.0}, step)
    runs = list((tmp_path / "walk" / "wandb").glob("offline-run-*"))
    name = (tmp_path / "walk" / "wandb_id").read_text()
    assert runs and all(run.name.endswith(name) for run in runs)
    assert all(list(run.glob("*.wandb")) for run in runs)


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_package_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return found(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf'{package} must .*: pip install "pwm-sdk\[log\]"'):
        pwm_sdk.make_logger(tmp_path, [package])
