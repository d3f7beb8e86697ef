"""What networks need of a task: its embedding beside the input, a mask on its actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TaskContext(NamedTuple):
    """What the networks need of a task, looked up once.

    Attributes:
        embedding: `[.., task_dim]`, or None for a model without tasks.
        action_mask: `[.., A]`, or None where all actions are real.
        task: ids `[.., 1]` int64, for parts that depend on the task by other means, such as a
            planner with a discount for each; None without tasks.
    """

    embedding: Tensor | None
    action_mask: Tensor | None
    task: Tensor | None = None


def join(first: Tensor, embedding: Tensor | None, *rest: Tensor) -> Tensor:
    """Concatenate `[.., X]`, the embedding (None: left out) and `[.., Y]`, ...

    The embedding is repeated over leading axes that it lacks.
    """
    if embedding is None:
        return torch.cat((first, *rest), -1) if rest else first
    return torch.cat((first, embedding.expand(*first.shape[:-1], -1), *rest), -1)


def new_embedding(num_tasks: int, task_dim: int, std: float | None) -> nn.Parameter | None:
    """Draw task embeddings `[K, task_dim]`, or return None for a model without tasks.

    Args:
        num_tasks: K; 0: no tasks.
        task_dim: size of an embedding.
        std: standard deviation of a normal draw; None: uniform in (-0.02, 0.02), as published.

    Raises:
        ValueError: if the std is not positive.
    """
    if std is not None and not std > 0.0:
        raise ValueError(f"task_init must be positive or None, got {std}")
    if not num_tasks:
        return None
    table = torch.empty(num_tasks, task_dim)
    return nn.Parameter(table.uniform_(-0.02, 0.02) if std is None else table.normal_(std=std))


def look_up(table: Tensor, task: Tensor) -> Tensor:
    """Return the rows `[.., E]` of tasks `[..]`, brought back into the unit ball in the table too.

    As `F.embedding(task, table, max_norm=1.0)`, which would wait for a GPU.
    """
    if torch.compiler.is_exporting():  # the rows of a table that is left as it is
        return F.embedding(task, table.renorm(2, 0, 1.0))
    with torch.no_grad():
        ids = task.reshape(-1)
        table.index_put_((ids,), table[ids].renorm(2, 0, 1.0))
    return F.embedding(task, table)


def action_masks(
    action_dims: Sequence[int] | None, num_tasks: int, action_dim: int
) -> Tensor | None:
    """Ones for the real actions of each task `[K, A]` (`[A]` without tasks), or None for no mask.

    Raises:
        ValueError: if sizes do not fit.
    """
    if action_dims is None:
        return None
    if len(action_dims) != max(num_tasks, 1):
        raise ValueError(
            f"action_dims must have one entry per task ({max(num_tasks, 1)}), "
            f"got {len(action_dims)}"
        )
    if not all(1 <= size <= action_dim for size in action_dims):
        raise ValueError(f"action_dims must lie in 1..{action_dim}, got {list(action_dims)}")
    mask = torch.arange(action_dim) < torch.as_tensor(list(action_dims)).unsqueeze(-1)
    return mask.float() if num_tasks else mask.float()[0]
