"""Metrics of a run in files and services: one call, `log(metrics, step)`, whatever keeps them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from pwm_sdk.calls import checked, least, some
from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.checks import file_path, whole
from pwm_sdk.metrics import flat_metrics
from pwm_sdk.runs.tables import csv_line, read_csv, write_csv

__all__ = ["Logger", "RunLogger", "make_logger"]

KINDS = ("csv", "tensorboard", "wandb")
TABLE = "metrics.csv"
STEP = "step"


@runtime_checkable
class Logger(Protocol):
    """Keeps metrics. Anything with these two methods can be one."""

    def log(self, metrics: Mapping[str, float | Tensor], step: int) -> None:
        """Keep what was measured at a step; steps do not fall."""
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


class RunLogger:
    """Hands metrics to several loggers, as plain numbers by joined names.

    It is also a hook of loops, called with `(step, metrics)`, and a context manager, which closes
    all of them at its end.

    Args:
        loggers: all that keep the metrics.
        every: as a hook, it logs the steps that this divides and leaves out the others. Reading a
            metric waits for the GPU that computes it.
    """

    def __init__(self, loggers: Sequence[Logger], every: int = 1) -> None:
        self.loggers, self.every = list(loggers), every

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Keep what was measured at a step.

        Args:
            metrics: numbers, tensors `[]` or `[P]`, or mappings of these; `[P]` is averaged over
                the policies that go on, and names of mappings are joined by `/`.
            step: of whatever the loop counts; not below the one before.
        """
        whole(0, step=step)
        flat = flat_metrics(metrics)
        for logger in self.loggers:
            logger.log(flat, int(step))

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log as a hook: every `every`-th step."""
        if step % self.every == 0:
            self.log(metrics, step)

    def close(self) -> None:
        """Close all loggers."""
        for logger in self.loggers:
            logger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


@checked(kinds=some, every=least(1))
def make_logger(
    folder: str | os.PathLike[str],
    kinds: Sequence[Any] = ("csv",),
    *,
    every: int = 1,
    project: str | None = None,
    offline: bool = False,
) -> RunLogger:
    """Return what keeps the metrics of a run in its folder, and continues what lies there.

    A run that is resumed from a step logs this step again: what the interrupted one had logged from
    there on is replaced (on W&B, which cannot take it back, drawn over).

    Args:
        folder: of the run; made where it is missing.
        kinds: each of

            - `"csv"`: one table, `metrics.csv`, a line per step and a column per metric;
            - `"tensorboard"`: event files in `tensorboard/`, by TorchRL's logger;
            - `"wandb"`: Weights & Biases, by TorchRL's logger, as it is set up on this machine. The
              run is called as the folder;
            - a logger of TorchRL, such as its `MLFlowLogger`, or any `Logger`, such as a
              `ProgressBar`.
        every: as a hook, `fit(..., hooks=[logger])`, it logs the steps that this divides.
        project: of W&B; its own default if None.
        offline: let W&B write below `folder/wandb/`, for `wandb sync`, and send nothing.

    Raises:
        ImportError: if a kind needs a package that is not installed; it says how to install it.
        ValueError: if a kind is none of these, or `metrics.csv` is no table.
    """
    place = file_path(folder=folder).absolute()
    place.mkdir(parents=True, exist_ok=True)
    if twice := sorted({kind for kind in KINDS if list(kinds).count(kind) > 1}):
        raise ValueError(f"kinds must name each once, got {twice[0]} more than once")
    made: list[Logger] = []
    for kind in kinds:
        if kind == "csv":
            made.append(_Table(place / TABLE))
        elif kind == "tensorboard":
            made.append(_TensorBoard(place))
        elif kind == "wandb":
            made.append(_TorchRL(_wandb(place, project, offline)))
        elif isinstance(kind, Logger):
            made.append(kind)
        elif _is_torchrl(kind):
            made.append(_TorchRL(kind))
        else:
            raise ValueError(f"kinds must be of {', '.join(KINDS)} or loggers, got {kind!r}")
    return RunLogger(made, every)


class _Table:
    """One CSV file, written line by line; a new metric becomes a new column."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.row: dict[str, Any] = {}  # of the last step
        self.begin = 0  # where its line begins in the file

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write a step's line; several calls for one step share it."""
        if not self.columns:
            self._continue(step)
        last = self.row.get(STEP, -1)
        if step < last:
            raise ValueError(f"step must not fall, got {step} after {last}")
        if step > last:
            self.row, self.begin = {STEP: step}, self.path.stat().st_size
        self.row.update(metrics)
        if any(name not in self.columns for name in self.row):
            self._widen()
        with self.path.open("r+b") as file:
            file.truncate(self.begin)
            file.seek(self.begin)
            file.write(csv_line(map(self.row.get, self.columns)).encode())

    def close(self) -> None:
        """Close nothing: every line is written."""

    def _continue(self, step: int) -> None:
        """Keep the lines before a step, and forget the others."""
        rows = read_csv(self.path) if self.path.exists() else []
        if wrong := [row for row in rows if not isinstance(row.get(STEP), int)]:
            raise ValueError(f"{self.path} must have a step in each line, got {wrong[0]}")
        rows = [row for row in rows if row[STEP] < step]
        self.columns = list(dict.fromkeys([STEP, *(name for row in rows for name in row)]))
        write_csv(self.path, rows, self.columns)

    def _widen(self) -> None:
        """Write the table again with more columns, without the last step."""
        rows = [row for row in read_csv(self.path) if row[STEP] < self.row[STEP]]
        self.columns = list(dict.fromkeys([*self.columns, *self.row]))
        write_csv(self.path, rows, self.columns)
        self.begin = self.path.stat().st_size


class _TorchRL:
    """A logger of TorchRL."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Hand the numbers on."""
        self.logger.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        """Close the logger."""
        self.logger.close()


class _TensorBoard(_TorchRL):
    """TensorBoard's event files, which say from which step on a resumed run replaces them."""

    def __init__(self, folder: Path) -> None:
        try:
            import tensorboard  # noqa: F401 - torch imports it
        except ImportError as error:
            raise ImportError(_missing("tensorboard")) from error
        from torchrl.record.loggers import TensorboardLogger

        self.resumes = any((folder / "tensorboard").glob("events.*"))
        super().__init__(TensorboardLogger("tensorboard", log_dir=str(folder)))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Hand the numbers on."""
        if self.resumes:  # an event that says so begins the next file
            self.logger.experiment.close()
            self.logger.experiment.purge_step = step
            self.resumes = False
        super().log(metrics, step)


def _wandb(folder: Path, project: str | None, offline: bool) -> Any:
    """Begin a run of W&B, or continue the folder's."""
    try:
        import wandb  # noqa: F401 - TorchRL imports it
    except ImportError as error:
        raise ImportError(_missing("wandb")) from error
    from torchrl.record.loggers import WandbLogger

    more: dict[str, Any] = {"mode": "offline"} if offline else {}
    kept = folder / "wandb_id"
    if not kept.exists():
        write_atomic(kept, lambda part: part.write_text(secrets.token_hex(4), encoding="ascii"))
    return WandbLogger(
        folder.name,
        save_dir=folder,
        id=kept.read_text(encoding="ascii").strip(),
        project=project,
        log_env_packages=False,  # the machine's paths
        **more,
    )


def _missing(package: str) -> str:
    return f'{package} must be installed: pip install "pwm-sdk[log]"'


def _is_torchrl(logger: object) -> bool:
    from torchrl.record.loggers import Logger as TorchRLsLogger

    return isinstance(logger, TorchRLsLogger)
