"""Policies as programs for other runtimes: torch.export and ONNX, with any number of rows."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.contract.models import Encoder, features, looked_up, num_tasks, observation_size
from pwm_sdk.contract.places import dtype_of
from pwm_sdk.contract.policies import Policy, TaskPart, depends_on_task, given, latent_size
from pwm_sdk.keys import ACTION, OBSERVATION, TASK
from pwm_sdk.policies.bounds import Bounds
from pwm_sdk.policies.networks import MeanActor, Normalized


class Program(nn.Module):
    """Observations `[N, O]`, and task ids `[N]` for a model of tasks, to actions `[N, A]`.

    Args:
        actor: one policy.
        model: encodes observations; None: the actor sees them.
        bounds: what actions are scaled to.
        task: the one task id; None: it comes with each call where the model has tasks.
    """

    def __init__(
        self, actor: Policy | TaskPart, model: Encoder | None, bounds: Bounds, task: int | None
    ) -> None:
        super().__init__()
        self.actor, self.model, self.bounds, self.task = actor, model, bounds, task
        self.asks = num_tasks(model) > 0 and task is None

    def forward(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return actions in the environment's own units."""
        seen, context = observation, None
        if self.model is not None:
            if num_tasks(self.model) and self.task is not None:
                task = torch.full_like(observation[:, 0], self.task, dtype=torch.int64)
            if depends_on_task(self.actor):
                context = looked_up(self.model, task)
            seen = features(self.model, self.model.encode(observation, task))
        action = given(self.actor, context)(seen)
        return self.bounds.scaled(action, cut=num_tasks(self.model) > 0)


def export_program(
    path: str | os.PathLike[str], program: Program, observation_dim: int | None
) -> None:
    """Write a program by the suffix of its path.

    Args:
        path: ends in `.pt2` (for `torch.export.load`) or `.onnx`.
        program: what is exported, by a copy on the CPU.
        observation_dim: O; None: as the networks say.

    Raises:
        ValueError: if the suffix is another, or networks do not say how wide observations are.
        ImportError: if the packages of the extra `export` are missing for ONNX.
    """
    if not isinstance(program.actor, nn.Module):
        kind = type(program.actor).__name__
        raise ValueError(f"actor must be a module to be exported, got {kind}")
    kind = Path(path).suffix
    if kind not in WRITERS:
        raise ValueError(f"path must end in one of {sorted(WRITERS)}, got {os.fspath(path)!r}")
    size = _width(program) if observation_dim is None else observation_dim
    program = copy.deepcopy(program).cpu().eval().requires_grad_(False)
    rows = torch.zeros(2, size, dtype=dtype_of(program), device="cpu")
    names, inputs = [OBSERVATION], [rows]
    if program.asks:
        names.append(TASK)
        inputs.append(torch.zeros(2, dtype=torch.int64, device="cpu"))
    shapes = {name: {0: torch.export.Dim.DYNAMIC} for name in names}
    with torch.no_grad():
        exported = torch.export.export(program, tuple(inputs), dynamic_shapes=shapes)
    write_atomic(path, lambda part: WRITERS[kind](exported, names, part))


def _pt2(exported: ExportedProgram, names: list[str], path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(exported, file)


def _onnx(exported: ExportedProgram, names: list[str], path: Path) -> None:
    try:
        import onnxscript  # noqa: F401 # pyright: ignore[reportMissingImports] - torch asks for it late, in other words
    except ImportError as error:
        raise ImportError("ONNX needs more packages: pip install 'pwm-sdk[export]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        made: Any = torch.onnx.export(
            exported, input_names=names, output_names=[ACTION], dynamo=True, verbose=False
        )
    made.save(path)


WRITERS: dict[str, Callable[[ExportedProgram, list[str], Path], None]] = {
    ".pt2": _pt2,
    ".onnx": _onnx,
}


def _width(program: Program) -> int:
    """Return how wide observations are, as the networks say."""
    model, actor = program.model, program.actor
    own: Any = actor
    if isinstance(model, Normalized):
        moments: Any = model.moments
        return moments.mean.shape[-1]
    if size := observation_size(model):
        return size
    layers = [m for m in own.modules() if isinstance(m, nn.Linear)] if model is None else []
    net = actor.net if isinstance(actor, MeanActor) else actor
    size = latent_size(net) or (layers[0].in_features if layers else 0)
    if model is not None or not size:
        raise ValueError("observation_dim must be given for networks that do not say it, got None")
    return size
